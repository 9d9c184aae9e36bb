// The socket tester of the front page: two clients side by side. Nothing that comes from outside becomes HTML.

const MAX_LINES = 500;
const MAX_SHOWN_BYTES = 256;
const MAX_SHOWN_CHARACTERS = 10_000;
const MAX_MEMBERS = 100;
const MAX_ANSWER = 300;
const TOKEN_SECONDS = 3600;
const PUBLISH_SECONDS = 15;
const MEMBER_EVENTS = ['system:member_list', 'system:member_joined', 'system:member_left'];

const CLOSE_CODES = [
  [1000, 'Closed normally.', ''],
  [1002, 'The client broke the WebSocket protocol.', 'Mend the client.'],
  [1006, 'The connection broke, or never came about.', 'Look at the network and whether the server runs.'],
  [1007, 'A text message was not UTF-8.', 'Send bytes as a binary message.'],
  [1009, 'A message was larger than the server accepts.', 'Send less at a time.'],
  [1012, 'The server restarts.', 'Reconnect, after a short random time.'],
  [1013, 'The server is full, or lacks what it needs for now.', 'Reconnect, a little later each time.'],
  [4000, 'The channel ID or an option is not valid.', 'Correct the URL.'],
  [4001, 'The API key is missing, unknown, revoked, or of another cluster.', 'Use a valid key.'],
  [4003, 'The account is suspended, the cluster is off, or this web site is not allowed.', 'Ask the owner of the key.'],
  [4004, 'The connection quota is used up.', 'Close other connections, or raise the quota.'],
  [4009, 'The JWT is missing, not valid, or of another channel.', 'Fetch a token from your own server.'],
  [4100, 'The client read too slowly.', 'Reconnect, and read faster.'],
  [4301, 'The client sent far more than its quota allows.', 'Send less often.'],
];

/** The channel ID, which is the last part of the path; a namespace may stand before it. */
function channelId(channel) {
  return channel.split('/').filter(Boolean).at(-1) ?? '';
}

function hasPresence({channel, presence}) {
  return Boolean(presence) || channelId(channel).startsWith('presence-');
}

/** Where a client connects: the cluster's own host where this page's host has one, else the page's host. */
function socketUrl(options) {
  const {cluster, channel, apiKey, jwt, notifySelf, presence, user, uuid} = options;
  const domains = document.body.dataset.clusterDomains.split(' ');
  const host = location.hostname;
  const domain = domains.find((name) => host === name || host.endsWith(`.${name}`));
  const port = location.port ? `:${location.port}` : '';
  const authority = domain && cluster ? `${cluster}.${domain}${port}` : location.host;
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  const path = channel.split('/').map(encodeURIComponent).join('/');
  let query = `api_key=${encodeURIComponent(apiKey)}`;
  if (notifySelf) query += '&notify_self';
  if (presence) query += '&presence';
  if (user) query += `&user=${encodeURIComponent(user)}`;
  if (uuid && hasPresence(options)) query += `&uuid=${uuid}`;
  if (jwt) query += `&jwt=${encodeURIComponent(jwt)}`;
  return {url: `${scheme}://${authority}/v3/${path}?${query}`, named: Boolean(domain)};
}

/** A random UUID, also on pages without TLS, which have no crypto.randomUUID. */
function randomUuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** A JWT, signed with HS256. */
async function signedToken(claims, secret) {
  const encoder = new TextEncoder();
  const encoded = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
  const unsigned = [{alg: 'HS256', typ: 'JWT'}, claims].map((part) => encoded(encoder.encode(JSON.stringify(part)))).join('.');
  const key = await crypto.subtle.importKey('raw', encoder.encode(secret), {name: 'HMAC', hash: 'SHA-256'}, false, ['sign']);
  const signature = await crypto.subtle.sign('HMAC', key, encoder.encode(unsigned));
  return `${unsigned}.${encoded(new Uint8Array(signature))}`;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

async function copy(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Select it';  // pages without TLS have no clipboard
  }
  setTimeout(() => { button.textContent = label; }, 1200);
}

function hexadecimal(bytes) {
  const shown = [...bytes.subarray(0, MAX_SHOWN_BYTES)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return bytes.length > MAX_SHOWN_BYTES ? `${shown} …` : shown;
}

/** The sentence of a refusal, if a message is one. */
function refusal(text) {
  try {
    const {error} = JSON.parse(text);
    return typeof error === 'string' && error ? error : null;
  } catch {
    return null;
  }
}

/** What happened on one connection, in order, bounded. */
class Log {
  constructor(list) {
    this.list = list;
  }

  add(kind, sign, text, what = '') {
    const {list} = this;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
    const now = new Date();
    const line = document.createElement('li');
    const time = element('time', '', `${now.toTimeString().slice(0, 8)}.${String(now.getMilliseconds()).padStart(3, '0')}`);
    const content = element('span', `content ${kind}`, text);
    if (what) content.append(element('span', 'what', `${text ? ' ' : ''}(${what})`));
    line.append(time, element('span', kind, sign), content);
    list.append(line);
    while (list.childElementCount > MAX_LINES) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  message(kind, sign, data) {
    if (typeof data !== 'string') {
      const bytes = new Uint8Array(data);
      this.add(kind, sign, hexadecimal(bytes), `binary, ${bytes.length} bytes`);
    } else {
      const cut = data.length > MAX_SHOWN_CHARACTERS;
      const what = cut ? `cut, ${data.length} characters` : data === '' ? 'empty message' : '';
      const shown = cut ? `${data.slice(0, MAX_SHOWN_CHARACTERS)} …` : data;
      this.add(refusal(data) && kind === 'received' ? 'error' : kind, sign, shown, what);
    }
  }

  clear() {
    this.list.replaceChildren();
  }
}

/** The members that a presence frame lists, if a message is one. */
function listedMembers(text) {
  if (!text.includes('"system:member_')) return null;  // most messages are none, and need not be parsed
  try {
    const {event, data} = JSON.parse(text);
    return MEMBER_EVENTS.includes(event) && Array.isArray(data.members) ? data.members : null;
  } catch {
    return null;
  }
}

/** Who is here, as the last presence frame told it. Bounded: a channel may have thousands of members. */
class Roster {
  constructor(root, ownUuid) {
    this.root = root;
    this.ownUuid = ownUuid;
    this.count = root.querySelector('.count');
    this.list = root.querySelector('.members');
    this.members = null;
    this.waits = false;
  }

  /** Show members; null when they are not known. Drawn once a frame: a crowd brings events by the hundred. */
  show(members) {
    this.members = members;
    if (this.waits) return;
    this.waits = true;
    requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.waits = false;
    const members = this.members ?? [];
    const isOwn = (member) => member?.uuid === this.ownUuid;
    // One's own first, so that it is never among those that are left out.
    const shown = [...members.filter(isOwn), ...members.filter((member) => !isOwn(member))].slice(0, MAX_MEMBERS);
    this.count.textContent = this.members ? String(members.length) : '';
    this.list.replaceChildren(...shown.map((member) => this.item(member, isOwn(member))));
    const more = members.length - shown.length;
    if (more) this.list.append(element('li', 'more', `and ${more} more`));
  }

  item(member, own) {
    const uuid = String(member?.uuid ?? '');
    const item = element('li', '', '');
    // A name from outside keeps its writing direction to itself.
    const user = element('bdi', 'who', typeof member?.user === 'string' ? member.user : JSON.stringify(member?.user) ?? '');
    user.title = user.textContent;
    const id = element('code', 'uuid', uuid.length > 8 ? `${uuid.slice(0, 8)}…` : uuid);
    id.title = uuid;
    item.append(user, id);
    if (own) item.append(element('span', 'you', 'you'));
    return item;
  }
}

/** One client, with its controls. */
class Pane {
  constructor(root, name, settings) {
    this.settings = settings;
    this.socket = null;
    this.state = root.querySelector('.state');
    this.toggle = root.querySelector('.toggle');
    this.address = root.querySelector('.address');
    this.notifySelf = root.querySelector('[name=notify_self]');
    this.presence = root.querySelector('[name=presence]');
    this.user = root.querySelector('[name=user]');
    this.uuid = randomUuid();  // kept over reconnects: it is the same member that comes back
    this.roster = new Roster(root.querySelector('.here'), this.uuid);
    this.composer = root.querySelector('.compose');
    this.log = new Log(root.querySelector('.log'));
    this.senders = root.querySelectorAll('[data-sends], .compose button');
    root.querySelector('h3').textContent = name;
    root.setAttribute('aria-label', name);

    this.toggle.addEventListener('click', () => (this.socket ? this.socket.close(1000) : this.connect()));
    for (const option of [this.notifySelf, this.presence, this.user]) option.addEventListener('input', () => this.showOptions());
    root.querySelector('.copy').addEventListener('click', (event) => copy(this.address.textContent, event.target));
    root.querySelector('.clear').addEventListener('click', () => this.log.clear());
    for (const button of root.querySelectorAll('[data-sends]')) {
      button.addEventListener('click', () => this.send(button.dataset.sends));
    }
    this.composer.addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    this.composer.message.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
    this.show('closed', 'Not connected');
    this.showOptions();
  }

  options() {
    return {
      ...this.settings(),
      notifySelf: this.notifySelf.checked,
      presence: this.presence.checked,
      user: this.user.value.trim(),
      uuid: this.uuid,
    };
  }

  /** Show what would be connected to. While connected, that is settled. */
  showOptions() {
    if (this.socket) return;
    const options = this.options();
    this.address.textContent = socketUrl(options).url;
    this.roster.root.hidden = !hasPresence(options);
  }

  show(state, text) {
    const connected = state === 'open';
    this.state.dataset.state = state;
    this.state.textContent = text;
    this.toggle.textContent = this.socket ? 'Disconnect' : 'Connect';
    for (const option of [this.notifySelf, this.presence, this.user]) option.disabled = Boolean(this.socket);
    for (const button of this.senders) button.disabled = !connected;
  }

  connect() {
    if (this.socket) return;
    let refused = false;
    const socket = new WebSocket(socketUrl(this.options()).url);
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    this.show('connecting', 'Connecting…');
    socket.addEventListener('open', () => {
      this.show('open', 'Connected');
      this.log.add('note', '·', 'connected');
    });
    socket.addEventListener('message', ({data}) => {
      refused ||= typeof data === 'string' && refusal(data) !== null;
      const members = typeof data === 'string' ? listedMembers(data) : null;
      if (members) this.roster.show(members);
      this.log.message('received', '↓', data);
    });
    socket.addEventListener('close', ({code}) => {
      const known = CLOSE_CODES.find(([number]) => number === code);
      this.socket = null;
      this.show(refused ? 'refused' : 'closed', refused ? `Refused (${code})` : `Closed (${code})`);
      this.roster.show(null);
      this.showOptions();
      this.log.add(refused ? 'error' : 'note', '·', known ? `closed with ${code}: ${known[1]} ${known[2]}`.trim() : `closed with ${code}`);
    });
  }

  submit() {
    const {message, binary} = this.composer;
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    this.send(binary.checked ? new TextEncoder().encode(message.value) : message.value);
    message.value = '';
    message.focus();
  }

  send(data) {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    this.socket.send(data);
    this.log.message('sent', '↑', data);
  }
}

/** What the owner of a key's secret can do. The secret itself goes into no URL, no example and no storage. */
class Backstage {
  constructor(form, settings) {
    this.form = form;
    this.settings = settings;
    this.signed = document.getElementById('signed');
    this.published = document.getElementById('published');
    this.publisher = document.getElementById('publish');
    const signer = document.getElementById('sign');
    if (!globalThis.crypto?.subtle) {
      const hint = document.getElementById('sign-hint');
      signer.disabled = true;
      signer.title = hint.textContent.replace(/\s+/g, ' ');
      hint.hidden = false;
    }
    form.addEventListener('input', () => {
      for (const output of [this.signed, this.published]) this.say(output, '');  // of what was there before
    });
    signer.addEventListener('click', () => this.sign());
    this.publisher.addEventListener('click', () => this.publish());
  }

  say(output, text, kind = '') {
    output.textContent = text;
    output.className = kind;
  }

  /** The secret, or null after asking for it. */
  secretFor(output) {
    const secret = this.form.secret.value.trim();
    if (secret) return secret;
    this.say(output, 'Please fill in the secret of the API key first.');
    this.form.secret.focus();
    return null;
  }

  async sign() {
    const secret = this.secretFor(this.signed);
    if (secret === null) return;
    const sub = channelId(this.settings().channel);
    const iat = Math.floor(Date.now() / 1000);
    this.form.jwt.value = await signedToken({sub, iat, exp: iat + TOKEN_SECONDS}, secret);
    this.form.jwt.dispatchEvent(new Event('input', {bubbles: true}));
    this.say(this.signed, `For the channel ${sub}, for an hour.`);
  }

  async publish() {
    const secret = this.secretFor(this.published);
    if (secret === null) return;
    this.publisher.disabled = true;
    this.say(this.published, 'Publishing…');
    try {
      const answer = await fetch('/api/publish', {
        method: 'POST',
        credentials: 'omit',  // the secret is what authorises, not who is logged in here
        headers: {'Content-Type': 'application/json'},
        body: JSON.stringify(publication(this.settings(), secret)),
        signal: AbortSignal.timeout(PUBLISH_SECONDS * 1000),
      });
      const text = `${answer.status} ${(await answer.text()).slice(0, MAX_ANSWER)}`;
      this.say(this.published, text, answer.ok ? 'good' : 'bad');
    } catch {
      this.say(this.published, 'No answer. Look at the network and whether the server runs.', 'bad');
    } finally {
      this.publisher.disabled = false;
    }
  }
}

/** What to POST to /api/publish. Text that is a JSON object or array is sent as one, any other as it is. */
function publication({apiKey, channel, message}, secret) {
  let content = message;
  try {
    const parsed = JSON.parse(message);
    if (typeof parsed === 'object' && parsed !== null) content = parsed;
  } catch {
    // text, then
  }
  return {key: apiKey, secret, channelId: channel.replace(/\/+$/, ''), message: content};
}

function quotedForShell(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Browsers know that *.localhost is this machine; not every system does. */
function urlForPrograms(url) {
  return url.replace(/\/\/[^/]+\.localhost(?=[:/])/, '//localhost');
}

function showCode(settings) {
  const {url} = socketUrl({...settings(), notifySelf: true});
  document.getElementById('code-js').textContent = `const socket = new WebSocket(
  ${JSON.stringify(url)}
);
socket.onmessage = (message) => console.log(message.data);
socket.onopen = () => socket.send("Hello!");`;
  document.getElementById('code-python').textContent = `from websockets.sync.client import connect

with connect(
    ${JSON.stringify(urlForPrograms(url))}
) as socket:
    socket.send("Hello!")
    print(socket.recv())`;
  const body = JSON.stringify(publication(settings(), 'SECRET'), null, 2);
  document.getElementById('code-curl').textContent = `curl ${urlForPrograms(`${location.origin}/api/publish`)} \\
  -H 'Content-Type: application/json' -d ${quotedForShell(body)}`;
}

function start() {
  const form = document.getElementById('settings');
  const given = new URLSearchParams(location.search);
  for (const name of ['cluster', 'channel', 'api_key']) {
    if (given.has(name)) form[name].value = given.get(name);
  }
  const settings = () => ({
    cluster: form.cluster.value.trim(),
    channel: form.channel.value.trim(),
    apiKey: form.api_key.value.trim(),
    jwt: form.jwt.value.replace(/\s+/g, ''),  // terminals break long lines
    message: form.message.value,
  });

  const template = document.getElementById('pane');
  const panes = ['Client A', 'Client B'].map((name) => {
    const root = template.content.cloneNode(true).firstElementChild;
    document.getElementById('panes').append(root);
    return new Pane(root, name, settings);
  });

  new Backstage(form, settings);

  const show = () => {
    for (const pane of panes) pane.showOptions();
    showCode(settings);
    document.getElementById('host-hint').hidden = socketUrl(settings()).named;
  };
  form.addEventListener('input', show);
  form.addEventListener('submit', (event) => event.preventDefault());
  document.getElementById('connect-both').addEventListener('click', () => panes.forEach((pane) => pane.connect()));
  for (const button of document.querySelectorAll('[data-copies]')) {
    button.addEventListener('click', () => copy(document.getElementById(button.dataset.copies).textContent, button));
  }
  for (const [code, when, advice] of CLOSE_CODES) {
    const row = document.createElement('tr');
    const head = element('th', '', String(code));
    head.scope = 'row';
    row.append(head, element('td', '', when), element('td', '', advice));
    document.getElementById('close-codes').append(row);
  }
  show();
}

start();

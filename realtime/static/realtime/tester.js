// The WebSocket tester of the front page: two clients side by side. It never inserts external text as HTML.

import * as pusher from './tester_pusher.js';
import * as v4 from './tester_v4.js';

const MAX_LINES = 500;
const MAX_SHOWN_BYTES = 256;
const MAX_SHOWN_CHARACTERS = 10_000;
const MAX_MEMBERS = 100;
const MAX_RESPONSE_CHARACTERS = 300;
const TOKEN_SECONDS = 3600;
const PUBLISH_TIMEOUT_SECONDS = 15;
const MEMBER_EVENTS = ['system:member_list', 'system:member_joined', 'system:member_left'];

const CLOSE_CODES = [
  [1000, 'Closed normally.', ''],
  [1002, 'The client violated the WebSocket protocol.', 'Fix the client.'],
  [1006, 'The connection was lost, or could not be opened.', 'Check the network, and that the server is running.'],
  [1007, 'A text message was not valid UTF-8.', 'Send bytes as a binary message.'],
  [1009, 'A message was too large.', 'Send smaller messages.'],
  [1012, 'The server is restarting.', 'Reconnect after a short random delay.'],
  [1013, 'The server is overloaded, or cannot reach its database.', 'Reconnect, with a longer delay each time.'],
  [4000, 'The channel ID or an option is not valid.', 'Fix the URL.'],
  [4001, 'The API key is missing, unknown or revoked, or belongs to another cluster.', 'Use a valid API key.'],
  [4003, 'The account is suspended, the cluster is off, or this website is not allowed.', 'Ask the owner of the API key.'],
  [4004, 'The connection quota is used up.', 'Close other connections or raise the quota.'],
  [4009, 'The JWT is missing or invalid, or belongs to another channel.', 'Get a new token from your server.'],
  [4100, 'The client read too slowly.', 'Reconnect and read faster.'],
  [4301, 'The client kept sending far more messages than its quota allows.', 'Send less often.'],
];

/** Returns the channel ID: the last part of a path, after an optional namespace. */
function channelId(channel) {
  return channel.split('/').filter(Boolean).at(-1) ?? '';
}

function hasPresence({channel, presence, protocol}) {
  if (protocol === 'pusher') return pusher.hasMembers({channel});
  return Boolean(presence) || channelId(channel).startsWith('presence-');
}

/** Returns the URL of a channel, on the cluster's own host if this page is on a cluster domain. */
function socketUrl(options) {
  if (options.protocol === 'pusher') return {url: pusher.appUrl(options), hasClusterHost: false};
  const {cluster, channel, apiKey, jwt, notifySelf, presence, protocol, user, uuid} = options;
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
  return {url: `${scheme}://${authority}/${protocol}/${path}?${query}`, hasClusterHost: Boolean(domain)};
}

/** Returns a random UUID. Pages without TLS have no crypto.randomUUID. */
function randomUuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** Returns a JWT, signed with HS256. */
async function signedToken(claims, secret) {
  const encoder = new TextEncoder();
  const encoded = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
  const unsigned = [{alg: 'HS256', typ: 'JWT'}, claims].map((part) => encoded(encoder.encode(JSON.stringify(part)))).join('.');
  const key = await crypto.subtle.importKey('raw', encoder.encode(secret), {name: 'HMAC', hash: 'SHA-256'}, false, ['sign']);
  const signature = await crypto.subtle.sign('HMAC', key, encoder.encode(unsigned));
  return `${unsigned}.${encoded(new Uint8Array(signature))}`;
}

function element(tag, className, text) {
  const created = document.createElement(tag);
  created.className = className;
  created.textContent = text;
  return created;
}

async function copy(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Copy failed';  // pages without TLS have no clipboard
  }
  setTimeout(() => { button.textContent = label; }, 1200);
}

function hexadecimal(bytes) {
  const shown = [...bytes.subarray(0, MAX_SHOWN_BYTES)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return bytes.length > MAX_SHOWN_BYTES ? `${shown} …` : shown;
}

/** Returns the sentence of an error message, or null if the message is not an error. */
function errorSentence(text) {
  try {
    const {error} = JSON.parse(text);
    return typeof error === 'string' && error ? error : null;
  } catch {
    return null;
  }
}

/** The log of one client, limited to the last lines. */
class Log {
  constructor(list) {
    this.list = list;
  }

  add(kind, symbol, text, detail = '') {
    const {list} = this;
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
    const now = new Date();
    const line = document.createElement('li');
    const time = element('time', '', `${now.toTimeString().slice(0, 8)}.${String(now.getMilliseconds()).padStart(3, '0')}`);
    const content = element('span', `content ${kind}`, text);
    if (detail) content.append(element('span', 'detail', `${text ? ' ' : ''}(${detail})`));
    line.append(time, element('span', kind, symbol), content);
    list.append(line);
    while (list.childElementCount > MAX_LINES) list.firstElementChild.remove();
    if (atEnd) list.scrollTop = list.scrollHeight;
  }

  message(kind, symbol, data) {
    if (typeof data !== 'string') {
      const bytes = new Uint8Array(data);
      this.add(kind, symbol, hexadecimal(bytes), `binary, ${bytes.length} bytes`);
    } else {
      const cut = data.length > MAX_SHOWN_CHARACTERS;
      const detail = cut ? `truncated, ${data.length} characters` : data === '' ? 'empty message' : '';
      const shown = cut ? `${data.slice(0, MAX_SHOWN_CHARACTERS)} …` : data;
      this.add(errorSentence(data) && kind === 'received' ? 'error' : kind, symbol, shown, detail);
    }
  }

  clear() {
    this.list.replaceChildren();
  }
}

/** What one connection of PieSocket v3 says. */
class Talk {
  /** Handles a message. Returns the members if it lists them, and whether it is an error. */
  receive(message) {
    if (typeof message !== 'string') return {};
    if (!message.includes('"system:member_')) return {isError: errorSentence(message) !== null};  // avoids parsing twice
    try {
      const {event, data} = JSON.parse(message);
      return MEMBER_EVENTS.includes(event) && Array.isArray(data.members) ? {members: data.members} : {};
    } catch {
      return {};
    }
  }
}

function talkFor(options, send) {
  switch (options.protocol) {
    case 'pusher': return new pusher.Talk(options, send);
    case 'v4': return new v4.Talk(options);
    default: return new Talk();
  }
}

/** The members in the last presence event. Shows a limited number, since a channel may have thousands of members. */
class Roster {
  constructor(root, ownUuid) {
    this.root = root;
    this.ownUuid = ownUuid;
    this.count = root.querySelector('.count');
    this.list = root.querySelector('.members');
    this.members = null;
    this.isScheduled = false;
  }

  /** Shows the members, or none for null. Draws once per frame, since hundreds of events may arrive together. */
  show(members) {
    this.members = members;
    if (this.isScheduled) return;
    this.isScheduled = true;
    requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.isScheduled = false;
    const members = this.members ?? [];
    const isOwn = (member) => member?.uuid === this.ownUuid;
    // This client comes first, so it is always shown.
    const shown = [...members.filter(isOwn), ...members.filter((member) => !isOwn(member))].slice(0, MAX_MEMBERS);
    this.count.textContent = this.members ? String(members.length) : '';
    this.list.replaceChildren(...shown.map((member) => this.item(member, isOwn(member))));
    const more = members.length - shown.length;
    if (more) this.list.append(element('li', 'more', `and ${more} more`));
  }

  item(member, own) {
    const uuid = String(member?.uuid ?? '');
    const item = element('li', '', '');
    // <bdi> isolates the writing direction of the name.
    const name = typeof member?.user === 'string' ? member.user : JSON.stringify(member?.user) ?? '';
    const user = element('bdi', 'member-user', name);
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
    this.uuid = randomUuid();  // identifies the member across reconnects
    this.roster = new Roster(root.querySelector('.presence'), this.uuid);
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

  /** Shows the URL for the current options, unless the client is connected. */
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
    let isRejected = false;
    const options = this.options();
    const socket = new WebSocket(socketUrl(options).url);
    this.talk = talkFor(options, (text) => this.send(text));
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    this.show('connecting', 'Connecting…');
    socket.addEventListener('open', () => {
      this.show('open', 'Connected');
      this.log.add('note', '·', 'connected');
    });
    socket.addEventListener('message', async ({data}) => {
      this.log.message('received', '↓', data);
      const {members, isError} = await this.talk.receive(data);
      if (members) this.roster.show(members);
      isRejected ||= Boolean(isError);
    });
    socket.addEventListener('close', ({code}) => {
      const known = closeCodes(options).find(([number]) => number === code);
      isRejected &&= options.protocol !== 'pusher' || code >= 4000;
      this.socket = null;
      this.show(isRejected ? 'rejected' : 'closed', isRejected ? `Rejected (${code})` : `Closed (${code})`);
      this.roster.show(null);
      this.showOptions();
      this.log.add(isRejected ? 'error' : 'note', '·', known ? `closed with ${code}: ${known[1]} ${known[2]}`.trim() : `closed with ${code}`);
    });
  }

  submit() {
    const {message, binary} = this.composer;
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    if (this.talk.frame) this.send(this.talk.frame(message.value));
    else this.send(binary.checked ? new TextEncoder().encode(message.value) : message.value);
    message.value = '';
    message.focus();
  }

  send(data) {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    this.socket.send(data);
    this.log.message('sent', '↑', data);
  }
}

/** Signs tokens and publishes with the secret of the API key. The secret never appears in URLs, examples or storage. */
class SecretTools {
  constructor(form, settings) {
    this.form = form;
    this.settings = settings;
    this.signOutput = document.getElementById('signed');
    this.publishOutput = document.getElementById('published');
    this.publishButton = document.getElementById('publish');
    const signButton = document.getElementById('sign');
    if (!globalThis.crypto?.subtle) {
      const hint = document.getElementById('sign-hint');
      signButton.disabled = true;
      signButton.title = hint.textContent.replace(/\s+/g, ' ');
      hint.hidden = false;
    }
    form.addEventListener('input', () => {
      for (const output of [this.signOutput, this.publishOutput]) this.show(output, '');  // they are outdated
    });
    signButton.addEventListener('click', () => this.sign());
    this.publishButton.addEventListener('click', () => this.publish());
  }

  show(output, text, kind = '') {
    output.textContent = text;
    output.className = kind;
  }

  /** Returns the secret. If it is missing, asks for it and returns null. */
  secretFor(output) {
    const secret = this.form.secret.value.trim();
    if (secret) return secret;
    this.show(output, 'Enter the secret of the API key first.');
    this.form.secret.focus();
    return null;
  }

  async sign() {
    const secret = this.secretFor(this.signOutput);
    if (secret === null) return;
    const sub = this.settings().channel.split('/').filter(Boolean).join('/');
    const iat = Math.floor(Date.now() / 1000);
    this.form.jwt.value = await signedToken({sub, iat, exp: iat + TOKEN_SECONDS}, secret);
    this.form.jwt.dispatchEvent(new Event('input', {bubbles: true}));
    this.show(this.signOutput, `Signed a token for the channel ${sub}, valid for one hour.`);
  }

  async publish() {
    const secret = this.secretFor(this.publishOutput);
    if (secret === null) return;
    this.publishButton.disabled = true;
    this.show(this.publishOutput, 'Publishing…');
    try {
      const response = await fetch(publishPath(this.settings()), {
        method: 'POST',
        credentials: 'omit',  // the secret authorizes the request, not the login of this browser
        headers: {'Content-Type': 'application/json'},
        body: JSON.stringify(publication(this.settings(), secret)),
        signal: AbortSignal.timeout(PUBLISH_TIMEOUT_SECONDS * 1000),
      });
      const text = `${response.status} ${(await response.text()).slice(0, MAX_RESPONSE_CHARACTERS)}`;
      this.show(this.publishOutput, text, response.ok ? 'good' : 'bad');
    } catch {
      this.show(this.publishOutput, 'No response. Check the network, and that the server is running.', 'bad');
    } finally {
      this.publishButton.disabled = false;
    }
  }
}

function publishPath({protocol}) {
  return protocol === 'v4' ? '/api/v4/publish' : '/api/publish';
}

/** Returns the body for publishing. A JSON object or array is sent as JSON, any other message as text. */
function publication({apiKey, channel, message}, secret) {
  let content = message;
  try {
    const parsed = JSON.parse(message);
    if (typeof parsed === 'object' && parsed !== null) content = parsed;
  } catch {
    // not JSON, so it stays text
  }
  return {key: apiKey, secret, channelId: channel.replace(/\/+$/, ''), message: content};
}

function quotedForShell(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Replaces *.localhost by localhost: every browser can resolve it, but not every other program. */
function urlForPrograms(url) {
  return url.replace(/\/\/[^/]+\.localhost(?=[:/])/, '//localhost');
}

/** Returns what each close code means in a protocol. */
function closeCodes({protocol}) {
  return protocol === 'pusher' ? pusher.CLOSE_CODES : CLOSE_CODES;
}

/** Shows the parts of the page that belong to the selected protocol, and hides those of others. */
function showProtocol({protocol}) {
  for (const part of document.querySelectorAll('[data-protocol]')) part.hidden = !part.dataset.protocol.split(' ').includes(protocol);
  document.getElementById('close-codes').replaceChildren(...closeCodes({protocol}).map(([code, reason, solution]) => {
    const row = document.createElement('tr');
    const head = element('th', '', String(code));
    head.scope = 'row';
    row.append(head, element('td', '', reason), element('td', '', solution));
    return row;
  }));
}

function showCode(settings) {
  if (settings().protocol === 'pusher') {
    const {page, server} = pusher.code(settings());
    document.getElementById('code-pusher-js').textContent = page;
    document.getElementById('code-pusher-server').textContent = server;
    return;
  }
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
  document.getElementById('code-curl').textContent = `curl ${urlForPrograms(`${location.origin}${publishPath(settings())}`)} \\
  -H 'Content-Type: application/json' -d ${quotedForShell(body)}`;
}

function start() {
  const form = document.getElementById('settings');
  // Links of the console use the fragment, which stays in the browser.
  for (const parameters of [location.search, location.hash.slice(1)].map((text) => new URLSearchParams(text))) {
    for (const name of ['cluster', 'channel', 'api_key', 'protocol']) {
      if (parameters.has(name)) form[name].value = parameters.get(name);
    }
  }
  const settings = () => ({
    cluster: form.cluster.value.trim(),
    channel: form.channel.value.trim(),
    apiKey: form.api_key.value.trim(),
    protocol: form.protocol.value,
    secret: form.secret.value.trim(),
    jwt: form.jwt.value.replace(/\s+/g, ''),  // terminals break long lines
    message: form.message.value,
  });

  const template = document.getElementById('pane');
  const panes = ['Client A', 'Client B'].map((name) => {
    const root = template.content.cloneNode(true).firstElementChild;
    document.getElementById('panes').append(root);
    return new Pane(root, name, settings);
  });

  new SecretTools(form, settings);

  const show = () => {
    showProtocol(settings());
    for (const pane of panes) pane.showOptions();
    showCode(settings);
    document.getElementById('host-hint').hidden = socketUrl(settings()).hasClusterHost;
  };
  form.addEventListener('input', show);
  form.addEventListener('submit', (event) => event.preventDefault());
  document.getElementById('connect-both').addEventListener('click', () => panes.forEach((pane) => pane.connect()));
  for (const button of document.querySelectorAll('[data-copies]')) {
    button.addEventListener('click', () => copy(document.getElementById(button.dataset.copies).textContent, button));
  }
  show();
}

start();

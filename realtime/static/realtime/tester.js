// The socket tester of the front page: two clients side by side. Nothing that comes from outside becomes HTML.

const MAX_LINES = 500;
const MAX_SHOWN_BYTES = 256;

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
  [4009, 'A valid JWT is needed.', 'Fetch a token from your own server.'],
  [4100, 'The client read too slowly.', 'Reconnect, and read faster.'],
  [4301, 'The client sent far more than its quota allows.', 'Send less often.'],
];

/** Where a client connects: the cluster's own host where this page's host has one, else the page's host. */
function socketUrl({cluster, channel, apiKey, notifySelf}) {
  const domains = document.body.dataset.clusterDomains.split(' ');
  const host = location.hostname;
  const domain = domains.find((name) => host === name || host.endsWith(`.${name}`));
  const port = location.port ? `:${location.port}` : '';
  const authority = domain && cluster ? `${cluster}.${domain}${port}` : location.host;
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  const path = channel.split('/').map(encodeURIComponent).join('/');
  const flag = notifySelf ? '&notify_self' : '';
  return {url: `${scheme}://${authority}/v3/${path}?api_key=${encodeURIComponent(apiKey)}${flag}`, named: Boolean(domain)};
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
      this.add(refusal(data) && kind === 'received' ? 'error' : kind, sign, data, data === '' ? 'empty message' : '');
    }
  }

  clear() {
    this.list.replaceChildren();
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
    this.composer = root.querySelector('.compose');
    this.log = new Log(root.querySelector('.log'));
    this.senders = root.querySelectorAll('[data-sends], .compose button');
    root.querySelector('h3').textContent = name;
    root.setAttribute('aria-label', name);

    this.toggle.addEventListener('click', () => (this.socket ? this.socket.close(1000) : this.connect()));
    this.notifySelf.addEventListener('change', () => this.showAddress());
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
    this.showAddress();
  }

  url() {
    return socketUrl({...this.settings(), notifySelf: this.notifySelf.checked}).url;
  }

  showAddress() {
    if (!this.socket) this.address.textContent = this.url();
  }

  show(state, text) {
    const connected = state === 'open';
    this.state.dataset.state = state;
    this.state.textContent = text;
    this.toggle.textContent = this.socket ? 'Disconnect' : 'Connect';
    this.notifySelf.disabled = Boolean(this.socket);
    for (const button of this.senders) button.disabled = !connected;
  }

  connect() {
    if (this.socket) return;
    let refused = false;
    const socket = new WebSocket(this.url());
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    this.show('connecting', 'Connecting…');
    socket.addEventListener('open', () => {
      this.show('open', 'Connected');
      this.log.add('note', '·', 'connected');
    });
    socket.addEventListener('message', ({data}) => {
      refused ||= typeof data === 'string' && refusal(data) !== null;
      this.log.message('received', '↓', data);
    });
    socket.addEventListener('close', ({code}) => {
      const known = CLOSE_CODES.find(([number]) => number === code);
      this.socket = null;
      this.show(refused ? 'refused' : 'closed', refused ? `Refused (${code})` : `Closed (${code})`);
      this.showAddress();
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

function showCode(settings) {
  const {url} = socketUrl({...settings(), notifySelf: true});
  // Browsers know that *.localhost is this machine; not every system does.
  const urlForPrograms = url.replace(/\/\/[^/]+\.localhost(?=[:/])/, '//localhost');
  document.getElementById('code-js').textContent = `const socket = new WebSocket(
  ${JSON.stringify(url)}
);
socket.onmessage = (message) => console.log(message.data);
socket.onopen = () => socket.send("Hello!");`;
  document.getElementById('code-python').textContent = `from websockets.sync.client import connect

with connect(
    ${JSON.stringify(urlForPrograms)}
) as socket:
    socket.send("Hello!")
    print(socket.recv())`;
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
  });

  const template = document.getElementById('pane');
  const panes = ['Client A', 'Client B'].map((name) => {
    const root = template.content.cloneNode(true).firstElementChild;
    document.getElementById('panes').append(root);
    return new Pane(root, name, settings);
  });

  const show = () => {
    for (const pane of panes) pane.showAddress();
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

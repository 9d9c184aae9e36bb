// Plays a scenario with piesocket-js in Node. The argument is a JSON object with the settings. Prints the observations.

import WebSocket from 'ws';

// Unlike browsers, Node 20 has no WebSocket and no XMLHttpRequest, and does not resolve *.localhost.
globalThis.WebSocket = class extends WebSocket {
  constructor(url) {
    super(url, {lookup: (name, options, done) => done(null, options.all ? [{address: '127.0.0.1', family: 4}] : '127.0.0.1', 4)});
  }
};
globalThis.XMLHttpRequest = class extends EventTarget {
  headers = {};
  open(method, url) {
    Object.assign(this, {method, url});
  }
  setRequestHeader(name, value) {
    this.headers[name] = value;
  }
  async send(body) {
    const answer = await fetch(this.url, {method: this.method, headers: this.headers, body});
    this.responseText = await answer.text();
    this.readyState = 4;
    this.dispatchEvent(new Event('readystatechange'));
  }
};

const {play} = await import('./scenarios.mjs');
const {default: PieSocket} = await import('piesocket-js');
console.log(JSON.stringify(await play(PieSocket, JSON.parse(process.argv[2]))));
process.exit(0);

// Plays a scenario with piesocket-js in Node. The settings are its argument, a JSON object; it prints what was seen.

import WebSocket from 'ws';

// Node 20 lacks what every browser has: WebSocket, XMLHttpRequest, and *.localhost as names of this machine.
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

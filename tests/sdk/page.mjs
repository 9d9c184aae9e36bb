// What pages have and Node 20 has not: WebSocket, XMLHttpRequest and addresses of *.localhost.

import WebSocket from 'ws';

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

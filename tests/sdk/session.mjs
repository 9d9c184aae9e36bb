// A program of its own that uses PieSocket's SDK as it is published. It reads one JSON object of settings from its
// arguments, does what `scenario` says, and prints what it saw as one JSON object.

import WebSocket from 'ws';

// Node 20 has no WebSocket of its own. The SDK always says wss:// and has no option for the name to look up, so the shim
// adds what a browser on this machine has by itself: *.localhost is this machine. It notes what the SDK opens and reads,
// since a refusal may arrive before a program can listen for it.
let opened = 0;
const frames = [];
globalThis.WebSocket = class extends WebSocket {
  constructor(url) {
    super(url, {lookup: (name, options, done) => done(null, options.all ? [{address: '127.0.0.1', family: 4}] : '127.0.0.1', 4)});
    opened += 1;
    this.on('message', (data) => frames.push(data.toString()));
  }
};
const {default: PieSocket} = await import('piesocket-js');

const {scenario, channel, ...options} = JSON.parse(process.argv[2]);
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const saw = {};

function heard(subscription, event) {
  return new Promise((done) => subscription.listen(event, (data, meta) => done({data, meta})));
}

const scenarios = {
  // Two of its clients talk to each other.
  async talk() {
    const [one, two] = await Promise.all([new PieSocket(options).subscribe(channel), new PieSocket(options).subscribe(channel)]);
    const answer = heard(two, 'new-message');
    await one.publish('new-message', {text: 'hé 😀'}, {from: 'one'});
    saw.answer = await answer;
    const status = new Promise((done) => one.on('message', (message) => done(message.data)));
    one.send('cmd_status');
    saw.status = await status;
  },

  // Its own messages come back when it asks for them.
  async notifySelf() {
    const one = await new PieSocket({...options, notifySelf: 1}).subscribe(channel);
    const answer = heard(one, 'echo');
    await one.publish('echo', 1);
    saw.answer = await answer;
  },

  // It is refused: what it reads, and how often it tries in a second in which it could try hundreds of times.
  async refused() {
    saw.frames = frames;
    saw.codes = [];
    const subscription = await new PieSocket(options).subscribe(channel);
    subscription.on('close', (close) => saw.codes.push(close.code));
    await pause(1000);
  },

  // An unknown command leaves it connected and able to reconnect when the connection breaks.
  async unknownCommand() {
    const one = await new PieSocket(options).subscribe(channel);
    const answer = new Promise((done) => one.on('message', (message) => done(message.data)));
    one.send('cmd_x');
    saw.answer = await answer;
    saw.shouldReconnect = one.shouldReconnect;
    one.connection.terminate();
    while (opened < 2 || one.connection.readyState !== WebSocket.OPEN) await pause(10);
  },
};

await scenarios[scenario]();
console.log(JSON.stringify({...saw, opened}));
process.exit(0);

// Scenarios for PieSocket's SDK, which are the same in a browser and in Node. Load this module before the SDK: it records
// the connections and frames of the SDK, since a rejection may arrive before a scenario can listen for it.

let opened = 0;
const frames = [];
globalThis.WebSocket = class extends globalThis.WebSocket {
  constructor(url) {
    super(url);
    opened += 1;
    this.addEventListener('message', ({data}) => frames.push(data));
  }
};

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

async function until(condition) {
  while (!condition()) await pause(10);
}

function nextEvent(subscription, event) {
  return new Promise((done) => subscription.listen(event, (data, meta) => done({data, meta})));
}

function answerTo(subscription, command) {
  return new Promise((done) => {
    subscription.on('message', ({data}) => done(data));
    subscription.send(command);
  });
}

const scenarios = {
  // Two clients exchange messages.
  async talk(client, channel, observed) {
    const [first, second] = await Promise.all([client().subscribe(channel), client().subscribe(channel)]);
    const answer = nextEvent(second, 'new-message');
    await first.publish('new-message', {text: 'hé 😀'}, {from: 'one'});
    observed.answer = await answer;
    observed.status = await answerTo(first, 'cmd_status');
  },

  // A client receives its own messages with notifySelf.
  async notifySelf(client, channel, observed) {
    const first = await client({notifySelf: 1}).subscribe(channel);
    const answer = nextEvent(first, 'echo');
    await first.publish('echo', 1);
    observed.answer = await answer;
  },

  // A second client joins the channel of the first, and leaves it.
  async presence(client, channel, observed) {
    const first = await client({presence: 1, userId: 'ada'}).subscribe(channel);
    await until(() => first.members.length);
    observed.alone = first.members;
    const joined = nextEvent(first, 'system:member_joined');
    const visitor = client({presence: 1});
    const second = await visitor.subscribe(channel);
    await until(() => second.members.length);
    observed.uuids = [first.uuid, second.uuid];
    observed.joined = (await joined).data;
    observed.members = second.members;
    observed.current = second.getCurrentMember();
    observed.found = second.getMemberByUUID(first.uuid);
    const left = nextEvent(first, 'system:member_left');
    visitor.unsubscribe(channel);
    observed.left = (await left).data;
    observed.remaining = first.members;
  },

  // A client joins a channel and is a member there.
  async join(client, channel, observed) {
    const first = await client({presence: 1}).subscribe(channel);
    await until(() => first.members.length);
    observed.user = first.getCurrentMember().user;
    observed.pong = await answerTo(first, 'cmd_ping');
  },

  // A client is rejected. The pause would be long enough for many attempts to reconnect.
  async rejected(client, channel, observed) {
    observed.frames = frames;
    observed.codes = [];
    const subscription = await client().subscribe(channel);
    subscription.on('close', ({code}) => observed.codes.push(code));
    await pause(1500);
  },

  // After an unknown command a client stays connected, and it reconnects when the connection breaks.
  async unknownCommand(client, channel, observed) {
    const first = await client().subscribe(channel);
    observed.answer = await answerTo(first, 'cmd_x');
    observed.shouldReconnect = first.shouldReconnect;
    first.connection.close();
    await until(() => opened === 2 && first.connection.readyState === WebSocket.OPEN);
  },
};

export async function play(PieSocket, {scenario, channel, options}) {
  const client = (more) => new PieSocket({...options, ...more});
  const observed = {};
  const played = scenarios[scenario](client, channel, observed).then(() => true);
  if (!await Promise.race([played, pause(10000)])) {
    throw new Error(`${scenario} hangs after ${JSON.stringify({...observed, opened, frames})}`);
  }
  return {...observed, opened};
}

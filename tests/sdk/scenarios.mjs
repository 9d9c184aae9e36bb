// What a page or a program does with PieSocket's SDK, and what it sees. It is the same in a browser and in Node, and comes
// before the SDK: it notes what the SDK opens and reads, since a refusal may arrive before anybody can listen for it.

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

function heard(subscription, event) {
  return new Promise((done) => subscription.listen(event, (data, meta) => done({data, meta})));
}

function answered(subscription, command) {
  return new Promise((done) => {
    subscription.on('message', ({data}) => done(data));
    subscription.send(command);
  });
}

const scenarios = {
  // Two of its clients talk to each other.
  async talk(client, channel, saw) {
    const [one, two] = await Promise.all([client().subscribe(channel), client().subscribe(channel)]);
    const answer = heard(two, 'new-message');
    await one.publish('new-message', {text: 'hé 😀'}, {from: 'one'});
    saw.answer = await answer;
    saw.status = await answered(one, 'cmd_status');
  },

  // Its own messages come back when it asks for them.
  async notifySelf(client, channel, saw) {
    const one = await client({notifySelf: 1}).subscribe(channel);
    const answer = heard(one, 'echo');
    await one.publish('echo', 1);
    saw.answer = await answer;
  },

  // One is there, another joins and leaves.
  async presence(client, channel, saw) {
    const one = await client({presence: 1, userId: 'ada'}).subscribe(channel);
    await until(() => one.members.length);
    saw.alone = one.members;
    const joined = heard(one, 'system:member_joined');
    const visitor = client({presence: 1});
    const two = await visitor.subscribe(channel);
    await until(() => two.members.length);
    saw.uuids = [one.uuid, two.uuid];
    saw.joined = (await joined).data;
    saw.members = two.members;
    saw.current = two.getCurrentMember();
    saw.found = two.getMemberByUUID(one.uuid);
    const left = heard(one, 'system:member_left');
    visitor.unsubscribe(channel);
    saw.left = (await left).data;
    saw.remaining = one.members;
  },

  // It gets into a channel, and is somebody there.
  async join(client, channel, saw) {
    const one = await client({presence: 1}).subscribe(channel);
    await until(() => one.members.length);
    saw.user = one.getCurrentMember().user;
    saw.pong = await answered(one, 'cmd_ping');
  },

  // It is refused: what it reads, and how often it tries in a time in which it could try a hundred times.
  async refused(client, channel, saw) {
    saw.frames = frames;
    saw.codes = [];
    const subscription = await client().subscribe(channel);
    subscription.on('close', ({code}) => saw.codes.push(code));
    await pause(1500);
  },

  // An unknown command leaves it connected and able to reconnect when the connection breaks.
  async unknownCommand(client, channel, saw) {
    const one = await client().subscribe(channel);
    saw.answer = await answered(one, 'cmd_x');
    saw.shouldReconnect = one.shouldReconnect;
    one.connection.close();
    await until(() => opened === 2 && one.connection.readyState === WebSocket.OPEN);
  },
};

export async function play(PieSocket, {scenario, channel, options}) {
  const client = (more) => new PieSocket({...options, ...more});
  const saw = {};
  const played = scenarios[scenario](client, channel, saw).then(() => true);
  if (!await Promise.race([played, pause(10000)])) {
    throw new Error(`${scenario} hangs after ${JSON.stringify({...saw, opened, frames})}`);
  }
  return {...saw, opened};
}

// Scenarios for pusher-js and laravel-echo, unchanged. They run in Node and in a browser.

/**
 * Plays a scenario; returns the observations.
 *
 * given: the name of the scenario, the address of the service, and the API key.
 * packages: Pusher, of pusher-js, and Echo, of laravel-echo.
 * server: the library of Pusher for servers. All its methods may return promises.
 * signal: tells the test how far the scenario has come; resolves when the test has done its part.
 */
globalThis.play = async function ({scenario, host, port, secure, key}, {Pusher, Echo}, server, signal) {
  // The endpoints of a site, which signs for whoever asks.
  const endpoints = user => ({
    channelAuthorization: {
      customHandler: async ({socketId, channelName}, done) => {
        const member = channelName.startsWith('presence-') ? {user_id: user, user_info: {name: `User ${user}`}} : undefined;
        done(null, await server.authorizeChannel(socketId, channelName, member));
      }
    },
    userAuthentication: {
      customHandler: async ({socketId}, done) => done(null, await server.authenticateUser(socketId, {id: user}))
    }
  });
  const options = user => ({
    cluster: 'x', wsHost: host, wsPort: port, wssPort: port, forceTLS: secure, enabledTransports: ['ws', 'wss'],
    disableStats: true, ...endpoints(user)
  });
  const connect = user => new Pusher(key, options(user));
  const event = (source, name) => new Promise(resolve => source.bind(name, resolve));
  const subscribed = channel => event(channel, 'pusher:subscription_succeeded');
  const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

  const scenarios = {
    async 'events of a server'() {
      const client = connect('1');
      const seen = {};
      for (const kind of ['', 'private-', 'private-encrypted-', 'presence-', 'cache-']) {
        const channel = client.subscribe(`${kind}room`);
        await subscribed(channel);
        const received = event(channel, 'news');
        await server.trigger(`${kind}room`, 'news', {of: kind});
        seen[kind] = await received;
      }
      const excluded = [];
      client.channel('room').bind('other', data => excluded.push(data));
      await server.trigger('room', 'other', 1, {socket_id: client.connection.socket_id});
      const last = event(client.channel('room'), 'last');
      await server.triggerBatch([{channel: 'room', name: 'last', data: 'end'}]);
      return {seen, last: await last, excluded};
    },
    async 'the last event of a cache channel'() {
      const name = `private-cache-${Date.now()}`;
      const first = connect('1').subscribe(name);
      const missed = event(first, 'pusher:cache_miss');
      await subscribed(first);
      await missed;
      await server.trigger(name, 'news', 7);
      return {last: await event(connect('2').subscribe(name), 'news')};
    },
    async 'two tabs of one user'() {
      const log = [];
      const ann = connect('ann').subscribe('presence-tabs');
      await subscribed(ann);
      ann.bind('pusher:member_added', member => log.push(['added', member]));
      const tabs = [connect('bob'), connect('bob')];
      for (const tab of tabs) {
        log.push(['members', (await subscribed(tab.subscribe('presence-tabs'))).count]);
      }
      const removed = event(ann, 'pusher:member_removed');
      tabs[0].unsubscribe('presence-tabs');
      tabs[1].disconnect();
      log.push(['removed', await removed], ['left', ann.members.count]);
      return {log};
    },
    async 'client events'() {
      const [sender, receiver] = [connect('1').subscribe('presence-events'), connect('2').subscribe('presence-events')];
      await Promise.all([subscribed(sender), subscribed(receiver)]);
      const received = new Promise(resolve => receiver.bind('client-x', (data, metadata) => resolve({data, metadata})));
      sender.trigger('client-x', {a: ['é']});
      return received;
    },
    async 'a user who signs in'() {
      const client = connect('ann');
      client.signin();
      const received = event(client.user, 'hello');
      await event(client.connection, 'connected');
      await client.user.signinDonePromise;
      while (!client.user.serverToUserChannel?.subscribed) {
        await sleep(10);
      }
      await server.sendToUser('ann', 'hello', {a: 1});
      const gone = event(client.connection, 'disconnected');
      const data = await received;
      await server.terminateUserConnections('ann');
      await gone;
      return {data, state: client.connection.state};
    },
    async 'a connection that ends'() {
      const client = connect('1');
      const log = [];
      const channel = client.subscribe('private-ends');
      await Promise.all([subscribed(client.subscribe('ends')), subscribed(channel)]);
      const connectedAt = [];
      client.connection.bind('state_change', ({current}) => {
        log.push(current);
        if (current === 'connected') connectedAt.push(Date.now());
      });
      const begun = Date.now();
      const ended = event(client.connection, 'state_change');
      await signal('ready');
      await ended;
      if (client.connection.state === 'disconnected') {
        await sleep(3000);
        return {log};
      }
      while (!connectedAt.length || !channel.subscribed) {
        await sleep(10);
      }
      await signal('connected again');
      const received = event(channel, 'news');
      await server.trigger('private-ends', 'news', 1);
      return {log, received: await received};
    },
    async 'a service that is full'() {
      const client = connect('1');
      const codes = [];
      client.connection.bind('error', ({data, error}) => codes.push(data?.code ?? error?.data?.code));
      while (codes.length < 3) {
        await sleep(10);
      }
      await signal('refused');
      await event(client.connection, 'connected');
      return {codes: [...new Set(codes)]};
    },
    async 'an error that the connection survives'() {
      const client = connect('1');
      const channel = client.subscribe('private-fast');
      await subscribed(channel);
      const error = event(client.connection, 'error');
      for (let number = 0; number < 40; number += 1) {
        channel.trigger('client-x', number);
      }
      const {data, error: wrapped} = await error;
      await sleep(500);
      return {code: data?.code ?? wrapped?.data?.code, state: client.connection.state};
    },
    async 'a subscription that is counted'() {
      const channel = connect('1').subscribe('counted');
      const counted = event(channel, 'pusher:subscription_count');
      return {data: await counted, count: channel.subscriptionCount};
    },
    async 'a watchlist'() {
      const watcher = new Pusher(key, {...options('ann'), userAuthentication: {
        customHandler: async ({socketId}, done) => done(null, await server.authenticateUser(socketId, {id: 'ann', watchlist: ['bob']}))
      }});
      const seen = [];
      const offline = event(watcher.user.watchlist, 'offline');
      watcher.user.watchlist.bind('online', ({user_ids}) => seen.push(['online', user_ids]));
      watcher.signin();
      seen.push(['offline', (await offline).user_ids]);
      const online = event(watcher.user.watchlist, 'online');
      connect('bob').signin();
      await online;
      return {seen};
    },
    async 'a refused client'() {
      const client = connect('1');
      const [error] = await Promise.all([event(client.connection, 'error'), event(client.connection, 'disconnected')]);
      return {code: error.data?.code ?? error.error?.data?.code, state: client.connection.state};
    },
    async 'a wrong signature'() {
      const client = new Pusher(key, {...options('1'), channelAuthorization: {customHandler: (_, done) => done(null, {auth: `${key}:wrong`})}});
      const {type, status} = await event(client.subscribe('private-wrong'), 'pusher:subscription_error');
      return {type, status, state: client.connection.state};
    }
  };
  for (const broadcaster of ['reverb', 'pusher']) {
    scenarios[`Echo with ${broadcaster}`] = async () => {
      const [ann, bob] = ['ann', 'bob'].map(user => new Echo({broadcaster, key, Pusher, ...options(user)}));
      const here = new Promise(resolve => ann.join('chat').here(resolve));
      const members = await here;
      const joined = new Promise(resolve => ann.join('chat').joining(resolve));
      const whispers = new Promise(resolve => ann.join('chat').listenForWhisper('typing', resolve));
      const heard = new Promise(resolve => bob.private('orders').listen('.shipped', resolve));
      await new Promise(resolve => bob.join('chat').here(resolve));
      bob.join('chat').whisper('typing', {name: 'Bob'});
      while (!bob.connector.channels['private-orders'].subscription.subscribed) {
        await sleep(10);
      }
      await server.trigger('private-orders', 'shipped', {id: 1});
      return {members, joined: await joined, whispers: await whispers, heard: await heard};
    };
  }

  return scenarios[scenario]();
};

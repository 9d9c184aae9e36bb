// Pusher's protocol in the WebSocket tester: one client with one channel. It signs by itself, as a site would.

export const CLOSE_CODES = [
  [1009, 'A message was too large.', 'Send smaller messages.'],
  [4001, 'The app key is unknown or revoked, or belongs to another cluster.', 'Use a valid API key.'],
  [4003, 'The account is suspended, or the cluster is off.', 'Ask the owner of the API key.'],
  [4004, 'The connection quota is used up.', 'Close other connections or raise the quota.'],
  [4005, 'The path of the URL is not valid.', 'Connect to /app/KEY.'],
  [4006, 'The version of the protocol is not a number.', 'Use version 4 to 7.'],
  [4007, 'The version of the protocol is not supported.', 'Use version 4 to 7.'],
  [4008, 'The version of the protocol is missing.', 'Use version 4 to 7.'],
  [4009, 'The website is not allowed, or a sign-in is not valid or comes too late.', 'Ask the owner of the API key.'],
  [4100, 'The server is full, or the client read too slowly or sent too much.', 'Reconnect after a second.'],
  [4200, 'The server is restarting, or the secret of a subscription has ended.', 'Reconnect.'],
];

/** Returns the URL of the app of a key, which determines the cluster. */
export function appUrl({apiKey}) {
  const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
  return `${scheme}://${location.host}/app/${encodeURIComponent(apiKey)}?protocol=7&client=tester`;
}

export function hasMembers({channel}) {
  return channel.startsWith('presence-');
}

/** Returns the code of a page and of a server. */
export function code({apiKey, channel}) {
  const port = Number(location.port || (location.protocol === 'https:' ? 443 : 80));
  const isSecure = location.protocol === 'https:';
  return {
    page: `import Pusher from "pusher-js";

const pusher = new Pusher(${JSON.stringify(apiKey)}, {
  cluster: "any",
  wsHost: ${JSON.stringify(location.hostname)},
  wsPort: ${port},
  wssPort: ${port},
  forceTLS: ${isSecure},
  enabledTransports: ["ws", "wss"],
});
pusher.subscribe(${JSON.stringify(channel)}).bind("message", (data) => console.log(data));`,
    server: `import pusher

client = pusher.Pusher(
    app_id="APP_ID",
    key=${JSON.stringify(apiKey)},
    secret="SECRET",
    host=${JSON.stringify(location.hostname)},
    port=${port},
    ssl=${isSecure ? 'True' : 'False'},
)
client.trigger(${JSON.stringify(channel)}, "message", "Hello!")`,
  };
}

async function signature(secret, text) {
  const encoder = new TextEncoder();
  const key = await crypto.subtle.importKey('raw', encoder.encode(secret), {name: 'HMAC', hash: 'SHA-256'}, false, ['sign']);
  const bytes = new Uint8Array(await crypto.subtle.sign('HMAC', key, encoder.encode(text)));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** What one connection says. */
export class Talk {
  /** The options of the client, and a function that sends a frame. */
  constructor(options, send) {
    this.options = options;
    this.send = send;
    this.members = new Map();
  }

  /** Handles a frame of the server. Returns the members if they have changed, and whether it is an error. */
  async receive(text) {
    const {event, data} = JSON.parse(text);
    const content = typeof data === 'string' && event.startsWith('pusher') ? JSON.parse(data) : data;
    switch (event) {
      case 'pusher:connection_established':
        await this.subscribe(content.socket_id);
        break;
      case 'pusher_internal:subscription_succeeded':
        if (!content.presence) break;
        this.members = new Map(Object.entries(content.presence.hash));
        return this.changed();
      case 'pusher_internal:member_added':
        this.members.set(content.user_id, content.user_info);
        return this.changed();
      case 'pusher_internal:member_removed':
        this.members.delete(content.user_id);
        return this.changed();
      case 'pusher:error':
        return {isError: true};
    }
    return {};
  }

  changed() {
    return {members: [...this.members].map(([uuid, info]) => ({uuid, user: info?.name ?? 'anonymous'}))};
  }

  /** Subscribes to the channel. Without the secret, the server says that the signature is missing. */
  async subscribe(socketId) {
    const {channel, apiKey, secret, user, uuid} = this.options;
    const data = {channel, auth: ''};
    let signed = `${socketId}:${channel}`;
    if (hasMembers(this.options)) {
      data.channel_data = JSON.stringify({user_id: uuid, user_info: {name: user || 'anonymous'}});
      signed += `:${data.channel_data}`;
    }
    const isPrivate = channel.startsWith('private-') || hasMembers(this.options);
    if (isPrivate && secret && globalThis.crypto?.subtle) data.auth = `${apiKey}:${await signature(secret, signed)}`;
    this.send(JSON.stringify({event: 'pusher:subscribe', data}));
  }

  /** Returns the frame that sends a message to the others in the channel. */
  frame(message) {
    return JSON.stringify({event: 'client-message', channel: this.options.channel, data: message});
  }
}

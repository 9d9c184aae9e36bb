// PieSocket v4 in the WebSocket tester: the channel in the URL, whose members change by events about one member.

/** Returns the object of a frame. Text that is no JSON object arrives as it was sent, and is an empty one here. */
function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** What one connection says. */
export class Talk {
  constructor({channel}) {
    this.channel = channel;
    this.members = new Map();
  }

  /** Handles a frame of the server. Returns the members if they have changed, and whether it is an error. */
  receive(text) {
    const {event, error, data} = parsed(text);
    if (typeof error === 'string') return {isError: true};
    if (data?.channel !== this.channel) return {};
    switch (event) {
      case 'system::member_list':
        this.members = new Map(data.members.map((member) => [member.uuid, member]));
        break;
      case 'system::member_joined':
        this.members.set(data.member.uuid, data.member);
        break;
      case 'system::member_left':
        this.members.delete(data.member.uuid);
        break;
      default:
        return {};
    }
    return {members: [...this.members.values()]};
  }
}

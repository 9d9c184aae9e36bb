"""Code with which a tenant connects and publishes for the first time. Each piece runs as it stands."""

from typing import NamedTuple

from accounts.models import ApiKey

from .endpoints import Site

CHANNEL = "hello"
"""The ID of the channel of the first message."""
# The ID of the channel to which a client of PieSocket v4 connects before it subscribes to that one.
_LOBBY = "lobby"


class Snippet(NamedTuple):
    """Code that connects to the channel and prints what arrives."""

    name: str
    """In the URL of the page."""
    tab: str
    language: str
    introduction: str
    code: str
    path: str = CHANNEL
    """The path of the channel, which depends on the protocol."""

    @property
    def protocol(self) -> str:
        """The protocol, as the tester names it."""
        return self.path.rpartition(":")[0] or "v3"


class ServerSnippet(NamedTuple):
    """Code with which a server publishes to the channel."""

    name: str
    """Identifies the code in the page."""
    title: str
    language: str
    code: str


def connecting(site: Site, key: ApiKey) -> list[Snippet]:
    """Return code for the clients of a key, in the order of the tabs."""
    url, url_for_programs = site.channel(key, CHANNEL), site.channel(key, CHANNEL, resolvable=True)
    host = site.host(key.cluster.cluster_id)
    return [
        Snippet(
            "browser",
            "Browser",
            "JavaScript",
            "Paste this into the console of any browser.",
            f"""const socket = new WebSocket(
  "{url}"
);
socket.onmessage = (message) => console.log(message.data);""",
        ),
        Snippet(
            "sdk",
            "PieSocket SDK",
            "JavaScript",
            "Install the package piesocket-js and use this in your page. The SDK connects with TLS only.",
            f"""import PieSocket from "piesocket-js";

const piesocket = new PieSocket({{
  clusterDomain: "{host}",
  apiKey: "{key.public_key}",
}});
const channel = await piesocket.subscribe("{CHANNEL}");
channel.on("message", (message) => console.log(message.data));""",
        ),
        Snippet(
            "python",
            "Python",
            "Python",
            "Install the package websockets, save this as hello.py and run it.",
            f"""from websockets.sync.client import connect

with connect(
    "{url_for_programs}"
) as socket:
    for message in socket:
        print(message)""",
        ),
        Snippet(
            "terminal",
            "Terminal",
            "Shell, with Node.js",
            "Paste this into a terminal.",
            f"""npx wscat --connect \\
  '{url_for_programs}'""",
        ),
        Snippet(
            "v4",
            "PieSocket v4",
            "JavaScript",
            "Paste this into the console of any browser. One connection can subscribe to many channels.",
            f"""const socket = new WebSocket(
  "{site.channel(key, _LOBBY, version=4)}"
);
const send = (frame) => socket.send(JSON.stringify(frame));
socket.onopen = () =>
  send({{ event: "system::subscribe", data: {{ channel: "{CHANNEL}" }} }});
socket.onmessage = (message) => console.log(message.data);

// To publish to the other clients of the channel: say("Hello!")
const say = (data) =>
  send({{ event: "message", data, "system::channel": "{CHANNEL}" }});""",
            f"v4:{CHANNEL}",
        ),
        Snippet(
            "pusher",
            "pusher-js",
            "JavaScript",
            "Install the package pusher-js. Clients of Pusher, Soketi and Reverb only need these options.",
            f"""import Pusher from "pusher-js";

const pusher = new Pusher("{key.public_key}", {{
  cluster: "any",
{_options(site)}
}});
pusher.subscribe("{CHANNEL}").bind("message", (data) => console.log(data));""",
            f"pusher:{CHANNEL}",
        ),
        Snippet(
            "echo",
            "Laravel Echo",
            "JavaScript",
            "Install the packages laravel-echo and pusher-js. The broadcaster pusher works too.",
            f"""import Echo from "laravel-echo";
import Pusher from "pusher-js";

window.Pusher = Pusher;
const echo = new Echo({{
  broadcaster: "reverb",
  key: "{key.public_key}",
{_options(site)}
}});
echo.channel("{CHANNEL}").listen(".message", (data) => console.log(data));""",
            f"pusher:{CHANNEL}",
        ),
    ]


def _options(site: Site) -> str:
    """Return the options with which Pusher's clients find this service."""
    return f"""  wsHost: "{site.api_host}",
  wsPort: {site.api_port},
  wssPort: {site.api_port},
  forceTLS: {"true" if site.is_secure else "false"},
  enabledTransports: ["ws", "wss"],"""


def _curl(url: str, message: str) -> str:
    """Return a command that publishes a message, which is JSON, with a URL of the Cluster API."""
    return f"""curl {url} \\
  -H "key: $WS_API_KEY" -H "secret: $WS_API_SECRET" \\
  -H "Content-Type: application/json" \\
  -d '{{"channelId": "{CHANNEL}", "message": {message}}}'"""


def publishing(site: Site, key: ApiKey) -> list[ServerSnippet]:
    """Return code with which a server publishes. Replace SECRET, or set it in the environment."""
    host, port, app_id = site.api_host, site.api_port, key.cluster.app_id
    scheme, secure = ("https", True) if site.is_secure else ("http", False)
    return [
        ServerSnippet(
            "curl",
            "curl",
            "Shell",
            _curl(f"{site.api_url}publish", '"Hello!"'),
        ),
        ServerSnippet(
            "curl-v4",
            "curl, to PieSocket v4",
            "Shell",
            _curl(f"{site.api_url}v4/publish", '{"event": "message", "data": "Hello!"}'),
        ),
        ServerSnippet(
            "laravel",
            "Laravel",
            ".env",
            f"""BROADCAST_CONNECTION=reverb
REVERB_APP_ID={app_id}
REVERB_APP_KEY={key.public_key}
REVERB_APP_SECRET=SECRET
REVERB_HOST={host}
REVERB_PORT={port}
REVERB_SCHEME={scheme}""",
        ),
        ServerSnippet(
            "php",
            "Pusher’s library for PHP",
            "PHP",
            f"""$pusher = new Pusher\\Pusher("{key.public_key}", "SECRET", "{app_id}", [
  "host" => "{host}", "port" => {port}, "scheme" => "{scheme}",
]);
$pusher->trigger("{CHANNEL}", "message", "Hello!");""",
        ),
        ServerSnippet(
            "node",
            "Pusher’s library for Node.js",
            "JavaScript",
            f"""import Pusher from "pusher";

const pusher = new Pusher({{
  appId: "{app_id}",
  key: "{key.public_key}",
  secret: "SECRET",
  host: "{host}",
  port: "{port}",
  useTLS: {str(secure).lower()},
}});
await pusher.trigger("{CHANNEL}", "message", "Hello!");""",
        ),
        ServerSnippet(
            "python",
            "Pusher’s library for Python",
            "Python",
            f"""import pusher

client = pusher.Pusher(
    app_id="{app_id}",
    key="{key.public_key}",
    secret="SECRET",
    host="{host}",
    port={port},
    ssl={secure},
)
client.trigger("{CHANNEL}", "message", "Hello!")""",
        ),
    ]

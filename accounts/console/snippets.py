"""Code with which a tenant connects and publishes for the first time. Each piece runs as it stands."""

from typing import NamedTuple

from accounts.models import ApiKey

from .endpoints import Site

CHANNEL = "hello"
"""The ID of the channel of the first message."""


class Snippet(NamedTuple):
    """Code that connects to the channel and prints what arrives."""

    name: str
    """In the URL of the page."""
    tab: str
    language: str
    introduction: str
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
    ]


def publishing(site: Site) -> str:
    """Return a command with which a server publishes. It takes the key and its secret from the environment."""
    return f"""curl {site.publish_url} \\
  -H "key: $WS_API_KEY" -H "secret: $WS_API_SECRET" \\
  -H "Content-Type: application/json" \\
  -d '{{"channelId": "{CHANNEL}", "message": "Hello!"}}'"""

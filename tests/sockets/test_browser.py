"""What a browser's own WebSocket sees."""

from tests.browser import open_page
from tests.clients import channel_path
from tests.servers import LiveServer

CONNECT = """
new Promise(resolve => {{
  const socket = new WebSocket({url!r}, {protocols});
  const seen = [];
  socket.onopen = () => {{ seen.push(socket.protocol, socket.extensions); socket.send("cmd_ping"); }};
  socket.onmessage = event => {{ seen.push(event.data); socket.close(3000, "done"); }};
  socket.onclose = event => resolve([...seen, event.code]);
}})
"""


async def test_a_browser_that_offers_subprotocols_is_connected(
    serve: LiveServer, keys: dict[str, str], channel: str
) -> None:
    url = serve.url(channel_path(channel, keys["demo"]))
    async with open_page() as page:
        await page.open(serve.url("/healthz", scheme="http"))
        for protocols, selected in (('"json"', "json"), ('["b", "a"]', "b"), ("[]", "")):
            seen = await page.evaluate(CONNECT.format(url=url, protocols=protocols))
            assert seen == [selected, "", '{"system":"pong"}', 3000]
        refused = serve.url(channel_path(channel, "unknown"))
        seen = await page.evaluate(CONNECT.format(url=refused, protocols='"json"'))
        assert (seen[:2], seen[-1]) == (["json", ""], 4001)


async def test_a_page_of_any_site_can_read_that_its_key_is_wrong_and_no_answer_to_a_key_that_does_not_allow_it(
    serve: LiveServer, keys: dict[str, str], secrets: dict[str, str], channel: str
) -> None:
    publish = """
    fetch({url!r}, {{
      method: "POST",
      headers: {{"Content-Type": "application/json", "X-Requested-With": "a", key: {key!r}, secret: {secret!r}}},
      body: JSON.stringify({{channelId: {channel!r}, message: "a"}}),
    }}).then(answer => answer.status, () => "blocked")
    """
    url = serve.url("/api/publish", scheme="http").replace("127.0.0.1", "localhost")
    given = {"url": url, "channel": channel, "key": keys["demo"]}
    async with open_page() as page:
        await page.open(serve.url("/healthz", scheme="http"))
        assert await page.evaluate(publish.format(**given, secret="wrong")) == 401
        assert await page.evaluate(publish.format(**given, secret=secrets["demo"])) == "blocked"

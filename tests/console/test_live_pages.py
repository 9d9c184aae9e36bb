"""The pages Live, Channels and Refusals in a real browser, wide and narrow, with what hostile clients send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import pytest

from tests.clients import Client, channel_path, open_client, until
from tests.console.browsing import WIDTHS, Console
from tests.sockets.pusher import channel_name, open_pusher
from tests.sockets.v4 import Refused, open_v4

HOSTILE = "<img src=x onerror=\"document.title='hacked'\"></code></td><script>document.title='hacked'</script>"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def join(console: Console, stack: AsyncExitStack, channel: str, *flags: str, **options: Any) -> Client:
    path = channel_path(channel, console.service.tenants.shop.public_key, *flags)
    return await stack.enter_async_context(open_client(console.service.server, path, **options))


async def open_live(console: Console, width: int = 1280) -> None:
    await console.resize(width)
    await console.log_in("developer")
    await console.open("live/shop/")
    await console.wait_for_text("Connected")


async def disconnect_the_only_member(console: Console, path: str) -> None:
    """Disconnect the client whose member is a1 on the page of a channel."""
    await console.open(f"live/shop/channels/?channel={path}")
    await console.wait_for_text("Members")
    shown = await console.text()
    assert "1 connection now" in shown
    assert "a1" in shown
    await console.click("Disconnect")
    await console.wait_for_text("Disconnect this client?")
    await console.click("Disconnect")
    await console.wait_for_text("Client disconnected.")


async def rows(console: Console) -> str:
    return await console.text("#events tbody")


@pytest.mark.parametrize("width", WIDTHS)
async def test_events_are_shown_as_text(console: Console, stack: AsyncExitStack, width: int, channel: str) -> None:
    await open_live(console, width)
    assert "Waiting for events" in await console.text("#events")
    await console.page.click("document.getElementById('show-content')")
    await asyncio.sleep(0.5)
    client = await join(console, stack, channel, "presence", f"user={quote(HOSTILE)}", f"uuid={quote(HOSTILE[:40])}")
    await client.send(HOSTILE)
    await console.wait_for_text(f"joined presence as {HOSTILE[:40]}")
    await console.wait_for_text("bytes · ")
    refused = await join(console, stack, channel, "presence=maybe", f"user={quote(HOSTILE)}")
    await refused.ending()
    await console.wait_for_text("Option not valid")
    shown = await rows(console)
    assert HOSTILE in shown
    assert "hacked" not in await console.page.evaluate("document.title")
    assert await console.page.evaluate("document.querySelectorAll('#events img, #events script').length") == 0
    await console.check()


async def test_the_reader_pauses_clears_and_filters(console: Console, stack: AsyncExitStack, channel: str) -> None:
    await open_live(console)
    client = await join(console, stack, channel)
    await console.page.wait_for(f"document.querySelector('#events tbody').innerText.includes('{channel}')")
    await console.click("Pause")
    await console.wait_for_text("Paused · 0 events are waiting")
    await client.send("while it is paused")
    await console.wait_for_text("Paused · 1 event is waiting")
    assert "18 bytes" not in await rows(console)
    await console.click("Continue")
    await console.wait_for_text("18 bytes")
    await console.click("Clear")
    assert await rows(console) == ""
    assert "Waiting for events" in await console.text("#events")
    await client.send("again")
    await console.wait_for_text("5 bytes")
    await console.click(channel)
    assert await console.page.evaluate("document.getElementById('filter').value") == channel
    await join(console, stack, "another")
    await client.send("filtered")
    await console.wait_for_text("8 bytes")
    await console.check()


async def test_the_list_keeps_500_events_and_its_place(console: Console, stack: AsyncExitStack, channel: str) -> None:
    await open_live(console)
    client = await join(console, stack, channel)
    count = "document.querySelectorAll('#events tbody tr').length"

    async def send_until(condition: str) -> None:
        async with asyncio.timeout(60):
            while not await console.page.evaluate(condition):
                for _ in range(10):
                    await client.send("x")
                await asyncio.sleep(0.1)

    await send_until(f"{count} >= 60")
    await console.page.evaluate("document.getElementById('events').scrollTop = 300")
    top = "document.querySelector('#events tbody tr:nth-child(20)')"
    await console.page.evaluate(f"window.marked = {top}; window.at = marked.getBoundingClientRect().top")
    await send_until("!document.getElementById('newer').hidden")
    assert abs(await console.page.evaluate("marked.getBoundingClientRect().top - at")) <= 2
    await console.page.evaluate("document.querySelector('#newer button').click()")
    assert await console.page.evaluate("document.getElementById('events').scrollTop") == 0
    await send_until(f"{count} === 500")
    await send_until("true")
    assert await console.page.evaluate(count) == 500


async def test_a_page_that_nobody_uses_stops_after_half_an_hour(console: Console) -> None:
    await open_live(console)
    await console.page.evaluate("{ const now = Date.now; Date.now = () => now() + 31 * 60_000; }")
    await console.wait_for_text("Stopped · this page was not used for 30 minutes")
    await console.page.evaluate("dispatchEvent(new Event('pointermove'))")
    await console.click("Start again")
    await console.wait_for_text("Connected")
    await console.check()


async def test_a_page_that_nobody_sees_stops_until_it_is_seen(
    console: Console, stack: AsyncExitStack, channel: str
) -> None:
    await open_live(console)
    await console.page.evaluate("""{
        const later = setTimeout;
        setTimeout = (act, wait) => later(act, wait === 60_000 ? 0 : wait);
        window.turn = (hidden) => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        };
        turn(true);
    }""")
    await console.page.wait_for("!document.body.innerText.includes('Connected')")
    await join(console, stack, channel)
    await console.page.evaluate("turn(false)")
    await console.wait_for_text("Connected")
    assert channel not in await rows(console)
    await console.check()


async def test_a_message_is_sent_from_the_page(console: Console, stack: AsyncExitStack, channel: str) -> None:
    await open_live(console)
    await console.fill("channel", channel)
    await console.fill("message", "Hello!")
    await console.click("Send message")
    await console.wait_for_text("Sent, but no connection is open in this channel.")
    client = await join(console, stack, channel)
    await console.click("Send message")
    await console.wait_for_text("Sent to 1 connection.")
    assert await client.receive() == "Hello!"
    await console.fill("channel", "no good")
    await console.click("Send message")
    await console.wait_for_text("Channel IDs are 1 to 128")
    assert "filter" not in await console.page.evaluate("location.href")


async def test_a_channel_of_pusher_shows_its_users_gets_a_message_and_a_client_is_disconnected(
    console: Console, stack: AsyncExitStack
) -> None:
    shop, channel = console.service.tenants.shop, channel_name("presence-")
    client = await stack.enter_async_context(open_pusher(console.service.server, shop.public_key, shop.secret))
    await open_live(console)
    await client.join(channel, {"user_id": "a1", "user_info": {"name": "Ann"}})
    await console.wait_for_text(channel)
    await console.fill("channel", f"pusher:{channel}")
    await console.fill("message", "Hello!")
    await console.click("Send message")
    await console.wait_for_text("Sent to 1 connection.")
    assert await client.receive() == {"event": "message", "channel": channel, "data": "Hello!"}
    await disconnect_the_only_member(console, f"pusher:{channel}")
    assert (await client.client.ending())[1] == 4200


async def test_a_client_of_v4_is_shown_gets_a_message_and_is_disconnected(
    console: Console, stack: AsyncExitStack, channel: str
) -> None:
    await open_live(console)
    opened = open_v4(console.service.server, channel, console.service.tenants.shop.public_key, "a1")
    client = await stack.enter_async_context(opened)
    second = f"{channel}-2"
    await client.subscribe(second, presence=True)
    await client.unsubscribe(second)
    await client.subscribe(second)
    await client.publish("news", 1, channel=f"{channel}-3")
    with pytest.raises(Refused):
        await client.subscribe("private-x")
    for shown in ("joined presence as a1", "Unsubscribe", "anonymous", "not subscribed to the channel", "missing"):
        await console.wait_for_text(shown)
    await console.fill("channel", f"v4:{second}")
    await console.fill("message", "Hello!")
    await console.click("Send message")
    await console.wait_for_text("Sent to 1 connection.")
    await until(lambda: client.frames[-1] == "Hello!")
    await client.unsubscribe(second)
    await client.subscribe(second, presence=True)
    await disconnect_the_only_member(console, f"v4:{second}")
    await client.listening
    assert client.client.socket.close_code == 1012


async def test_without_a_connection_the_page_says_since_when_events_are_missing(
    console: Console, stack: AsyncExitStack, channel: str
) -> None:
    await open_live(console)
    await join(console, stack, channel)
    await console.wait_for_text(channel)
    console.service.server.stop()
    await console.wait_for_text("Reconnecting · events since")
    console.service.server.start()
    await console.page.wait_for("document.getElementById('state').textContent === 'Connected'")
    assert "are missing" in await console.text("#events .gap")
    await join(console, stack, f"{channel}-later")
    await console.wait_for_text(f"{channel}-later")


async def test_after_a_log_out_the_page_says_so(console: Console) -> None:
    await console.log_in("owner")
    await console.open("live/shop/")
    await console.wait_for_text("Connected")
    key = console.service.sessions["owner"]
    code = "from django.contrib.sessions.models import Session; "
    data = console.service.shell(f"{code}row = Session.objects.get(pk='{key}'); print(row.session_data); row.delete()")
    try:
        await console.wait_for_text("You are logged out.")
        await console.wait_for_text("Reload the page")
    finally:
        again = "import datetime; from django.utils import timezone; "
        until = "timezone.now() + datetime.timedelta(days=1)"
        row = f"pk='{key}', session_data='{data.strip()}', expire_date={until}"
        console.service.shell(f"{code}{again}Session.objects.create({row})")


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_channel_shows_its_connections_and_members_and_one_is_disconnected(
    console: Console, stack: AsyncExitStack, width: int, channel: str
) -> None:
    await console.resize(width)
    await console.log_in("developer")
    client = await join(console, stack, channel, "presence", "user=ann", "uuid=a1")
    await console.open("live/shop/channels/")
    await console.wait_for_text(channel)
    await console.check()
    await console.click(channel)
    await console.wait_for_text("Members")
    shown = await console.text()
    assert "1 connection now" in shown
    assert "ann" in shown
    assert "a1" in shown
    await console.check()
    await console.click("Disconnect ann, 127.0.0.1" if width > 800 else "Disconnect")
    await console.wait_for_text("Disconnect this client?")
    await console.check()
    await console.click("Disconnect")
    await console.wait_for_text("Client disconnected.")
    assert (await client.ending())[1] == 1012
    assert "0 connections now" in await console.text()


@pytest.mark.parametrize("width", WIDTHS)
async def test_refusals_name_their_remedy(console: Console, stack: AsyncExitStack, width: int, channel: str) -> None:
    await console.resize(width)
    await console.log_in("viewer")
    for options in ({"origin": None}, {"origin": "https://staging.example.com"}):
        client = await join(console, stack, channel, "presence=maybe", f"user={quote(HOSTILE)}", **options)
        await client.ending()
    found = False
    async with asyncio.timeout(15):
        while not found:
            await console.open(f"refusals/?q={channel}")
            found = (await console.text()).count(HOSTILE[:40]) >= 2
    shown = await console.text()
    assert "Option not valid" in shown
    assert "The option presence must be 1 or 0." in shown
    assert "staging.example.com" in shown
    await console.check()

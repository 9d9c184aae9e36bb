"""A client of PieSocket v4 that does what piesocket-js 7.3 does with `version: 4`, step by step.

No registry has that library, so this client stands in for it: it resolves at `onopen`, settles control frames by
`data.channel`, attaches a channel one turn of the loop after its success, and assigns frames as the library does.
"""

import asyncio
import base64
import contextlib
import json
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed

from tests.clients import ANSWER_SECONDS, Client, open_client, until
from tests.servers import LiveServer

TAG = "system::channel"
_SETTLED_BY = {
    f"system::{name}{suffix}": (name, not suffix.endswith("error"))
    for name in ("subscribe", "unsubscribe")
    for suffix in ("_success", "_error")
}


class Refused(Exception):
    """The server has answered a control frame with an error."""


class V4Client:
    """A connection with its primary channel, whose handle exists from `onopen` on."""

    def __init__(self, client: Client, primary: str, uuid: str) -> None:
        self.client = client
        self.primary = primary
        self.uuid = uuid
        self.frames: list[Any] = []
        """All frames, in the order in which they have arrived: JSON as a value, anything else as it came."""
        self.raw: list[str] = []
        """The same as they came."""
        self.members: dict[str, list[Any]] = {}
        """The roster of each channel: the last list, with the changes after it."""
        self._inboxes: defaultdict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self._handles = {primary}
        self._answers: dict[tuple[str, str], asyncio.Future[Any]] = {}
        self.listening = asyncio.create_task(self._listen())

    async def subscribe(self, channel: str, *, presence: bool = False, **more: Any) -> None:
        """Subscribe to a further channel; `more` is what the library adds: `jwt`, `user`.

        Raises:
            Refused: the server does not allow it.
        """
        data = {"channel": channel, "presence": presence, "uuid": self.uuid, **more}
        await self.control("subscribe", channel, data)

    async def unsubscribe(self, channel: str) -> None:
        await self.control("unsubscribe", channel, {"channel": channel})
        self._handles.discard(channel)

    async def control(self, name: str, channel: str, data: Any, event: str = "system::{}") -> None:
        """Send a control frame, and wait until it is settled."""
        answer = self._answers[name, channel] = asyncio.get_running_loop().create_future()
        await self.send({"event": event.format(name), "data": data})
        async with asyncio.timeout(ANSWER_SECONDS):
            await answer

    async def send(self, frame: Any) -> None:
        await self.client.send(json.dumps(frame))

    async def publish(self, event: str, data: Any, meta: Any = None, channel: str | None = None) -> None:
        tag = {} if channel in (None, self.primary) else {TAG: channel}
        await self.send({"event": event, "data": data, "meta": meta, **tag})

    async def send_text(self, text: str, channel: str) -> None:
        """Send a raw string, which gets the name of its channel if it is an object."""
        with contextlib.suppress(ValueError):
            content = json.loads(text)
            if isinstance(content, dict) and channel != self.primary:
                text = json.dumps({**content, TAG: channel})
        await self.client.send(text)

    async def send_bytes(self, data: bytes, channel: str) -> None:
        if channel == self.primary:
            await self.client.send(data)
        else:
            await self.send({"event": "pie::binary", TAG: channel, "data": base64.b64encode(data).decode()})

    async def ask_members(self, channel: str) -> None:
        await self.send({"event": "system::get_members", "data": {"channel": channel}})

    async def receive(self, channel: str | None = None) -> Any:
        """Return the next frame that the library gives to a channel, without its name."""
        async with asyncio.timeout(ANSWER_SECONDS):
            frame = await self._inboxes[channel or self.primary].get()
        return {name: value for name, value in frame.items() if name != TAG} if isinstance(frame, dict) else frame

    async def answered(self, sending: Awaitable[None]) -> None:
        """Send something, and return when a further frame has arrived."""
        known = len(self.frames)
        await sending
        await until(lambda: len(self.frames) > known)

    async def settle(self) -> None:
        """Return when the server has handled everything that was sent, and check that no channel has got anything."""
        await self.client.send("cmd_ping")
        assert await self.receive() == {"system": "pong"}
        assert {channel: inbox.qsize() for channel, inbox in self._inboxes.items() if inbox.qsize()} == {}

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                self._take(await self.client.socket.recv())
                await asyncio.sleep(0)  # browsers deliver each message in a turn of its own

    def _take(self, message: str | bytes) -> None:
        assert isinstance(message, str), "the library expects text only"
        try:
            frame = json.loads(message)
        except ValueError:
            frame = message
        assert frame is not None, "the library would fail"
        self.frames.append(frame)
        self.raw.append(message)
        if not isinstance(frame, dict):
            self._inboxes[self.primary].put_nowait(frame)
            return
        data, event = frame.get("data"), frame.get("event")
        named = data.get("channel") if isinstance(data, dict) else None
        if event in _SETTLED_BY:
            self._settle(*_SETTLED_BY[event], str(named), data)
            return
        channel = frame.get(TAG) or named or self.primary
        if channel not in self._handles:
            channel = self.primary
        if event == "system::member_list":
            self.members[channel] = data["members"]
        elif event == "system::member_joined":
            self.members[channel] = [*self._others(channel, data), data["member"]]
        elif event == "system::member_left":
            self.members[channel] = self._others(channel, data)
        elif event == "system::binary":
            frame = base64.b64decode(data)
        self._inboxes[channel].put_nowait(frame)

    def _others(self, channel: str, data: Any) -> list[Any]:
        return [member for member in self.members.get(channel, []) if member["uuid"] != data["member"]["uuid"]]

    def _settle(self, name: str, succeeded: bool, channel: str, data: Any) -> None:
        answer = self._answers.pop((name, channel), None)
        if succeeded and name == "subscribe":
            asyncio.get_running_loop().call_soon(self._handles.add, channel)
        if answer is None or answer.done():
            return
        if succeeded:
            answer.set_result(None)
        else:
            answer.set_exception(Refused(data["error"]))


def v4_path(primary: str, key: str, uuid: str, *, presence: int = 0, notify_self: int = 0, **options: str) -> str:
    """Return the path and the query with which the library connects."""
    more = "".join(f"&{name}={quote(value)}" for name, value in options.items())
    return (
        f"/v4/{primary}?api_key={key}&notify_self={notify_self}&source=jssdk&v=7.3.0"
        f"&presence={presence}{more}&uuid={uuid}"
    )


@asynccontextmanager
async def open_v4(
    server: LiveServer, primary: str, key: str, member: str = "", origin: str | None = None, **options: Any
) -> AsyncIterator[V4Client]:
    """Connect to a channel; `options` are those of the URL."""
    member = member or str(uuid.uuid4())
    async with open_client(server, v4_path(primary, key, member, **options), origin=origin) as client:
        v4 = V4Client(client, primary, member)
        try:
            yield v4
        finally:
            v4.listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await v4.listening

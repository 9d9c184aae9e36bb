"""PieSocket v3: one channel, which the URL names. Every message that is no command goes to this channel."""

from functools import lru_cache, partial

from realtime.protocols import commands
from realtime.protocols.admission import read_v3
from realtime.protocols.closes import tell_piesocket
from realtime.protocols.events import is_forged
from realtime.protocols.frames import Message, system_message
from realtime.sessions.base import NOT_ALLOWED, Notice, Session

FORGED = Notice("forged", "Clients cannot send system events.")


class PieSocketV3(Session):
    """A connection of PieSocket v3. A message is handled without creating a task, changing the thread or copying."""

    __slots__ = ()

    read = staticmethod(read_v3)
    tell = staticmethod(tell_piesocket)

    def open(self) -> None:
        """Send nothing: clients of v3 expect no greeting."""

    def receive(self, data: str | bytes) -> None:
        connection = self.connection
        primary = connection.primary
        if primary is None:
            return  # the server has closed the connection
        bucket = connection.bucket
        bucket.tokens -= 1
        if bucket.tokens < 0 and not bucket.refill():
            self.exceed_rate(connection.path, data)
        elif isinstance(data, str) and data.startswith(commands.PREFIX):
            commands.answer(data, partial(self.node.counts.count, primary.room.channel), connection.send)
        elif not connection.allows_client_messages:
            self.drop(NOT_ALLOWED, connection.path, data)
        elif is_forged(data):
            self.drop(FORGED, connection.path, data)
        else:
            message = Message(data)
            self.publish(primary, data, message, len(message.wire))

    def answer_dropped(self, notice: Notice) -> None:
        self.connection.send(_notice_message(notice))


@lru_cache
def _notice_message(notice: Notice) -> Message:
    return system_message({"error": notice.sentence})

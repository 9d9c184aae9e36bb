"""A mail server of the tests, and what it has received."""

import re
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller

from tests.clients import until
from tests.servers import free_port


class Mailbox:
    """Receives all mails on a port of this machine."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())
        self.url = f"smtp://127.0.0.1:{self._controller.port}"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        return "250 OK"

    def to(self, address: str) -> list[EmailMessage]:
        """Return the mails to an address, oldest first."""
        return [mail for mail in self.mails if mail["To"] == address]

    async def next_mail(self, address: str) -> EmailMessage:
        """Wait for the next mail to an address that no other call has returned, and return it."""
        await until(lambda: self.to(address))
        mail = self.to(address)[0]
        self.mails.remove(mail)
        return mail

    async def next_link(self, address: str) -> str:
        """Wait for the next mail to an address, and return the first link in it."""
        found = re.search(r"https?://\S+", (await self.next_mail(address)).get_content())
        assert found
        return found[0]

    def __enter__(self) -> "Mailbox":
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()

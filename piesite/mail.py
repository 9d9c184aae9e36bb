"""How mails leave the service: through a mail server, or, if there is none, onto the console."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from smtplib import SMTPException
from typing import Any, TextIO

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.console import EmailBackend as ConsoleBackend
from django.core.mail.backends.smtp import EmailBackend as SmtpBackend

logger = logging.getLogger(__name__)

THREADS = 2
MAX_WAITING = 1_000
PREFIX = "MAIL | "


class BackgroundMail(BaseEmailBackend):
    """Sends mails through the server of `EMAIL_URL` in threads of its own.

    So a request neither waits for the mail server nor fails with it, and takes the same time whether it sends a mail or
    not. Mails that cannot be sent are logged, without their text, and lost.
    """

    _executor = ThreadPoolExecutor(THREADS, thread_name_prefix="mail")
    _room = threading.BoundedSemaphore(MAX_WAITING)

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        for message in email_messages:
            if self._room.acquire(blocking=False):
                self._executor.submit(self._send, message)
            else:
                logger.error("A mail was dropped, because %d others wait for the mail server.", MAX_WAITING)
        return len(email_messages)

    def _send(self, message: EmailMessage) -> None:
        server = settings.MAIL_SERVER
        try:
            SmtpBackend(**server).send_messages([message])
        except (OSError, SMTPException) as error:
            logger.error("A mail could not be sent through %s: %s", server["host"], type(error).__name__)
        finally:
            self._room.release()


class PrintedMail(ConsoleBackend):
    """Prints mails for the operator, who passes on what is in them. Each line begins with `MAIL | `."""

    stream: TextIO

    def write_message(self, message: EmailMessage) -> Any:
        lines = [
            f"From: {message.from_email}",
            f"To: {', '.join(message.to)}",
            f"Subject: {message.subject}",
            "",
            *str(message.body).splitlines(),
        ]
        self.stream.write("".join(f"{PREFIX}{line}\n" for line in lines))

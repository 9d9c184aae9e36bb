"""Mails leave without holding a request up, and without a mail server they are printed."""

import io
import time
from typing import Any

import pytest
from django.core.mail import EmailMessage
from environs import EnvError
from pytest_django import Settings

from piesite.environment import mail_server
from piesite.mail import BackgroundMail, PrintedMail
from tests.clients import until
from tests.console.mailbox import Mailbox
from tests.servers import free_port

MESSAGE = EmailMessage("Hello", "Line 1\nLine 2", "no-reply@example.com", ["dev@example.com"])


def test_without_a_mail_server_every_line_has_a_prefix() -> None:
    stream = io.StringIO()
    PrintedMail(stream=stream).send_messages([MESSAGE])
    lines = [line for line in stream.getvalue().splitlines() if line.strip("-")]
    assert lines == [
        "MAIL | From: no-reply@example.com",
        "MAIL | To: dev@example.com",
        "MAIL | Subject: Hello",
        "MAIL | ",
        "MAIL | Line 1",
        "MAIL | Line 2",
    ]


async def test_a_mail_arrives_at_the_server(settings: Settings) -> None:
    with Mailbox() as mailbox:
        settings.MAIL_SERVER = mail_server(mailbox.url)
        assert BackgroundMail().send_messages([MESSAGE]) == 1
        mail = await mailbox.next_mail("dev@example.com")
    assert (mail["Subject"], mail.get_content().split()) == ("Hello", ["Line", "1", "Line", "2"])


async def test_a_mail_server_that_is_down_is_logged_and_delays_nobody(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.MAIL_SERVER = mail_server(f"smtp://user:the-password@127.0.0.1:{free_port()}")
    began = time.monotonic()
    BackgroundMail().send_messages([MESSAGE] * 3)
    assert time.monotonic() - began < 1
    await until(lambda: caplog.text.count("A mail could not be sent through 127.0.0.1: ConnectionRefusedError") == 3)
    assert "the-password" not in caplog.text
    assert "dev@example.com" not in caplog.text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example.com", {"host": "mail.example.com", "port": 25, "use_tls": False, "use_ssl": False}),
        ("submission://a:b%40@mail.example.com", {"port": 587, "use_tls": True, "username": "a", "password": "b@"}),
        ("smtp://a:b@mail.example.com:465?ssl=true", {"port": 465, "use_ssl": True, "use_tls": False, "timeout": 10}),
    ],
)
def test_the_url_says_how_to_reach_the_server(url: str, expected: dict[str, Any]) -> None:
    assert expected.items() <= mail_server(url).items()


@pytest.mark.parametrize(
    "url", ["mail.example.com", "http://mail.example.com", "smtp://x:secret@h:port", "file:///tmp"]
)
def test_another_url_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(EnvError, match="EMAIL_URL is not valid") as error:
        mail_server(url)
    assert "secret" not in str(error.value)
    assert mail_server("") == {}

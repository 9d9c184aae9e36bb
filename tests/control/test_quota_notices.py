"""Warnings of quotas: a mail to the owners once a day, and a banner in the console."""

import re

import pytest
from django.core import mail
from django.test import Client
from pytest_django import Settings

from accounts import services
from accounts.models import Account, QuotaNotice, Role
from accounts.quota_notices import send_quota_notices
from accounts.usage import record_messages, today
from accounts.users import User
from tests.control.conftest import data_plane

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(owner: User, teammate: User) -> Account:
    account = services.create_account("Example Shop", owner)
    services.add_member(account, teammate, Role.VIEWER)
    services.set_quotas(account, max_messages_per_day=1000, max_connections=10)
    account.refresh_from_db()
    return account


@pytest.fixture
def sent(shop: Account) -> None:
    record_messages({shop.pk: 826}, today())


def subjects() -> list[str]:
    return [message.subject for message in mail.outbox]


@pytest.mark.usefixtures("sent")
def test_the_owners_get_one_mail_a_day_at_80_percent_and_one_at_100(shop: Account, stranger: User) -> None:
    services.add_member(shop, stranger, Role.OWNER)
    for _ in range(3):
        send_quota_notices({shop.pk: 0})
    assert subjects() == ["Example Shop has used 80 % of today’s messages"] * 2
    assert [message.to for message in mail.outbox] == [["owner@example.com"], ["stranger@example.com"]]
    assert mail.outbox[0].body.startswith(
        "82 % of today’s messages are used. When the quota of 1,000 is reached, further messages are rejected until "
        "midnight UTC."
    )
    mail.outbox.clear()
    record_messages({shop.pk: 174}, today())
    for _ in range(3):
        send_quota_notices({shop.pk: 0})
    assert subjects() == ["Example Shop has used 100 % of today’s messages"] * 2
    assert "Today’s quota of 1,000 messages is reached. Messages are rejected until" in mail.outbox[0].body


def test_connections_have_notices_of_their_own(shop: Account) -> None:
    send_quota_notices({shop.pk: 7})
    assert subjects() == []
    send_quota_notices({shop.pk: 10})
    send_quota_notices({shop.pk: 8})
    assert subjects() == ["Example Shop has used 100 % of its connections"]
    assert "New connections are rejected until others close." in mail.outbox[0].body


@pytest.mark.usefixtures("sent")
def test_another_day_has_another_mail(shop: Account) -> None:
    send_quota_notices({shop.pk: 0})
    QuotaNotice.objects.update(day="2026-01-01")
    send_quota_notices({shop.pk: 0})
    assert len(subjects()) == 2


@pytest.mark.usefixtures("sent")
def test_an_account_and_the_operator_can_switch_notices_off(shop: Account, settings: Settings) -> None:
    settings.QUOTA_NOTICES = False
    send_quota_notices({shop.pk: 0})
    settings.QUOTA_NOTICES = True
    Account.objects.update(sends_quota_notices=False)
    send_quota_notices({shop.pk: 0})
    assert subjects() == []
    Account.objects.update(sends_quota_notices=True)
    send_quota_notices({shop.pk: 0})
    assert len(subjects()) == 1


@pytest.mark.usefixtures("sent")
def test_a_mail_that_cannot_be_sent_is_sent_later(
    shop: Account, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_PORT = 1
    send_quota_notices({shop.pk: 0})
    assert not QuotaNotice.objects.exists()
    assert "Cannot send the quota notice" in caplog.text
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    send_quota_notices({shop.pk: 0})
    assert len(subjects()) == 1


@pytest.mark.usefixtures("sent")
def test_a_name_cannot_add_headers_to_the_mail(shop: Account) -> None:
    Account.objects.update(name="Shop\r\nBcc: x@example.com")
    send_quota_notices({shop.pk: 0})
    assert subjects() == ["Shop Bcc: x@example.com has used 80 % of today’s messages"]


def banners(client: Client, account: Account) -> list[tuple[str, str]]:
    html = client.get(f"/console/{account.pk}/usage/").content.decode()
    return [
        (tone, re.sub("<[^>]*>", "", text))
        for tone, text in re.findall(r'<div class="banner (\w+)"><p>(.*?)</p>', html)
    ]


@pytest.mark.usefixtures("sent")
def test_the_console_has_a_banner_on_every_page(client: Client, owner: User, shop: Account) -> None:
    client.force_login(owner)
    assert banners(client, shop) == [
        (
            "wait",
            "82 % of today’s messages are used. When the quota of 1,000 is reached, further messages are rejected "
            "until midnight UTC.",
        )
    ]
    record_messages({shop.pk: 174}, today())
    with data_plane(lambda account_ids, **_: [10 for _ in account_ids]):
        (tone, text), connections = banners(client, shop)
    assert tone == "bad"
    assert re.fullmatch(
        r"Today’s quota of 1,000 messages is reached. Messages are rejected until midnight UTC, in (\d+ h )?\d+ min. "
        r"Connections stay open.",
        text,
    )
    assert connections == (
        "bad",
        "The quota of 10 connections is reached. New connections are rejected until others close.",
    )


def test_without_much_use_there_is_no_banner(client: Client, owner: User, shop: Account) -> None:
    client.force_login(owner)
    record_messages({shop.pk: 799}, today())
    assert banners(client, shop) == []
    services.set_quotas(shop, max_messages_per_day=0)
    assert banners(client, shop) == []

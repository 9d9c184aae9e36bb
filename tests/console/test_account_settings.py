"""The settings of an account, its export and its deletion."""

import gc
import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from django.utils import timezone

from accounts import services
from accounts.exports import MAX_AT_ONCE, Export
from accounts.models import Account, ApiKey, AuditEntry, Cluster, Webhook
from accounts.usage_rows import RefusedUsage, Usage
from accounts.users import User
from tests.console.conftest import As
from tests.console.tenants import Tenants

pytestmark = pytest.mark.django_db


def test_owners_rename_the_account_and_switch_notices_off(as_: As, account: Account) -> None:
    client, path = as_("owner"), f"/console/{account.pk}/settings/"
    assert " checked" in client.get(path).content.decode()
    assert "Settings saved." in client.post(path, {"name": " Shop "}, follow=True).content.decode()
    account.refresh_from_db()
    assert (account.name, account.sends_quota_notices) == ("Shop", False)


@pytest.mark.parametrize(("name", "sentence"), [("", "Enter a name."), ("x" * 101, "at most 100 characters")])
def test_a_wrong_name_is_kept_in_the_form_with_a_sentence(as_: As, account: Account, name: str, sentence: str) -> None:
    page = as_("owner").post(f"/console/{account.pk}/settings/", {"name": name}).content.decode()
    assert sentence in page
    assert f'value="{name}"' in page or not name
    account.refresh_from_db()
    assert (account.name, account.sends_quota_notices) == ("Example Shop", True)


@pytest.mark.parametrize("role", ["developer", "viewer"])
def test_others_learn_who_can_do_it(as_: As, account: Account, role: str) -> None:
    for path in ("settings/", "settings/export/", "settings/delete/"):
        answer = as_(role).get(f"/console/{account.pk}/{path}")
        page = answer.content.decode()
        assert answer.status_code == 403
        assert "You cannot change the settings in this account" in page
        assert f"Your role is {role}. Owners can rename, export and delete the account." in page
    assert "Account settings" not in as_(role).get(f"/console/{account.pk}/people/").content.decode()


def test_a_suspended_account_can_be_read_and_exported_but_not_changed(as_: As, account: Account) -> None:
    services.suspend_account(account)
    client, path = as_("owner"), f"/console/{account.pk}/settings/"
    page = client.get(path).content.decode()
    assert "This account is suspended." in page
    assert "Export everything as JSON" in page
    assert "<form" not in page.partition("<main")[2]
    assert client.post(path, {"name": "x"}).status_code == 403
    assert client.get(f"{path}export/").status_code == 200
    assert client.get(f"{path}delete/").status_code == 403
    page = client.get(f"/console/{account.pk}/people/").content.decode()
    assert "people/invite/" not in page
    assert "people/leave/" not in page


@pytest.mark.django_db(transaction=True)
async def test_the_export_has_everything_but_secrets(shops: Tenants) -> None:
    now = timezone.now()
    for account_pk, messages in ((shops.shop.account, 7), (shops.other.account, 8)):
        row = {"account_pk": account_pk, "unit": "hour", "start": now}
        await Usage.objects.acreate(**row, messages=messages)
        await RefusedUsage.objects.acreate(**row, reason="bad_jwt" if messages == 7 else "bad_key")
    client = AsyncClient()
    owner = await User.objects.aget(pk=shops.people["owner"])
    await client.aforce_login(owner)
    answer: Any = await client.get(f"/console/{shops.shop.account}/settings/export/")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="account-{shops.shop.account}.json"'
    text = b"".join([part async for part in answer.streaming_content]).decode()
    exported = json.loads(text)
    assert exported["account"]["name"] == "Example Shop"
    assert [person["email"].partition("@")[0] for person in exported["people"]] == ["owner", "developer", "viewer"]
    assert [cluster["cluster_id"] for cluster in exported["clusters"]] == ["shop"]
    assert [key["public_key"] for key in exported["api_keys"]] == [shops.shop.public_key]
    assert {"audit", "usage", "invitations", "exported_at"} < set(exported)
    assert {entry["verb"] for entry in exported["audit"]} == {"created"}
    assert [row["messages"] for row in exported["usage"]] == [7]
    assert [row["reason"] for row in exported["refusals"]] == ["bad_jwt"]
    key = await ApiKey.objects.aget(pk=shops.shop.key)
    assert shops.shop.secret not in text
    assert key.secret_ciphertext not in text
    assert "stranger" not in text
    assert "stall" not in text


@pytest.mark.django_db(transaction=True)
async def test_a_long_export_is_whole_and_hides_operators(shops: Tenants) -> None:
    account = await Account.objects.aget(pk=shops.shop.account)
    entry = {"account_pk": account.pk, "email": "operator@example.com", "source": "admin", "verb": "changed"}
    await AuditEntry.objects.abulk_create(
        AuditEntry(**entry, kind="account", changes={"name": ["", f"Shop {number}"]}) for number in range(1_100)
    )
    client = AsyncClient()
    await client.aforce_login(await User.objects.aget(pk=shops.people["owner"]))
    answer: Any = await client.get(f"/console/{account.pk}/settings/export/")
    exported = json.loads(b"".join([part async for part in answer.streaming_content]))
    names = [entry["changes"]["name"][1] for entry in exported["audit"] if entry["verb"] == "changed"]
    assert names == [f"Shop {number}" for number in range(1_100)]
    assert {entry["email"] for entry in exported["audit"]} == {None}


@pytest.mark.django_db(transaction=True)
async def test_the_export_has_webhooks_and_their_deliveries_without_secrets(shops: Tenants) -> None:
    @sync_to_async
    def create() -> tuple[Webhook, str, str]:
        cluster = Cluster.objects.get(cluster_id="shop")
        settings: dict[str, Any] = {"kinds": ["client_event"], "headers": {"X-Key": "s3cret"}}
        created = services.create_webhook(cluster, "https://example.com/hook", **settings)
        return created.webhook, created.secret, services.send_test_event(created.webhook).message_id

    webhook, secret, message_id = await create()
    client = AsyncClient()
    await client.aforce_login(await User.objects.aget(pk=shops.people["owner"]))
    answer: Any = await client.get(f"/console/{shops.shop.account}/settings/export/")
    text = b"".join([part async for part in answer.streaming_content]).decode()
    exported = json.loads(text)
    assert [(row["cluster_id"], row["url"]) for row in exported["webhooks"]] == [("shop", "https://example.com/hook")]
    assert [(row["webhook"], row["message_id"]) for row in exported["webhook_deliveries"]] == [(webhook.pk, message_id)]
    for hidden in (secret, "s3cret", webhook.secret_ciphertext, webhook.headers_ciphertext):
        assert hidden not in text


def test_exports_are_limited(as_: As, account: Account) -> None:
    client, path = as_("owner"), f"/console/{account.pk}/settings/export/"
    for status in [*[200] * 10, 302]:
        answer: Any = client.get(path)
        assert answer.status_code == status
        answer.close()  # as servers do; otherwise the export would still run
    assert "Too many attempts. Try again in 10 minutes." in client.get(path, follow=True).content.decode()


def test_few_accounts_are_exported_at_the_same_time(as_: As, account: Account) -> None:
    gc.collect()  # ends exports that earlier tests have not read
    running = [Export(services.create_account(f"Account {number}")) for number in range(MAX_AT_ONCE)]
    path = f"/console/{account.pk}/settings/export/"
    answer = as_("owner").get(path)
    assert answer.status_code == 409
    assert "Other accounts are being exported now." in answer.content.decode()
    for export in running:
        export.close()
    assert as_("owner").get(path).status_code == 200


def test_deleting_asks_for_the_name_and_says_what_goes(as_: As, account: Account, shops: Tenants) -> None:
    client, path = as_("owner"), f"/console/{account.pk}/settings/delete/"
    page = client.get(path).content.decode()
    assert "Delete “Example Shop”?" in page
    assert "Everything is deleted: 1 cluster, 1 key, usage. This cannot be undone." in page
    services.invite(account, "new@example.com")
    webhook = services.create_webhook(account.clusters.get(), "https://example.com/", kinds=["client_event"]).webhook
    page = client.get(path).content.decode()
    assert "Everything is deleted: 1 cluster, 1 key, 1 webhook, 1 invitation, usage. This cannot be undone." in page
    services.delete_webhook(webhook)
    for name in ("", "example shop", "Other Company"):
        assert "Type Example Shop to delete the account." in client.post(path, {"name": name}).content.decode()
    assert Account.objects.filter(pk=account.pk).exists()
    page = client.post(path, {"name": "Example Shop"}, follow=True).content.decode()
    assert "Example Shop is deleted." in page
    assert not Account.objects.filter(pk=account.pk).exists()
    assert Account.objects.filter(pk=shops.other.account).exists()
    assert client.get(path).status_code == 404


def test_the_name_of_the_account_is_shown_as_text(as_: As, account: Account) -> None:
    services.rename_account(account, "<b>Shop</b>&amp;")
    for path in ("settings/", "settings/delete/", "people/leave/", "activity/"):
        page = as_("owner").get(f"/console/{account.pk}/{path}").content.decode()
        assert "<b>Shop" not in page
        assert "&lt;b&gt;Shop&lt;/b&gt;&amp;amp;" in page

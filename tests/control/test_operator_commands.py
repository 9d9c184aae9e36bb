"""The commands with which operators manage accounts: `account`, `cluster`, `key`, `usage` and `webhook`."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts import services
from accounts.access import find_access
from accounts.checks import check_stored_secrets
from accounts.models import Account, ApiKey, AuditEntry, AuditSource, Cluster, Role, Webhook
from accounts.usage import record_messages, today
from accounts.users import User

from .conftest import secret_of

pytestmark = pytest.mark.django_db


def run(*arguments: object) -> str:
    output = io.StringIO()
    call_command(*map(str, arguments), stdout=output)
    return output.getvalue()


def run_json(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json"))


def last_entry() -> tuple[str, str, str]:
    entry = AuditEntry.objects.latest("pk")
    return entry.source, entry.verb, entry.kind


def test_an_account_is_created_with_its_owner_and_quotas(owner: User) -> None:
    made = run_json("account", "create", "Acme", "--owner", "Owner@Example.com", "--max-connections", 0)
    account = Account.objects.get()
    assert (made["id"], made["name"], made["suspended"]) == (account.pk, "Acme", False)
    assert (made["max_connections"], made["max_messages_per_day"]) == (0, None)
    membership = account.memberships.get()
    assert (membership.user, membership.role) == (owner, Role.OWNER)


def test_nothing_is_created_for_an_owner_who_does_not_exist() -> None:
    with pytest.raises(CommandError, match=r"No active user has the e-mail address a@b\.org\."):
        run("account", "create", "Acme", "--owner", "a@b.org")
    assert not Account.objects.exists()


def test_quotas_are_set_and_restored_to_the_default(account: Account) -> None:
    run("account", "limit", account.pk, "--max-connections", 7, "--max-messages-per-day", 9)
    run("account", "limit", account.pk, "--max-connections", "default")
    account.refresh_from_db()
    assert (account.max_connections, account.max_messages_per_day) == (None, 9)
    with pytest.raises(CommandError, match="Set at least one quota"):
        run("account", "limit", account.pk)
    with pytest.raises(CommandError, match='neither a whole number nor "default"'):
        run("account", "limit", account.pk, "--max-connections", "many")


def test_an_account_is_suspended_and_resumed(
    account: Account, announcements: list[dict[str, object]], django_capture_on_commit_callbacks: Any
) -> None:
    for command, suspended, verb in (("suspend", True, "suspended"), ("resume", False, "resumed")):
        with django_capture_on_commit_callbacks(execute=True):
            assert run_json("account", command, account.pk)["suspended"] is suspended
        account.refresh_from_db()
        assert account.suspended is suspended
        assert last_entry() == (AuditSource.COMMAND, verb, "account")
    assert announcements == [{"account_id": account.pk}] * 2


def test_accounts_are_listed_and_searched(account: Account, foreign_key: ApiKey) -> None:
    assert [row["name"] for row in run_json("account", "list")] == ["Acme", "Other"]
    assert [row["name"] for row in run_json("account", "list", "--search", "aCM")] == ["Acme"]
    assert run_json("account", "list", "--search", "nothing") == []
    assert "Acme" in run("account", "list")
    assert run("account", "list", "--search", "nothing") == "None.\n"


def test_clusters_are_created_listed_and_switched(account: Account, foreign_key: ApiKey) -> None:
    assert run_json("cluster", "create", account.pk, "fresh")["cluster"] == "fresh"
    assert [row["cluster"] for row in run_json("cluster", "list")] == ["fresh", "other"]
    assert [row["cluster"] for row in run_json("cluster", "list", "--account", account.pk)] == ["fresh"]
    for command, enabled in (("disable", False), ("enable", True)):
        assert run_json("cluster", command, "fresh")["enabled"] is enabled
        assert Cluster.objects.get(cluster_id="fresh").enabled is enabled
    with pytest.raises(CommandError, match="cluster_id: "):
        run("cluster", "create", account.pk, "Not A Label")


def test_a_key_is_issued_with_its_settings_and_shown_with_its_secret_once(cluster: Cluster) -> None:
    issued = run_json(
        *("key", "issue", "acme", "web", "--protects-channels", "--no-client-messages", "--closes-expired-connections"),
        *("--allowed-origin", "A.example", "--allowed-origin", "b.example", "--max-connections", 3),
    )
    key = ApiKey.objects.get()
    assert (issued["key"], issued["secret"]) == (key.public_key, secret_of(key))
    assert (key.protects_channels, key.allows_client_messages, key.max_connections) == (True, False, 3)
    assert key.closes_expired_connections
    assert key.allowed_origins == ["a.example", "b.example"]
    assert last_entry() == (AuditSource.COMMAND, "created", "key")
    assert issued["secret"] not in run("key", "list") + run("key", "revoke", key.public_key)


def test_a_key_is_rotated_and_revoked_but_not_rotated_afterwards(key: ApiKey) -> None:
    rotated = run_json("key", "rotate", key.public_key)
    assert rotated["secret"] == secret_of(key)
    assert run_json("key", "revoke", key.public_key)["revoked"] is True
    assert ApiKey.objects.get().revoked
    with pytest.raises(CommandError, match="revoked"):
        run("key", "rotate", key.public_key)


def test_the_old_secret_of_a_key_overlaps_and_is_ended_early(key: ApiKey) -> None:
    old = secret_of(key)
    rotated = run_json("key", "rotate", key.public_key, "--overlap-seconds", 3600)
    access = find_access(key.public_key)
    assert access is not None
    assert (access.secret, access.old_secret) == (rotated["secret"], old)
    assert rotated["old_secret_ends_at"] == datetime.fromtimestamp(access.old_secret_ends_at, UTC).isoformat()
    assert run_json("key", "end-old-secret", key.public_key)["old_secret_ends_at"] is None
    access = find_access(key.public_key)
    assert access is not None
    assert (access.secret, access.old_secret) == (rotated["secret"], None)
    assert last_entry() == (AuditSource.COMMAND, "ended", "key")
    for seconds in ("-1", "604801", "9" * 30, "soon", "1.5"):
        with pytest.raises(CommandError, match="--overlap-seconds"):
            run("key", "rotate", key.public_key, f"--overlap-seconds={seconds}")


def test_keys_are_listed_by_account_and_cluster(key: ApiKey, foreign_key: ApiKey) -> None:
    account = key.cluster.account.pk
    assert {row["key"] for row in run_json("key", "list")} == {key.public_key, foreign_key.public_key}
    assert [row["key"] for row in run_json("key", "list", "--account", account)] == [key.public_key]
    assert [row["key"] for row in run_json("key", "list", "--cluster", "other")] == [foreign_key.public_key]


def test_keys_and_webhooks_whose_secrets_are_lost_can_be_found_and_removed(
    settings: Settings, key: ApiKey, webhook: Webhook
) -> None:
    services.suspend_account(key.cluster.account)
    settings.ENCRYPTION_KEYS = ["n" * 40]
    kept = services.create_account("Kept", key.cluster.account.memberships.first().user)
    new = services.create_cluster(kept, "new")
    services.issue_key(new, "new")
    good = services.create_webhook(new, webhook.url, kinds=webhook.kinds).webhook
    assert [error.id for error in check_stored_secrets(None, ["default"])] == ["accounts.E007", "accounts.E022"]
    assert [row["key"] for row in run_json("key", "list", "--undecryptable")] == [key.public_key]
    run("key", "revoke", key.public_key)
    assert run_json("key", "list", "--undecryptable") == []
    listed = run_json("webhook", "list", "--undecryptable")
    assert [(row["id"], row["url"]) for row in listed] == [(webhook.pk, webhook.url)]
    assert [row["id"] for row in run_json("webhook", "delete", webhook.pk)] == [webhook.pk]
    assert last_entry() == (AuditSource.COMMAND, "deleted", "webhook")
    assert check_stored_secrets(None, ["default"]) == []
    assert [row["id"] for row in run_json("webhook", "list")] == [good.pk]


def test_webhooks_are_listed_by_account_without_the_query_of_their_url(
    account: Account, webhook: Webhook, foreign_key: ApiKey
) -> None:
    url = "https://example.com/other"
    other = services.create_webhook(foreign_key.cluster, f"{url}?token=secret", kinds=webhook.kinds).webhook
    assert [row["id"] for row in run_json("webhook", "list")] == [webhook.pk, other.pk]
    (row,) = run_json("webhook", "list", "--account", foreign_key.cluster.account.pk)
    assert (row["id"], row["url"]) == (other.pk, url)


def test_no_webhook_is_deleted_if_one_of_several_does_not_exist(webhook: Webhook) -> None:
    with pytest.raises(CommandError, match=r"^There is no webhook with the ID 999\.$"):
        run("webhook", "delete", webhook.pk, 999)
    assert Webhook.objects.filter(pk=webhook.pk).exists()


def test_usage_lists_the_busiest_account_first(account: Account, stranger: User) -> None:
    busy = services.create_account("Busy", stranger)
    record_messages({account.pk: 2, busy.pk: 5}, today())
    rows = run_json("usage")
    assert [(row["name"], row["messages"]) for row in rows] == [("Busy", 5), ("Acme", 2)]
    # Without Redis, only the server itself knows how many connections are open.
    assert [row["connections"] for row in rows] == [None, None]
    assert [row["name"] for row in run_json("usage", account.pk)] == ["Acme"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("account", "suspend", 999),
        ("account", "limit", 999, "--max-connections", 1),
        ("cluster", "create", 999, "fresh"),
        ("cluster", "disable", "none"),
        ("cluster", "list", "--account", 999),
        ("key", "issue", "none", "web"),
        ("key", "revoke", "x" * 60),
        ("key", "rotate", "x" * 60),
        ("key", "end-old-secret", "x" * 60),
        ("key", "list", "--account", 999),
        ("usage", 999),
        ("webhook", "list", "--account", 999),
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:2])),
)
def test_what_does_not_exist_is_reported_in_a_sentence(arguments: tuple[object, ...]) -> None:
    with pytest.raises(CommandError, match=r"^There is no (account|cluster|API key)\b.*\.$"):
        run(*arguments)


@pytest.mark.parametrize("command", ["account", "cluster", "key", "usage", "webhook"])
def test_the_help_explains_every_subcommand(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call_command(command, "--help")
    for line in capsys.readouterr().out.splitlines():
        assert line.strip() not in ("list", "create", "issue")  # a subcommand without a description

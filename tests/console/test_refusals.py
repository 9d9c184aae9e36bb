"""Refusals: what is kept, counted and forgotten, who sees it, and the remedy of each."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import services
from accounts.models import Account, ApiKey, ApiToken, Cluster, Refusal, RefusalCount
from accounts.refusals import KEPT_PER_KEY, prune_refusals, reasons_of, recent_problems, record_refusals, refusals_of
from accounts.refused_clients import Cause, RefusedClient
from accounts.users import User
from tests.console.conftest import As
from tests.console.tenants import Tenants

pytestmark = pytest.mark.django_db


def cause_of(
    key: ApiKey | None, code: int = 4003, reason: str = "bad_origin", detail: str = "", host: str | None = None
) -> Cause:
    if key is None:
        return Cause(None, None, host, "", code, reason, detail)
    return Cause(key.cluster.account_id, key.cluster_id, host, key.public_key, code, reason, detail)


def refused(cause: Cause, at: float | None = None, **values: Any) -> RefusedClient:
    given = {"channel": "room", "origin": "", "user": "", "address": "192.0.2.7", "client": "", "facts": {}, **values}
    return RefusedClient(cause=cause, at=time.time() if at is None else at, **given)


def record(*clients: RefusedClient) -> None:
    counts: dict[Cause, int] = {}
    for client in clients:
        counts[client.cause] = counts.get(client.cause, 0) + 1
    record_refusals(counts, clients)


def test_the_last_100_of_each_key_are_kept_and_all_are_counted(account: Account, key: ApiKey) -> None:
    other = services.issue_key(key.cluster, "other").key
    now = time.time()
    for start in range(0, 250, 50):
        record(
            *(refused(cause_of(key), now - 250 + start + number, channel=f"c{start + number}") for number in range(50))
        )
    record(refused(cause_of(other)))
    kept = list(refusals_of(account, public_key=key.public_key).values_list("channel", flat=True))
    assert kept == [f"c{number}" for number in range(249, 249 - KEPT_PER_KEY, -1)]
    assert [(one.key, one.refusals) for one in reasons_of(account)] == [(key, 250), (other, 1)]


def test_what_is_not_kept_is_counted_too(account: Account, key: ApiKey) -> None:
    record_refusals({cause_of(key): 1_000_000}, [refused(cause_of(key))])
    assert [one.refusals for one in reasons_of(account)] == [1_000_000]
    assert Refusal.objects.count() == 1


def test_refusals_are_forgotten_after_a_day(account: Account, key: ApiKey) -> None:
    record(refused(cause_of(key), time.time() - 86_500), refused(cause_of(key)))
    RefusalCount.objects.create(
        hour=timezone.now() - timedelta(hours=26), account_pk=1, cluster_pk=1, code=1, reason="x"
    )
    assert refusals_of(account).count() == 1
    assert prune_refusals() is False
    assert (Refusal.objects.count(), RefusalCount.objects.count()) == (1, 1)


def test_without_a_valid_key_they_belong_to_the_cluster_of_the_host(
    account: Account, cluster: Cluster, shops: Tenants
) -> None:
    record(refused(cause_of(None, 4001, "bad_key", "unknown", host=cluster.cluster_id)))
    record(refused(cause_of(None, 4001, "bad_key", "unknown", host="nobodys")))
    record(refused(cause_of(None, 4001, "bad_key", "unknown")))
    assert [(one.cluster, one.key) for one in reasons_of(account)] == [(cluster, None)]
    assert reasons_of(Account.objects.get(pk=shops.other.account)) == []


def test_the_key_of_another_account_is_never_named(account: Account, cluster: Cluster, shops: Tenants) -> None:
    foreign = ApiKey.objects.get(pk=shops.other.key)
    record(refused(cause_of(foreign, 4001, "bad_key", "other_cluster", host=cluster.cluster_id)))
    (shown,) = reasons_of(account)
    assert (shown.label, shown.key, shown.latest.public_key) == ("API key not valid", None, "")
    assert reasons_of(Account.objects.get(pk=shops.other.account)) == []


def test_an_own_key_of_another_cluster_is_named(account: Account, cluster: Cluster) -> None:
    depot = services.issue_key(services.create_cluster(account, "depot"), "Depot").key
    facts = {"host": cluster.cluster_id}
    record(refused(cause_of(depot, 4001, "bad_key", "other_cluster", host=cluster.cluster_id), facts=facts))
    (shown,) = reasons_of(account)
    assert (shown.cluster, shown.key) == (cluster, depot)
    assert str(shown.remedy) == "This key belongs to your cluster depot; the client connects to shop."


REMEDIES: list[tuple[int, str, str, dict[str, Any], str, str]] = [
    (
        4000,
        "bad_request",
        "channel",
        {},
        "Channel ID not valid",
        "Channel IDs are 1 to 128 letters, digits, hyphens and underscores.",
    ),
    (
        4000,
        "bad_request",
        "option",
        {"facts": {"sentence": "The option presence must be 1 or 0."}},
        "Option not valid",
        "The option presence must be 1 or 0.",
    ),
    (4001, "bad_key", "unknown", {}, "API key not valid", "Check that the client sends the whole key."),
    (
        4003,
        "bad_origin",
        "",
        {"origin": "https://staging.example.com"},
        "Origin not allowed",
        "Is https://staging.example.com yours? Then add it to the allowed origins.",
    ),
    (
        4003,
        "bad_origin",
        "",
        {"origin": "null"},
        "Origin not allowed",
        "“null” cannot be allowed by name. Such pages can connect only with a key that allows all origins.",
    ),
    (4003, "cluster_off", "", {}, "Cluster is off", "Switch the cluster on."),
    (4003, "account_suspended", "", {}, "Account suspended", "Contact support."),
    (
        4004,
        "quota_used_up",
        "",
        {"facts": {"limit": 2000, "quota": "account"}},
        "Connection quota used up",
        "2,000 of 2,000 connections of the account were open. Close some, or ask for a higher quota.",
    ),
    (
        4004,
        "too_many_members",
        "",
        {},
        "Channel has too many members",
        "Connect without presence, or use several channels.",
    ),
    (
        4009,
        "bad_jwt",
        "missing",
        {},
        "JWT not valid: missing",
        "This channel needs a JWT. Sign one with the secret of this key.",
    ),
    (4009, "bad_jwt", "expired", {}, "JWT not valid: expired", "Give clients a new JWT before they reconnect."),
    (
        4009,
        "bad_jwt",
        "other_channel",
        {"channel": "orders-2", "facts": {"jwt_channel": "orders-1"}},
        "JWT not valid: for another channel",
        "The JWT is for orders-1; the client opened orders-2.",
    ),
    (
        4009,
        "bad_jwt",
        "other_secret",
        {},
        "JWT not valid: signed with another secret",
        "Sign with the secret of this key.",
    ),
    (
        1013,
        "over_capacity",
        "",
        {},
        "Server at capacity",
        "Clients reconnect by themselves. If this lasts, contact support.",
    ),
    (
        1013,
        "too_many_of_address",
        "",
        {},
        "Too many connections from one address",
        "Clients reconnect by themselves. If this lasts, contact support.",
    ),
    (
        1009,
        "too_big",
        "",
        {"facts": {"bytes": 70102, "limit": 65536}},
        "Message too large",
        "The message had 70,102 bytes; this key allows 65,536.",
    ),
    (
        4301,
        "too_fast",
        "",
        {"facts": {"rate": 240, "limit": 20}},
        "Too many messages",
        "The client sent 240 a second; this key allows 20.",
    ),
]


@pytest.mark.parametrize(("code", "reason", "detail", "values", "label", "remedy"), REMEDIES, ids=lambda value: None)
def test_each_reason_has_a_remedy(
    account: Account,
    key: ApiKey,
    as_: As,
    code: int,
    reason: str,
    detail: str,
    values: dict[str, Any],
    label: str,
    remedy: str,
) -> None:
    record(refused(cause_of(key, code, reason, detail), **values))
    (shown,) = reasons_of(account)
    assert (shown.label, str(shown.remedy)) == (label, remedy)
    page = as_("viewer").get(f"/console/{account.pk}/refusals/").content.decode()
    assert f"{label}<span" in page.replace(": “room”", "")
    assert f"close code {code}" in page


def test_a_revoked_key_says_since_when(account: Account, key: ApiKey) -> None:
    services.revoke_key(key)
    record(refused(cause_of(key, 4001, "bad_key", "revoked")))
    today = timezone.now()
    assert str(reasons_of(account)[0].remedy) == (
        f"This key was revoked on {today.day} {today:%B}. Some clients still use it."
    )


def test_problems_are_at_most_five_newest_first(account: Account, key: ApiKey) -> None:
    now = time.time()
    record(*(refused(cause_of(key, 4000 + number, f"reason{number}"), now - 100 + number) for number in range(7)))
    assert [problem.latest.code for problem in recent_problems(account)] == [4006, 4005, 4004, 4003, 4002]


def test_the_page_searches_and_filters(account: Account, key: ApiKey, as_: As) -> None:
    record(
        refused(cause_of(key), origin="https://one.example", user="ann"),
        refused(cause_of(key, 4009, "bad_jwt", "expired"), address="198.51.100.9", channel="orders"),
    )
    client = as_("viewer")

    def found(query: str) -> set[str]:
        page = client.get(f"/console/{account.pk}/refusals/?{query}").content.decode().partition("Each refusal")[2]
        body = page.partition("<tbody")[2]
        return {name for name in ("one.example", "198.51.100.9") if name in body}

    assert found("") == {"one.example", "198.51.100.9"}
    assert found("q=ANN") == found("reason=bad_origin") == found("q=one.example") == {"one.example"}
    assert found("q=orders") == found("q=198.51") == {"198.51.100.9"}
    assert found(f"key={key.public_key}") == {"one.example", "198.51.100.9"}
    assert found("key=nothing") == found("q=%00%F0") == set()
    assert "No refusal matches “nowhere”" in client.get(f"/console/{account.pk}/refusals/?q=nowhere").content.decode()


def test_without_refusals_the_page_says_what_that_means(account: Account, as_: As) -> None:
    page = as_("viewer").get(f"/console/{account.pk}/refusals/").content.decode()
    assert "No refusals in the last 24 hours" in page
    assert "check the host name" in page


def test_two_hundred_refusals_are_paged(account: Account, key: ApiKey, as_: As) -> None:
    others = [services.issue_key(key.cluster, f"key {number}").key for number in range(2)]
    for each in others:
        record(*(refused(cause_of(each), channel=f"c{number}") for number in range(100)))
    page = as_("owner").get(f"/console/{account.pk}/refusals/?page=2").content.decode()
    assert "Showing 51 to 100 of 200" in page
    assert "?page=3&amp;q=&amp;key=&amp;reason=" in page


def test_hostile_values_are_shown_as_text(account: Account, key: ApiKey, as_: As) -> None:
    hostile = "<script>alert(1)</script>"
    record(refused(cause_of(key), origin=hostile, user=hostile, client=hostile, channel=hostile))
    page = as_("owner").get(f"/console/{account.pk}/refusals/").content.decode()
    assert hostile not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.mark.parametrize(("role", "status"), [("owner", 200), ("developer", 200), ("viewer", 200), ("stranger", 404)])
@pytest.mark.parametrize("path", ["refusals/", "refusals/reasons/"])
def test_the_rest_api_has_the_same(
    account: Account, key: ApiKey, shops: Tenants, role: str, status: int, path: str
) -> None:
    record(refused(cause_of(key, 4009, "bad_jwt", "expired"), user="ann"))
    client = APIClient()
    token = ApiToken.objects.create(User.objects.get(pk=shops.people[role]))[1]
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    answer = client.get(f"/api/v1/accounts/{account.pk}/{path}")
    assert answer.status_code == status
    if status == 200:
        shown = answer.data["results"][0] if path == "refusals/" else answer.data[0]
        assert shown["cluster"] == "shop"
        assert shown["key"] == key.public_key
        assert (shown["code"], shown["sentence"]) == (4009, "JWT not valid: expired")
        assert shown["remedy"] == "Give clients a new JWT before they reconnect."
        assert shown.get("user", "ann") == "ann"
        assert shown.get("refusals", 1) == 1


ROLES = {"owner": 200, "developer": 200, "viewer": 403, "stranger": 404}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "page", ["", "shop/", "shop/channels/", "shop/channels/?channel=x", "shop/disconnect/?channel=x"]
)
def test_only_developers_and_owners_open_live(account: Account, as_: As, role: str, page: str) -> None:
    answer = as_(role).get(f"/console/{account.pk}/live/{page}", follow=True)
    assert answer.status_code == ROLES[role]


@pytest.mark.parametrize("path", ["live/stall/", "live/stall/channels/", "live/stall/disconnect/"])
def test_the_cluster_of_another_account_does_not_exist(account: Account, as_: As, path: str) -> None:
    assert as_("owner").get(f"/console/{account.pk}/{path}").status_code == 404


@pytest.mark.parametrize("path", ["live/shop/send/", "live/shop/disconnect/"])
def test_viewers_change_nothing(account: Account, as_: As, path: str) -> None:
    data = {"channel": "x", "message": "y", "connection": "z"}
    assert as_("viewer").post(f"/console/{account.pk}/{path}", data).status_code == 403
    assert as_("stranger").post(f"/console/{account.pk}/{path}", data).status_code == 404


def test_live_of_a_suspended_account_says_why_it_shows_nothing(account: Account, as_: As) -> None:
    services.suspend_account(account)
    page = as_("owner").get(f"/console/{account.pk}/live/shop/").content.decode()
    assert "Live needs an active account." in page
    assert "data-stream" not in page
    assert as_("owner").post(f"/console/{account.pk}/live/shop/send/", {}).status_code == 403


def test_live_leads_to_the_cluster_that_was_watched_last(account: Account, as_: As) -> None:
    services.create_cluster(account, "depot")
    client = as_("owner")
    live = f"/console/{account.pk}/live/"
    assert client.get(live)["Location"] == f"{live}depot/"
    client.get(f"{live}shop/")
    assert client.get(live)["Location"] == f"{live}shop/"
    assert client.get(f"{live}shop/?cluster=depot")["Location"] == f"{live}depot/"


def test_viewers_do_not_see_live_in_the_navigation(account: Account, as_: As) -> None:
    assert f"/console/{account.pk}/live/" not in as_("viewer").get(f"/console/{account.pk}/refusals/").content.decode()
    assert f"/console/{account.pk}/live/" in as_("developer").get(f"/console/{account.pk}/refusals/").content.decode()

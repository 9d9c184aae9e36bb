"""Invalid input to the management API: every answer says what is wrong."""

import json
from io import BytesIO
from typing import Any

import pytest
from pytest_django import Settings

from accounts.models import Account, ApiKey, Cluster, Membership
from accounts.users import User
from tests.control.conftest import As

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "path",
    [
        *("accounts/999999999999999999999999/", "accounts/0/", "accounts/x/", "accounts/-1/", "clusters/%00/"),
        *("keys/x/", "keys/" + "k" * 60 + "/", "keys/?page=x", "keys/?page=99999999999999999999", "none/"),
    ],
)
def test_unknown_objects_pages_and_paths_get_404(as_: As, owner: User, path: str) -> None:
    assert as_(owner).get(f"/api/v1/{path}").status_code == 404


def test_invalid_json_gets_400(as_: As, owner: User, account: Account) -> None:
    for body in ("{", "\xff", "nul", '{"name": NaN}'):
        answer = as_(owner).post("/api/v1/accounts/", body.encode("latin-1"), content_type="application/json")
        assert answer.status_code == 400


def test_attempts_to_log_in_are_counted_before_their_body_is_parsed(as_: As, monkeypatch: pytest.MonkeyPatch) -> None:
    from rest_framework.throttling import AnonRateThrottle

    monkeypatch.setitem(AnonRateThrottle.THROTTLE_RATES, "anon", "3/min")
    client = as_(None)
    answers = [client.post("/api/v1/token/", b"{", content_type="application/json") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60


def test_requests_are_throttled(as_: As, owner: User, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from rest_framework.throttling import UserRateThrottle

    monkeypatch.setitem(UserRateThrottle.THROTTLE_RATES, "user", "3/min")
    client = as_(owner)
    assert [client.get("/api/v1/accounts/").status_code for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize("body", ["[" * 200_000, '{"name":' * 100_000])
def test_json_that_is_nested_too_deeply_gets_400(as_: As, owner: User, account: Account, body: str) -> None:
    answer = as_(owner).post("/api/v1/accounts/", body, content_type="application/json")
    assert (answer.status_code, answer.json()) == (400, {"detail": "JSON parse error - nested too deeply"})


@pytest.mark.parametrize("account", ["1e400", "-1e400", "1" * 30, "1.5", "true", "[]", "{}", '"1\\u0000"', '"\\ud800"'])
def test_an_invalid_or_unknown_account_is_reported(as_: As, owner: User, account: str) -> None:
    body = f'{{"account": {account}, "cluster_id": "fresh"}}'
    answer = as_(owner).post("/api/v1/clusters/", body, content_type="application/json")
    assert answer.status_code == 400
    assert list(answer.json()) == ["account"]
    assert not Cluster.objects.exists()


@pytest.mark.parametrize("name", ["a\0", "\ud800", {}, [], None, True, 1e308, 10**30, "x" * 100_000])
def test_an_invalid_email_address_or_cluster_id_is_reported(as_: As, owner: User, account: Account, name: Any) -> None:
    client = as_(owner)
    path = f"/api/v1/accounts/{account.pk}/invitations/"
    for to, field, more in ((path, "email", {}), ("/api/v1/keys/", "cluster", {"label": "x"})):
        answer = client.post(to, json.dumps({field: name, **more}), content_type="application/json")
        assert answer.status_code == 400
        assert list(answer.json()) == [field]
        assert len(answer.content) < 1000
    assert (Membership.objects.count(), ApiKey.objects.count()) == (2, 0)


@pytest.mark.parametrize(
    "query",
    [
        *("keys/?cluster=%00", "keys/?cluster=%ed%a0%80", "clusters/?account=999999999999999999"),
    ],
)
def test_filters_without_a_match_return_an_empty_list(as_: As, owner: User, account: Account, query: str) -> None:
    answer = as_(owner).get(f"/api/v1/{query}")
    assert (answer.status_code, answer.json()["results"]) == (200, [])


@pytest.mark.parametrize("query", ["page_size=%00", "page_size=-1", "page_size=0", "page_size=", "page_size=%D9%A1"])
@pytest.mark.parametrize("collection", ["accounts", "clusters", "keys"])
def test_an_invalid_page_size_gets_400(as_: As, owner: User, collection: str, query: str) -> None:
    answer = as_(owner).get(f"/api/v1/{collection}/?{query}")
    assert (answer.status_code, answer.json()) == (400, {"page_size": ["Enter a whole number that is 1 or more."]})


@pytest.mark.parametrize("account", ["%00", "x", "", "-1", "%D9%A1", "9" * 19])
def test_a_filter_with_an_invalid_account_id_gets_400(as_: As, owner: User, account: str) -> None:
    answer = as_(owner).get(f"/api/v1/clusters/?account={account}")
    assert (answer.status_code, answer.json()) == (400, {"account": ["Enter the ID of an account, a whole number."]})


@pytest.mark.parametrize("path", ["", "none/", "accounts/x/", "keys/%0A/rotate-secret/", "%C2%84/"])
@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_unknown_paths_get_404_as_json(as_: As, owner: User, path: str, method: str) -> None:
    for user in (owner, None):
        answer = getattr(as_(user), method)(f"/api/v1/{path}")
        assert (answer.status_code, answer.json()) == (404, {"detail": "Not found."})


def test_file_uploads_are_rejected(as_: As, owner: User) -> None:
    for path in ("token", "accounts"):
        answer = as_(owner).post(f"/api/v1/{path}/", {"name": BytesIO(b"x" * 5_000_000)}, format="multipart")
        assert answer.status_code == 415


FORM = "application/x-www-form-urlencoded"


def test_fields_that_a_form_omits_get_their_defaults(as_: As, owner: User, account: Account) -> None:
    client = as_(owner)
    client.post("/api/v1/clusters/", f"account={account.pk}&cluster_id=fresh", content_type=FORM)
    client.post("/api/v1/keys/", "cluster=fresh&label=web", content_type=FORM)
    assert Cluster.objects.get().enabled
    key = ApiKey.objects.get()
    assert (key.protects_channels, key.allows_client_messages, key.allowed_origins) == (False, True, [])


@pytest.mark.parametrize(
    ("label", "empty", "content_type"), [('{"label": "app"}', "{}", "application/json"), ("label=app", "", FORM)]
)
def test_fields_that_a_change_omits_keep_their_values(
    as_: As, owner: User, key: ApiKey, label: str, empty: str, content_type: str
) -> None:
    client = as_(owner)
    off = {"allows_client_messages": False, "protects_channels": True}
    client.patch(f"/api/v1/keys/{key.public_key}/", {**off, "allowed_origins": ["a.com"]})
    client.patch(f"/api/v1/clusters/{key.cluster_id}/", {"enabled": False})
    assert client.patch(f"/api/v1/keys/{key.public_key}/", label, content_type=content_type).status_code == 200
    assert client.patch(f"/api/v1/clusters/{key.cluster_id}/", empty, content_type=content_type).status_code == 200
    key.refresh_from_db()
    assert (key.protects_channels, key.allows_client_messages, key.allowed_origins) == (True, False, ["a.com"])
    assert (key.label, Cluster.objects.get().enabled) == ("app", False)

"""Whatever is sent to the management API, the answer says what is wrong with it."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from accounts.models import Account, ApiKey, Cluster, Membership
from tests.control.conftest import As

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "path",
    [
        *("accounts/999999999999999999999999/", "accounts/0/", "accounts/x/", "accounts/-1/", "clusters/%00/"),
        *("keys/x/", "keys/" + "k" * 60 + "/", "keys/?page=x", "keys/?page=99999999999999999999", "none/"),
    ],
)
def test_what_does_not_exist_is_404(as_: As, owner: User, path: str) -> None:
    assert as_(owner).get(f"/api/v1/{path}").status_code == 404


def test_broken_json_is_400(as_: As, owner: User, account: Account) -> None:
    for body in ("{", "\xff", "nul", '{"name": NaN}'):
        answer = as_(owner).post("/api/v1/accounts/", body.encode("latin-1"), content_type="application/json")
        assert answer.status_code == 400


def test_requests_are_throttled(as_: As, owner: User, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from rest_framework.throttling import UserRateThrottle

    monkeypatch.setitem(UserRateThrottle.THROTTLE_RATES, "user", "3/min")
    client = as_(owner)
    assert [client.get("/api/v1/accounts/").status_code for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize("body", ["[" * 200_000, '{"name":' * 100_000])
def test_json_that_is_nested_too_deeply_is_400(as_: As, owner: User, account: Account, body: str) -> None:
    answer = as_(owner).post("/api/v1/accounts/", body, content_type="application/json")
    assert (answer.status_code, answer.json()) == (400, {"detail": "JSON parse error - nested too deeply"})


@pytest.mark.parametrize("account", ["1e400", "-1e400", "1" * 30, "1.5", "true", "[]", "{}", '"1\\u0000"', '"\\ud800"'])
def test_an_account_that_is_no_number_or_none_of_ones_own_is_told(as_: As, owner: User, account: str) -> None:
    body = f'{{"account": {account}, "cluster_id": "new"}}'
    answer = as_(owner).post("/api/v1/clusters/", body, content_type="application/json")
    assert answer.status_code == 400
    assert list(answer.json()) == ["account"]
    assert not Cluster.objects.exists()


@pytest.mark.parametrize("name", ["a\0", "\ud800", {}, [], None, True, 1e308, 10**30, "x" * 100_000])
def test_a_name_that_cannot_be_one_is_told(as_: As, owner: User, account: Account, name: Any) -> None:
    client = as_(owner)
    path = f"/api/v1/accounts/{account.pk}/members/"
    for to, field, more in ((path, "username", {}), ("/api/v1/keys/", "cluster", {"label": "x"})):
        answer = client.post(to, json.dumps({field: name, **more}), content_type="application/json")
        assert answer.status_code == 400
        assert list(answer.json()) == [field]
        assert len(answer.content) < 1000
    assert (Membership.objects.count(), ApiKey.objects.count()) == (2, 0)


@pytest.mark.parametrize(
    "query",
    [
        *("keys/?cluster=%00", "keys/?cluster=%ed%a0%80", "keys/?page_size=%00", "keys/?page_size=-1"),
        *("clusters/?account=%00", "clusters/?account=999999999999999999", "clusters/?account=%D9%A1"),
    ],
)
def test_filters_that_fit_nothing_list_nothing(as_: As, owner: User, account: Account, query: str) -> None:
    answer = as_(owner).get(f"/api/v1/{query}")
    assert (answer.status_code, answer.json()["results"]) == (200, [])


def test_what_a_form_leaves_out_has_its_default(as_: As, owner: User, account: Account) -> None:
    client = as_(owner)
    client.post("/api/v1/clusters/", {"account": account.pk, "cluster_id": "new"}, format="multipart")
    client.post("/api/v1/keys/", {"cluster": "new", "label": "web"}, format="multipart")
    assert Cluster.objects.get().enabled
    key = ApiKey.objects.get()
    assert (key.protects_channels, key.allows_client_messages, key.allowed_origins) == (False, True, [])


@pytest.mark.parametrize("form", ["json", "multipart"])
def test_what_a_change_leaves_out_stays(as_: As, owner: User, key: ApiKey, form: str) -> None:
    client = as_(owner)
    off = {"allows_client_messages": False, "protects_channels": True}
    client.patch(f"/api/v1/keys/{key.public_key}/", {**off, "allowed_origins": ["a.com"]})
    client.patch(f"/api/v1/clusters/{key.cluster_id}/", {"enabled": False})
    assert client.patch(f"/api/v1/keys/{key.public_key}/", {"label": "app"}, format=form).status_code == 200
    assert client.patch(f"/api/v1/clusters/{key.cluster_id}/", {}, format=form).status_code == 200
    key.refresh_from_db()
    assert (key.protects_channels, key.allows_client_messages, key.allowed_origins) == (True, False, ["a.com"])
    assert (key.label, Cluster.objects.get().enabled) == ("app", False)

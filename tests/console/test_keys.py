"""What the pages of API keys show and change."""

import re
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import services
from accounts.access import find_access
from accounts.models import Account, ApiKey, Cluster
from tests.console.conftest import As
from tests.console.pages import page, send
from tests.console.planes import Plane

pytestmark = pytest.mark.django_db

SETTINGS = {
    "label": "Web shop",
    "allowed_origins": "",
    "allows_client_messages": "on",
    "max_connections": "",
    "max_messages_per_second": "",
    "max_message_bytes": "",
}


def settings_of(shown: str, **changed: str) -> dict[str, str]:
    """Return the form of a key's page, filled in with other values."""
    version = re.search(r'name="version" value="(\w+)"', shown)
    assert version
    return {**SETTINGS, "version": version[1], **changed}


def labels(shown: str) -> list[str]:
    return re.findall(r'<th scope="row" role="rowheader"><a href="[^"]*">([^<]*)</a>', shown)


def add_keys(cluster: Cluster, number: int) -> list[ApiKey]:
    keys = [
        ApiKey(cluster=cluster, label=f"Till {index:03}", secret_ciphertext="x", last_used_at=None)
        for index in range(number)
    ]
    return ApiKey.objects.bulk_create(keys)


def test_a_key_is_issued_and_its_secret_shown_once(owner: Client, account: Account, cluster: Cluster) -> None:
    response = owner.post(f"/console/{account.pk}/clusters/shop/keys/new/", {"cluster": "shop", "label": "Courier app"})
    key = ApiKey.objects.get(label="Courier app")
    assert response.headers["location"] == f"/console/{account.pk}/keys/{key.pk}/secret/"
    shown = page(owner, account, f"keys/{key.pk}/secret/")
    access = find_access(key.public_key)
    assert access
    assert access.secret
    assert "Key issued." in shown
    assert f"WS_CLUSTER=shop.localhost\nWS_API_KEY={key.public_key}\nWS_API_SECRET={access.secret}</pre>" in shown
    assert f'"secret": "{access.secret}"' in shown
    assert f'href="/console/{account.pk}/clusters/shop/">I have stored the secret' in shown
    again = page(owner, account, f"keys/{key.pk}/secret/")
    assert "The secret has been shown. It is not shown again. If you did not store it, rotate the secret." in again
    assert access.secret not in again


def test_another_session_of_the_same_person_does_not_see_the_secret(as_: As, account: Account) -> None:
    first, second = as_("owner"), as_("owner")
    first.post(f"/console/{account.pk}/keys/new/", {"cluster": "shop", "label": "Courier app"})
    key = ApiKey.objects.get(label="Courier app")
    assert "It is not shown again." in page(second, account, f"keys/{key.pk}/secret/")
    assert "WS_API_SECRET=" in page(first, account, f"keys/{key.pk}/secret/")


def test_a_secret_is_in_no_attribute_cookie_header_or_session(owner: Client, account: Account) -> None:
    response = owner.post(f"/console/{account.pk}/keys/new/", {"cluster": "shop", "label": "Courier app"}, follow=True)
    access = find_access(ApiKey.objects.get(label="Courier app").public_key)
    assert access
    assert access.secret
    body = response.content.decode()
    assert access.secret in body
    assert access.secret not in " ".join(re.findall(r"<[^>]*>", body))
    assert access.secret not in str(response.headers)
    assert access.secret not in str(owner.cookies)
    assert access.secret not in str(dict(owner.session.items()))
    assert access.secret not in str(response.redirect_chain)


def test_a_new_key_asks_for_the_cluster_if_there_are_several(owner: Client, account: Account) -> None:
    assert '<select name="cluster"' not in page(owner, account, "keys/new/")
    services.create_cluster(account, "warehouse")
    assert '<select name="cluster"' in page(owner, account, "keys/new/")
    send(owner, account, "keys/new/", cluster="warehouse", label="Forklift")
    assert ApiKey.objects.get(label="Forklift").cluster.cluster_id == "warehouse"
    assert "Select a valid choice" in send(owner, account, "keys/new/", cluster="stall", label="Theirs")


def test_an_account_with_as_many_keys_as_it_may_have_is_told_what_to_do(owner: Client, account: Account) -> None:
    services.set_quotas(account, max_keys=1)
    shown = send(owner, account, "keys/new/", cluster="shop", label="Courier app")
    assert "You have 1 of 1 API keys. Revoke one, or ask for more." in shown


def test_settings_are_saved(owner: Client, account: Account, key: ApiKey) -> None:
    form = settings_of(
        page(owner, account, f"keys/{key.pk}/"),
        label="Web",
        allowed_origins="Shop.example.com\n\nhttps://*.shop.example.com/",
        protects_channels="on",
        max_connections="2,000",
    )
    assert "Settings saved." in send(owner, account, f"keys/{key.pk}/", **form)
    key.refresh_from_db()
    assert key.label == "Web"
    assert key.allowed_origins == ["shop.example.com", "*.shop.example.com"]
    assert key.protects_channels
    assert key.max_connections == 2_000
    assert key.max_message_bytes is None


def test_settings_that_are_not_possible_are_all_explained_and_kept(
    owner: Client, account: Account, key: ApiKey
) -> None:
    services.set_quotas(account, max_messages_per_second=50)
    form = settings_of(
        page(owner, account, f"keys/{key.pk}/"),
        label="",
        allowed_origins="not a host",
        max_connections="many",
        max_messages_per_second="51",
    )
    shown = send(owner, account, f"keys/{key.pk}/", **form)
    assert "There are 4 problems." in shown
    assert '<a href="#id_label">Enter a label.</a>' in shown
    assert '<a href="#id_allowed_origins">Enter each origin in lower case' in shown
    assert '<a href="#id_max_connections">Enter a whole number.</a>' in shown
    assert '<a href="#id_max_messages_per_second">The account allows up to 50.</a>' in shown
    assert 'value="51"' in shown
    assert "not a host</textarea>" in shown
    key.refresh_from_db()
    assert key.label == "Web shop"


def test_two_people_who_change_a_key_at_the_same_time_do_not_overwrite_each_other(
    as_: As, account: Account, key: ApiKey
) -> None:
    owner, developer = as_("owner"), as_("developer")
    first, second = (settings_of(page(client, account, f"keys/{key.pk}/")) for client in (owner, developer))
    send(owner, account, f"keys/{key.pk}/", **{**first, "label": "Of the owner"})
    shown = send(developer, account, f"keys/{key.pk}/", **{**second, "label": "Of the developer"})
    assert "Someone changed this key meanwhile. Check the values and save again." in shown
    assert 'value="Of the developer"' in shown
    key.refresh_from_db()
    assert key.label == "Of the owner"
    again = settings_of(shown, label="Of the developer")
    assert "Settings saved." in send(developer, account, f"keys/{key.pk}/", **again)
    key.refresh_from_db()
    assert key.label == "Of the developer"


def test_a_link_can_fill_an_origin_in_which_is_not_saved_until_the_reader_does(
    owner: Client, account: Account, key: ApiKey
) -> None:
    services.update_key(key, allowed_origins=["shop.example.com"])
    shown = page(owner, account, f"keys/{key.pk}/?origin=https://staging.example.com")
    assert "shop.example.com\nstaging.example.com</textarea>" in shown
    key.refresh_from_db()
    assert key.allowed_origins == ["shop.example.com"]


def test_a_rotation_with_an_overlap_keeps_both_secrets_until_the_old_one_is_ended(
    owner: Client, account: Account, key: ApiKey
) -> None:
    assert '<input type="radio" name="overlap" value="86400" id="id_overlap_2" checked>' in page(
        owner, account, f"keys/{key.pk}/rotate/"
    ).replace(" required", "")
    shown = send(owner, account, f"keys/{key.pk}/rotate/", overlap="3600")
    assert "Secret rotated." in shown
    access = find_access(key.public_key)
    assert access
    assert access.secret
    assert access.secret in shown
    assert len(access.valid_secrets()) == 2
    assert "Two secrets are valid." in page(owner, account, f"keys/{key.pk}/")
    assert "Servers that still use it can no longer publish." in page(owner, account, f"keys/{key.pk}/end-old-secret/")
    assert "The old secret has ended." in send(owner, account, f"keys/{key.pk}/end-old-secret/")
    access = find_access(key.public_key)
    assert access
    assert len(access.valid_secrets()) == 1
    assert "Two secrets are valid." not in page(owner, account, f"keys/{key.pk}/")


def test_a_rotation_needs_one_of_the_offered_times(owner: Client, account: Account, key: ApiKey) -> None:
    before = find_access(key.public_key)
    assert "Select a valid choice" in send(owner, account, f"keys/{key.pk}/rotate/", overlap="99999999")
    assert find_access(key.public_key) == before


def test_a_revocation_says_how_many_connections_it_closes(
    owner: Client, account: Account, key: ApiKey, plane: Plane
) -> None:
    plane.open = 318
    asked = page(owner, account, f"keys/{key.pk}/revoke/")
    assert "This closes <strong>318 open connections</strong> now." in asked
    assert "Revoke and close 318 connections</button>" in asked
    shown = send(owner, account, f"keys/{key.pk}/revoke/")
    assert "Key revoked." in shown
    assert re.search(r"Revoked on .* by owner@shop\.example\.", shown)
    assert "Save settings" not in shown
    assert "Try it" not in shown
    revoked = page(owner, account, "clusters/shop/?show=revoked")
    assert labels(revoked) == ["Web shop"]
    assert "owner@shop.example</td>" in revoked
    for path in ("rotate/", "revoke/", "end-old-secret/"):
        assert owner.get(f"/console/{account.pk}/keys/{key.pk}/{path}").status_code == 404
    assert owner.post(f"/console/{account.pk}/keys/{key.pk}/", SETTINGS).status_code == 404


def test_a_key_says_what_differs_from_the_defaults(owner: Client, account: Account, key: ApiKey) -> None:
    services.update_key(key, protects_channels=True, allowed_origins=["example.com"], max_connections=5)
    services.rotate_secret(key, timedelta(days=1))
    ApiKey.objects.update(last_used_at=timezone.now() - timedelta(days=93))
    ends = timezone.now() + timedelta(days=1)
    assert (
        "Every channel needs a JWT · 1 allowed origin · up to 5 connections · "
        f"old secret valid until {ends.day} {ends:%b} · not used for 93 days"
    ) in page(owner, account, "clusters/shop/")


def test_a_key_without_use_and_with_defaults_has_no_note(owner: Client, account: Account, key: ApiKey) -> None:
    shown = page(owner, account, "clusters/shop/")
    assert "Web shop</a></th>" in shown
    assert "never</td>" in shown


def test_the_list_is_sorted_by_label_connections_or_last_use(
    owner: Client, account: Account, cluster: Cluster, key: ApiKey
) -> None:
    second = services.issue_key(cluster, "Archive").key
    ApiKey.objects.filter(pk=key.pk).update(last_used_at=timezone.now())
    assert labels(page(owner, account, "clusters/shop/")) == ["Archive", "Web shop"]
    assert labels(page(owner, account, "clusters/shop/?sort=-label")) == ["Web shop", "Archive"]
    assert labels(page(owner, account, "clusters/shop/?sort=-last_used")) == ["Web shop", "Archive"]
    assert labels(page(owner, account, "clusters/shop/?sort=last_used")) == ["Archive", "Web shop"]
    assert labels(page(owner, account, "clusters/shop/?sort=secret_ciphertext")) == ["Archive", "Web shop"]

    class Uneven(Plane):
        def known_connections(self, *, seconds: float, **names: list[object]) -> list[int]:
            return [7 if name == second.public_key else 0 for resources in names.values() for name in resources]

    with Uneven():
        shown = page(owner, account, "clusters/shop/?sort=-connections")
        assert labels(shown) == ["Archive", "Web shop"]
        assert labels(page(owner, account, "clusters/shop/?sort=connections")) == ["Web shop", "Archive"]
    assert 'aria-sort="descending"><a href="?sort=connections">Connections</a>' in shown


def test_from_20_keys_on_the_list_can_be_searched(owner: Client, account: Account, cluster: Cluster) -> None:
    add_keys(cluster, 18)
    assert 'type="search"' not in page(owner, account, "clusters/shop/")
    (last,) = add_keys(cluster, 1)
    assert 'type="search"' in page(owner, account, "clusters/shop/")
    assert labels(page(owner, account, "clusters/shop/?q=till 01"))[:2] == ["Till 010", "Till 011"]
    assert labels(page(owner, account, f"clusters/shop/?q={last.public_key[:20]}")) == ["Till 000"]
    shown = page(owner, account, 'clusters/shop/?q=<b>kiosk"')
    assert 'No key matches “<b>kiosk"”' in shown
    assert "Clear the search" in shown


@pytest.mark.parametrize("query", ["q=%00", "page=99", "page=x", "sort=-", "show=all", "q=%F0%9F%98%80", "page=-1"])
def test_odd_queries_show_the_list(owner: Client, account: Account, query: str) -> None:
    assert "API keys" in page(owner, account, f"clusters/shop/?{query}")


def test_a_page_has_50_keys(owner: Client, account: Account, cluster: Cluster) -> None:
    add_keys(cluster, 60)
    first = page(owner, account, "clusters/shop/?sort=-label")
    assert len(labels(first)) == 50
    assert "1 to 50 of 61" in first
    assert 'href="?sort=-label&page=2">Next 50' in first
    second = page(owner, account, "clusters/shop/?sort=-label&page=2")
    assert len(labels(second)) == 11
    assert 'href="?sort=-label&page=1">Previous 50' in second


@pytest.mark.parametrize("sort", ["", "-connections"])
def test_200_keys_need_few_queries_and_under_half_a_second(
    owner: Client, account: Account, cluster: Cluster, sort: str
) -> None:
    add_keys(cluster, 200)
    path = f"clusters/shop/?sort={sort}"
    page(owner, account, path)  # templates are loaded
    with CaptureQueriesContext(
        connection,
    ) as queries:
        page(owner, account, path)
    assert len(queries) < 15
    seconds = []
    for _ in range(5):
        begun = time.thread_time()
        page(owner, account, path)
        seconds.append(time.thread_time() - begun)
    assert min(seconds) < 0.5


def test_try_it_passes_the_key_to_the_tester_in_the_fragment(owner: Client, account: Account, key: ApiKey) -> None:
    assert f'href="/#cluster=shop&api_key={key.public_key}"' in page(owner, account, f"keys/{key.pk}/")
    assert f'href="/#cluster=shop&api_key={key.public_key}"' in page(owner, account, "clusters/shop/")


def test_a_label_is_shown_as_text(owner: Client, account: Account, key: ApiKey) -> None:
    services.update_key(key, label="<script>alert(1)</script>")
    for path in (f"keys/{key.pk}/", "clusters/shop/", f"keys/{key.pk}/revoke/", f"keys/{key.pk}/secret/"):
        assert b"<script>alert" not in owner.get(f"/console/{account.pk}/{path}").content

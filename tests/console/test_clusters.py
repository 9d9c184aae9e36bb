"""What the pages of clusters show and change."""

import pytest
from django.test import Client

from accounts import services
from accounts.models import Account, ApiKey, Cluster
from tests.console.conftest import As
from tests.console.pages import page, send
from tests.console.planes import Plane

pytestmark = pytest.mark.django_db


def test_the_list_shows_the_endpoint_the_keys_the_connections_and_the_state(
    owner: Client, account: Account, cluster: Cluster, plane: Plane
) -> None:
    plane.open = 1_234
    listed = page(owner, account, "clusters/")
    assert "ws://shop.localhost/v3/" in listed
    assert "1,234" in listed
    assert "On</span>" in listed
    services.update_cluster(cluster, enabled=False)
    assert "Off</span>" in page(owner, account, "clusters/")


def test_an_account_without_clusters_is_told_what_a_cluster_is(
    owner: Client, account: Account, cluster: Cluster
) -> None:
    services.delete_cluster(cluster)
    assert "No clusters yet" in page(owner, account, "clusters/")
    assert owner.get(f"/console/{account.pk}/keys/new/").headers["location"] == f"/console/{account.pk}/new-cluster/"


def test_a_new_cluster_leads_to_its_page(owner: Client, account: Account) -> None:
    shown = send(owner, account, "new-cluster/", cluster_id="Warehouse")
    assert "Cluster created." in shown
    assert "No API keys yet" in shown
    assert account.clusters.filter(cluster_id="warehouse", enabled=True).exists()


@pytest.mark.parametrize(
    ("cluster_id", "sentence"),
    [
        ("", "Enter a cluster ID."),
        ("-a", "Enter up to 63 lower-case letters, digits and hyphens"),
        ("www", "This cluster ID is reserved. Choose another one."),
    ],
)
def test_a_cluster_id_that_is_not_possible_is_explained_at_its_field(
    owner: Client, account: Account, cluster_id: str, sentence: str
) -> None:
    shown = send(owner, account, "new-cluster/", cluster_id=cluster_id)
    assert f'<a href="#id_cluster_id">{sentence}' in shown
    assert 'aria-invalid="true"' in shown
    assert account.clusters.count() == 1


def test_a_cluster_may_have_the_name_of_a_page(owner: Client, account: Account) -> None:
    assert "No API keys yet" in send(owner, account, "new-cluster/", cluster_id="new")
    assert "<h1>new</h1>" in page(owner, account, "clusters/new/")


def test_for_a_taken_cluster_id_a_free_one_is_filled_in(owner: Client, account: Account) -> None:
    services.create_cluster(account, "stall-2")
    shown = send(owner, account, "new-cluster/", cluster_id="stall")
    assert "“stall” is taken. “stall-3” is free." in shown
    assert 'value="stall-3"' in shown
    send(owner, account, "new-cluster/", cluster_id="stall-3")
    assert account.clusters.filter(cluster_id="stall-3").exists()


def test_an_account_with_as_many_clusters_as_it_may_have_is_told_what_to_do(owner: Client, account: Account) -> None:
    services.set_quotas(account, max_clusters=1)
    shown = send(owner, account, "new-cluster/", cluster_id="warehouse")
    assert "You have 1 of 1 clusters. Delete one, or ask for more." in shown


def test_the_page_shows_the_app_id_for_pushers_libraries(owner: Client, account: Account, cluster: Cluster) -> None:
    assert f'<code id="app-id">{cluster.pk}</code>' in page(owner, account, "clusters/shop/")


def test_switching_off_says_how_many_connections_it_closes(
    owner: Client, account: Account, cluster: Cluster, plane: Plane
) -> None:
    plane.open = 404
    asked = page(owner, account, "clusters/shop/off/")
    assert "This closes <strong>404 connections</strong>. Clients cannot connect until" in asked
    assert "Cluster switched off." in send(owner, account, "clusters/shop/off/")
    cluster.refresh_from_db()
    assert not cluster.enabled
    assert "Cluster switched on." in send(owner, account, "clusters/shop/on/")
    cluster.refresh_from_db()
    assert cluster.enabled


def test_without_connections_a_confirmation_names_no_number(owner: Client, account: Account, plane: Plane) -> None:
    asked = page(owner, account, "clusters/shop/off/")
    assert "This closes" not in asked
    assert "Clients cannot connect until you switch the cluster on again." in asked


def test_a_cluster_is_deleted_by_typing_its_id(owner: Client, account: Account, cluster: Cluster) -> None:
    assert "Type the cluster ID to delete it with its 1 active key." in page(owner, account, "clusters/shop/delete/")
    assert "Type shop to delete it." in send(owner, account, "clusters/shop/delete/", name="shops")
    assert Cluster.objects.filter(pk=cluster.pk).exists()
    assert "Cluster shop deleted." in send(owner, account, "clusters/shop/delete/", name="shop")
    assert not Cluster.objects.filter(pk=cluster.pk).exists()


def test_developers_are_not_offered_to_delete(as_: As, account: Account) -> None:
    shown = page(as_("developer"), account, "clusters/shop/")
    assert "Switch off…" in shown
    assert "Delete cluster…" not in shown


def test_viewers_are_offered_nothing_that_they_cannot_do(as_: As, account: Account, key: ApiKey) -> None:
    for path in ("clusters/", "clusters/shop/", f"keys/{key.pk}/", ""):
        shown = page(as_("viewer"), account, path)
        for action in ("Issue key", "Create cluster", "Try it", "Switch off", "Save settings", "Revoke key"):
            assert action not in shown, path


def test_a_suspended_account_can_be_read_but_offers_no_action(as_: As, account: Account, key: ApiKey) -> None:
    services.suspend_account(account)
    for path in ("", "clusters/", "clusters/shop/", f"keys/{key.pk}/"):
        shown = page(as_("owner"), account, path)
        assert "This account is suspended." in shown
        for action in ("Issue key", "Create cluster", "Try it", "Switch off", "Save settings", "Revoke key"):
            assert action not in shown, path


def test_when_the_nodes_do_not_answer_the_pages_say_so_and_give_the_last_count(
    owner: Client, account: Account, key: ApiKey, plane: Plane
) -> None:
    plane.open = 412
    for path in ("clusters/", "clusters/shop/", f"keys/{key.pk}/"):
        page(owner, account, path)
    plane.open = None
    for path in ("clusters/", "clusters/shop/", f"keys/{key.pk}/"):
        shown = page(owner, account, path)
        assert "The connections cannot be counted now. Last count: 412, at" in shown, path
        assert "–" in shown, path
    for path in ("clusters/shop/off/", f"keys/{key.pk}/revoke/", "clusters/shop/delete/"):
        assert "This closes" not in page(owner, account, path)


def test_the_options_for_the_libraries_of_pusher_are_switched_on_and_off(
    owner: Client, account: Account, cluster: Cluster
) -> None:
    assert "Options saved." in send(owner, account, "clusters/shop/options/", sends_watchlist_events="on")
    cluster.refresh_from_db()
    options = cluster.sends_subscription_counts, cluster.sends_watchlist_events, cluster.closes_unauthorized_connections
    assert options == (False, True, False)
    assert page(owner, account, "clusters/shop/").count("checked") == 1
    assert "watchlist events: on" in page(owner, account, "activity/")
    send(owner, account, "clusters/shop/options/")
    cluster.refresh_from_db()
    assert not cluster.sends_watchlist_events

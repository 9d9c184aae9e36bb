"""The way from a new account to its first message, and the overview that follows."""

from datetime import timedelta

import pytest
from django.test import Client

from accounts import services
from accounts.models import Account, ApiKey, AuditEntry, AuditVerb, Cluster
from accounts.usage import record_messages, today
from accounts.users import User
from tests.console.conftest import As
from tests.console.pages import page, send
from tests.console.planes import Plane
from tests.console.tenants import Tenants

pytestmark = pytest.mark.django_db


@pytest.fixture
def newcomer(db: None) -> tuple[Client, Account]:
    """Someone who has just created an account."""
    user = User.objects.create_user("new@shop.example", password="newcomer-password")
    client = Client()
    client.force_login(user)
    return client, services.create_own_account(user, "Shop of Ada & Co")


def test_a_new_account_begins_with_a_cluster_and_a_key_whose_secret_is_shown(newcomer: tuple[Client, Account]) -> None:
    client, account = newcomer
    welcome = client.get(f"/console/{account.pk}/", follow=True).content.decode()
    assert "Create your first cluster" in welcome
    assert 'value="shop-of-ada-co"' in welcome
    assert "ws://shop-of-ada-co.localhost" in welcome
    shown = send(client, account, "start/", name="Ada", cluster_id="ada")
    account.refresh_from_db()
    assert account.name == "Ada"
    key = ApiKey.objects.get(cluster__cluster_id="ada", label="First key")
    assert "Store the secret of First key now" in shown
    assert f'href="/console/{account.pk}/start/">I have stored the secret' in shown
    steps = page(client, account, "start/")
    assert "Three steps to your first message" in steps
    assert key.public_key in steps


def test_a_first_cluster_whose_id_is_taken_changes_nothing(newcomer: tuple[Client, Account], shops: Tenants) -> None:
    client, account = newcomer
    shown = send(client, account, "start/", name="Renamed", cluster_id="shop")
    assert "“shop” is taken. “shop-2” is free." in shown
    account.refresh_from_db()
    assert account.name == "Shop of Ada & Co"
    assert not account.clusters.exists()


def test_a_first_key_that_cannot_be_issued_leaves_no_cluster(newcomer: tuple[Client, Account]) -> None:
    client, account = newcomer
    services.set_quotas(account, max_keys=0)
    shown = send(client, account, "start/", name="Ada", cluster_id="ada")
    assert "You have 0 of 0 API keys." in shown
    assert not Cluster.objects.filter(cluster_id="ada").exists()


def test_someone_who_was_invited_is_not_asked_for_the_name_of_the_account(
    owner: Client, account: Account, cluster: Cluster
) -> None:
    services.delete_cluster(cluster)
    welcome = page(owner, account, "start/")
    assert 'name="cluster_id"' in welcome
    assert 'name="name"' not in welcome


@pytest.mark.parametrize(
    ("code", "contains"),
    [
        ("", "new WebSocket("),
        ("sdk", 'clusterDomain: "shop.localhost"'),
        ("python", '"ws://localhost/v3/hello?api_key='),
        ("terminal", "npx wscat --connect"),
        ("cobol", "new WebSocket("),
    ],
)
def test_the_code_contains_the_key_of_the_reader(
    owner: Client, account: Account, key: ApiKey, code: str, contains: str
) -> None:
    shown = page(owner, account, f"start/?code={code}")
    assert contains in shown
    assert key.public_key in shown


def test_the_page_waits_for_the_first_connection(owner: Client, account: Account, plane: Plane) -> None:
    assert "Waiting for your first connection" in page(owner, account, "start/connection/")
    plane.connections = 1
    assert "Connected</span> · 1 connection open" in page(owner, account, "start/connection/")
    plane.connections = None
    assert "The connections cannot be counted now." in page(owner, account, "start/connection/")


def test_a_message_is_sent_from_the_page_and_recorded(
    owner: Client, account: Account, cluster: Cluster, plane: Plane
) -> None:
    assert "Sent, but no connection is open in the channel hello. Do step 2 first." in send(
        owner, account, "start/send/", message=" Hello! "
    )
    plane.connections = 1
    shown = send(owner, account, "start/send/", message="Again")
    assert "Sent to 1 connection." in shown
    assert "Your first message has arrived" in shown
    assert plane.sent == [("shop", "hello", " Hello! "), ("shop", "hello", "Again")]
    entry = AuditEntry.objects.filter(verb=AuditVerb.PUBLISHED).first()
    assert entry
    assert (entry.label, entry.changes, entry.email) == ("shop", {"channel": [None, "hello"]}, "owner@shop.example")


def test_a_message_that_is_refused_is_explained_and_not_recorded(owner: Client, account: Account, plane: Plane) -> None:
    plane.refuses = "The account has used up its quota of messages per day (UTC); nothing was sent."
    shown = send(owner, account, "start/send/", message="Hello!")
    assert plane.refuses in shown
    assert 'value="Hello!"' in shown
    assert not AuditEntry.objects.filter(verb=AuditVerb.PUBLISHED).exists()
    assert "Enter a message." in send(owner, account, "start/send/", message="")


def test_the_overview_leads_to_the_steps_until_the_first_message(owner: Client, account: Account) -> None:
    start = f"/console/{account.pk}/start/"
    assert owner.get(f"/console/{account.pk}/").headers["location"] == start
    record_messages({account.pk: 1}, today() - timedelta(days=3))
    assert "<h1>Overview</h1>" in page(owner, account, "")


def test_the_steps_can_be_hidden(owner: Client, account: Account) -> None:
    shown = send(owner, account, "start/hide/")
    assert "<h1>Overview</h1>" in shown
    assert "Three steps to your first message" in shown


def test_viewers_see_the_overview_instead_of_the_steps(as_: As, account: Account) -> None:
    assert "<h1>Overview</h1>" in page(as_("viewer"), account, "")


def test_the_overview_shows_connections_and_messages_beside_their_quotas(
    as_: As, account: Account, plane: Plane
) -> None:
    services.set_quotas(account, max_connections=2_000, max_messages_per_day=250_000)
    record_messages({account.pk: 205_118}, today())
    plane.connections = 412
    shown = page(as_("owner"), account, "")
    assert '<span class="big">412</span> <span class="of">of 2,000</span>' in shown
    assert 'class="meter" role="img" aria-label="21 % of the quota"' in shown
    assert '<span class="big">205,118</span> <span class="of">of 250,000</span>' in shown
    assert 'class="meter near" role="img" aria-label="82 % of the quota"' in shown
    record_messages({account.pk: 50_000}, today())
    assert 'class="meter full" role="img" aria-label="The quota is reached"' in page(as_("owner"), account, "")


def test_the_overview_lists_the_10_busiest_clusters(as_: As, account: Account) -> None:
    record_messages({account.pk: 1}, today())
    for number in range(11):
        services.create_cluster(account, f"many-{number}")
    shown = page(as_("owner"), account, "")
    assert shown.count('role="rowheader"') == 10
    assert "All 12 clusters" in shown

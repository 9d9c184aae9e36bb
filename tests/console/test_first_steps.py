"""The way from a new account to its first message, and the overview that follows."""

import time
from collections import Counter
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts import services
from accounts.models import Account, ApiKey, AuditEntry, AuditVerb, Cluster
from accounts.refusals import record_refusals
from accounts.refused_clients import Cause, RefusedClient
from accounts.usage import record_messages, today
from accounts.usage_counts import Counts, UsedBy
from accounts.usage_history import record_usage
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
        ("v4", '"ws://shop.localhost/v4/lobby?api_key='),
        ("pusher", 'wsHost: "localhost",'),
        ("echo", 'broadcaster: "reverb",'),
        ("cobol", "new WebSocket("),
    ],
)
def test_the_code_contains_the_key_of_the_reader(
    owner: Client, account: Account, key: ApiKey, code: str, contains: str
) -> None:
    shown = page(owner, account, f"start/?code={code}")
    assert contains in shown
    assert key.public_key in shown


def test_the_code_for_servers_contains_the_app_id_and_the_key(
    owner: Client, account: Account, cluster: Cluster, key: ApiKey
) -> None:
    shown = page(owner, account, "start/")
    for line in (
        f"REVERB_APP_ID={cluster.pk}\nREVERB_APP_KEY={key.public_key}\n",
        f'appId: "{cluster.pk}",\n  key: "{key.public_key}",',
        f'app_id="{cluster.pk}",\n    key="{key.public_key}",',
    ):
        assert line in shown


@pytest.mark.parametrize(("code", "path"), [("python", "hello"), ("v4", "v4:hello"), ("echo", "pusher:hello")])
def test_the_message_goes_to_the_channel_of_the_protocol_whose_code_is_shown(
    owner: Client, account: Account, plane: Plane, code: str, path: str
) -> None:
    plane.open = 1
    assert "Sent to 1 connection." in send(owner, account, f"start/send/?code={code}", message="Hello!")
    assert plane.sent == [("shop", path, "Hello!")]


@pytest.mark.parametrize(("code", "protocol"), [("sdk", "v3"), ("v4", "v4"), ("pusher", "pusher")])
def test_the_tester_begins_with_the_protocol_whose_code_is_shown(
    owner: Client, account: Account, code: str, protocol: str
) -> None:
    assert f"&channel=hello&protocol={protocol}" in page(owner, account, f"start/?code={code}")


def test_the_page_waits_for_the_first_connection(owner: Client, account: Account, plane: Plane) -> None:
    assert "Waiting for your first connection" in page(owner, account, "start/connection/")
    plane.open = 1
    assert "Connected from 203.0.113.24</span> · 1 connection open" in page(owner, account, "start/connection/")
    plane.open = None
    assert "The connections cannot be counted now." in page(owner, account, "start/connection/")


def test_a_message_is_sent_from_the_page_and_recorded(
    owner: Client, account: Account, cluster: Cluster, plane: Plane
) -> None:
    assert "Sent, but no connection is open in the channel hello. Do step 2 first." in send(
        owner, account, "start/send/", message=" Hello! "
    )
    plane.open = 1
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
    plane.open = 412
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


def test_the_last_refusal_and_its_remedy_stand_under_the_step_until_a_client_is_connected(
    owner: Client, account: Account, key: ApiKey, plane: Plane
) -> None:
    refuse(key, "bad_origin", 4003, origin="https://staging.example.com")
    waiting = page(owner, account, "start/connection/")
    assert "Refused: Origin not allowed" in waiting
    assert f"/keys/{key.pk}/?origin=" in waiting
    plane.open = 1
    assert "Refused" not in page(owner, account, "start/connection/")


def test_the_overview_lists_recent_problems_with_their_remedies(as_: As, account: Account, key: ApiKey) -> None:
    record_messages({account.pk: 1}, today())
    assert "No problems in the last 24 hours." in page(as_("viewer"), account, "")
    refuse(key, "bad_origin", 4003, origin="https://staging.example.com", times=24)
    shown = page(as_("owner"), account, "")
    assert "<strong>Origin not allowed</strong>" in shown
    assert "<code>https://staging.example.com</code>, 24 times" in shown
    assert f"/keys/{key.pk}/?origin=" in shown


def test_numbers_of_today_are_shown_for_the_account_each_cluster_and_each_key(
    owner: Client, account: Account, cluster: Cluster, key: ApiKey
) -> None:
    second = services.issue_key(cluster, "Courier app").key
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    record_messages({account.pk: 40}, today())
    used = {
        (hour, UsedBy(account.pk, key.public_key)): Counts(messages=31, refusals=Counter(bad_origin=25, bad_jwt=12)),
        (hour, UsedBy(account.pk, second.public_key)): Counts(messages=9),
        (hour, UsedBy(account.pk)): Counts(peak_connections=688),
    }
    record_usage("writer", 1, used)
    overview = page(owner, account, "")
    assert "Highest today: 688" in overview
    assert '<span class="big">37</span> <span class="of">connections</span>' in overview
    assert "Origin not allowed: 25</a>" in overview
    assert 'data-label="Messages today">40</td>' in overview
    assert "Messages, last 30 days" in overview
    assert "so-far" in overview
    listed = page(owner, account, "clusters/shop/?sort=-messages")
    assert listed.index('data-label="Messages today">31</td>') < listed.index('data-label="Messages today">9</td>')
    shown = page(owner, account, f"keys/{key.pk}/")
    assert '<span class="big">31</span>' in shown
    assert "78 % of the account’s messages today" in shown
    assert f'href="/console/{account.pk}/refusals/?key={key.public_key}">See why</a>' in shown


def refuse(key: ApiKey, reason: str, code: int, *, origin: str = "", times: int = 1) -> None:
    """Record that clients of a key were refused now."""
    cause = Cause(key.cluster.account_id, key.cluster_id, None, key.public_key, code, reason, "")
    client = RefusedClient(cause, time.time(), "hello", origin, "", "203.0.113.24", "", {})
    record_refusals({cause: times}, [client])

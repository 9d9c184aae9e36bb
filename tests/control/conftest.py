"""Fixtures for three people: the owner of an account, a teammate who is a member of it, and a stranger."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from django.core.cache import cache
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import services, usage
from accounts.access import find_access
from accounts.models import Account, ApiKey, Cluster, Role, Webhook, WebhookKind
from accounts.signals import access_changed
from accounts.usage import NodesState
from accounts.users import User
from tests.conftest import CHEAP_HASHERS
from tests.control.webhook_clock import Clock


@pytest.fixture(autouse=True)
def _isolate(settings: Settings) -> None:
    """Clear the throttles' counters of earlier tests, and hash passwords without cost."""
    cache.clear()
    settings.PASSWORD_HASHERS = CHEAP_HASHERS
    settings.WHITENOISE_AUTOREFRESH = True  # otherwise each client begins with a list of all files


@pytest.fixture
def owner(db: None) -> User:
    return User.objects.create_user("owner@example.com", password="owner-password")


@pytest.fixture
def teammate(db: None) -> User:
    return User.objects.create_user("teammate@example.com", password="teammate-password")


@pytest.fixture
def stranger(db: None) -> User:
    return User.objects.create_user("stranger@example.com", password="stranger-password")


@pytest.fixture
def account(owner: User, teammate: User) -> Account:
    account = services.create_account("Acme", owner)
    services.add_member(account, teammate, Role.VIEWER)
    return account


@pytest.fixture
def cluster(account: Account) -> Cluster:
    return services.create_cluster(account, "acme")


@pytest.fixture
def key(cluster: Cluster) -> ApiKey:
    return services.issue_key(cluster, "web").key


@pytest.fixture
def foreign_key(stranger: User) -> ApiKey:
    """A key in the stranger's own account and cluster."""
    account = services.create_account("Other", stranger)
    return services.issue_key(services.create_cluster(account, "other"), "theirs").key


@pytest.fixture
def clock() -> Clock:
    """The queue of webhooks with a time that the test sets."""
    return Clock()


@pytest.fixture
def webhook(key: ApiKey) -> Webhook:
    """A webhook in the cluster, for every kind of event."""
    return services.create_webhook(key.cluster, "https://example.com/hook", kinds=list(WebhookKind.values)).webhook


As = Callable[[User | None], APIClient]


@pytest.fixture
def as_(db: None) -> As:
    """Return a client of the REST API that is logged in as a user, or as nobody for None."""

    def client(user: User | None) -> APIClient:
        client = APIClient()
        client.force_authenticate(user)
        return client

    return client


@pytest.fixture
def announcements() -> Iterator[list[dict[str, object]]]:
    """The changes that were announced to the data plane, each without the values that are None."""
    announcements: list[dict[str, object]] = []

    def receive(sender: object, signal: object, **values: object) -> None:
        assert set(values) == {"account_id", "cluster_pk", "public_key"}
        announcements.append({name: value for name, value in values.items() if value is not None})

    access_changed.connect(receive)
    yield announcements
    access_changed.disconnect(receive)


def secret_of(key: ApiKey) -> str | None:
    """Return the secret of a key as the data plane knows it, or None for an unknown key."""
    access = find_access(key.public_key)
    return access.secret if access else None


@contextmanager
def data_plane(count: Callable[..., list[int]], state: NodesState | None = None) -> Iterator[None]:
    """Let a data plane of the test's own count connections.

    Args:
        count: takes accounts, keys and clusters, as `usage.DataPlane.count_connections` does.
        state: the state of the nodes; by default, that of one idle node.
    """
    before = usage._data_plane
    usage.use_data_plane(
        SimpleNamespace(
            count_connections=count,
            known_connections=lambda seconds, **names: count(**names),
            nodes_state=lambda: state or NodesState(1, 0, None, 0.0),
        )
    )
    try:
        yield
    finally:
        usage._data_plane = before

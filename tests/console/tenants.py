"""Two tenants: a shop with a person of each role, and a stranger's. The same in a test's database and on a server."""

from typing import NamedTuple

from django.test import Client

from accounts import services
from accounts.models import Account, Role
from accounts.users import User

ROLES = ("owner", "developer", "viewer", "stranger")
"""The people of the shop by their role, and a stranger, who owns the other account."""


class Tenant(NamedTuple):
    """An account with one cluster and one API key."""

    account: int
    """The primary key of the account."""
    cluster: str
    """The Cluster ID."""
    key: int
    """The primary key of the API key."""
    public_key: str
    secret: str


class Tenants(NamedTuple):
    """What `make_tenants` has created."""

    shop: Tenant
    other: Tenant
    people: dict[str, int]
    """The primary keys of the users, by role. A user logs in as ROLE@shop.example with the password `ROLE-password`."""


def make_tenants() -> Tenants:
    """Create both tenants and their people."""
    people = {role: User.objects.create_user(f"{role}@shop.example", password=f"{role}-password") for role in ROLES}
    shop = _make_tenant("Example Shop", "shop", people["owner"])
    other = _make_tenant("Other Company", "stall", people["stranger"])
    for role in (Role.DEVELOPER, Role.VIEWER):
        services.add_member(Account.objects.get(pk=shop.account), people[role], role)
    return Tenants(shop, other, {role: user.pk for role, user in people.items()})


def make_sessions(people: dict[str, int]) -> dict[str, str]:
    """Log these people in, and return their session keys by role."""
    sessions = {}
    for role, pk in people.items():
        client = Client()
        client.force_login(User.objects.get(pk=pk))
        sessions[role] = client.cookies["sessionid"].value
    return sessions


def _make_tenant(name: str, cluster_id: str, owner: User) -> Tenant:
    account = services.create_account(name, owner)
    cluster = services.create_cluster(account, cluster_id)
    key, secret = services.issue_key(cluster, "Web shop")
    return Tenant(account.pk, cluster.cluster_id, key.pk, key.public_key, secret)

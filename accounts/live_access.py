"""Who may watch a cluster live: developers and owners of an active account, as long as they are logged in."""

from importlib import import_module
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest

from .models import ApiKey, Membership, Role
from .second_factors import MISSING, lacks_second_factor

WATCHERS = (Role.OWNER, Role.DEVELOPER)


class Watched(NamedTuple):
    """A cluster that somebody may watch."""

    account_pk: int
    cluster_pk: int
    cluster_id: str


class MayNotWatch(Exception):
    """Somebody may not watch a cluster; the message is a sentence for them."""


def check_watcher(session_key: str, account_pk: int, cluster_id: str) -> Watched:
    """Return the cluster that the user of a session may watch.

    Args:
        session_key: the session of the browser.
        account_pk: the account.
        cluster_id: the Cluster ID.

    Raises:
        MayNotWatch: the user may not, or not any more.
    """
    request = HttpRequest()
    engine: Any = import_module(settings.SESSION_ENGINE)
    request.session = engine.SessionStore(session_key)
    user = get_user(request)
    if not user.is_authenticated:
        raise MayNotWatch("You are logged out.")
    if lacks_second_factor(user):
        raise MayNotWatch(MISSING)
    # One query: every page that watches asks again and again.
    rows = Membership.objects.filter(user=user.pk, account=account_pk, account__clusters__cluster_id=cluster_id)
    row = rows.values_list("role", "account__suspended_at", "account__clusters__pk").first()
    if row is None:
        raise MayNotWatch("This cluster was deleted, or it belongs to an account that you are not a member of.")
    role, suspended_at, cluster_pk = row
    if role not in WATCHERS:
        raise MayNotWatch(f"You cannot watch this account live. Your role is {role}.")
    if suspended_at is not None:
        raise MayNotWatch("Live needs an active account.")
    return Watched(account_pk, cluster_pk, cluster_id)


def key_labels(cluster_pk: int) -> dict[str, tuple[int, str]]:
    """Return the primary key and the label of each API key of a cluster, by public key."""
    rows = ApiKey.objects.filter(cluster=cluster_pk).values_list("public_key", "pk", "label")
    return {public_key: (pk, label) for public_key, pk, label in rows}

"""The audit log: each change that a service makes is recorded in the same transaction, without secrets.

Its size is limited: entries are short, and the people of an account can make only so many of them in a day.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from .locks import Refused
from .models import (
    Account,
    ApiKey,
    AuditEntry,
    AuditSource,
    AuditVerb,
    Cluster,
    Invitation,
    Membership,
    Resource,
    ResourceKind,
    Webhook,
    account_of,
)
from .users import User, may_operate

_request: ContextVar[HttpRequest | None] = ContextVar("audited_request", default=None)


class AuditMiddleware:
    """Keeps the current request, so that services can record its user without taking it as an argument."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = _request.set(request)
        try:
            return self._get_response(request)
        finally:
            _request.reset(token)


# How many items of a list an entry contains.
MAX_LISTED = 10
# These take access away, and only as often as something was created. They are possible on every day.
_UNLIMITED = {
    AuditVerb.SUSPENDED,
    AuditVerb.RESUMED,
    AuditVerb.ENDED,
    AuditVerb.REVOKED,
    AuditVerb.DECLINED,
    AuditVerb.DELETED,
}

# What people use who are not operators.
_OPEN_SOURCES = (AuditSource.CONSOLE, AuditSource.REST)


class TooManyChanges(Refused):
    """The account was changed more often today than its people may."""


def record_change(
    verb: AuditVerb,
    resource: Resource,
    changes: Mapping[str, tuple[Any, Any]] | None = None,
    *,
    is_automatic: bool = False,
) -> None:
    """Record a change and who made it: the user of the current request, or a command if there is no request.

    Args:
        verb: what was done.
        resource: the changed resource; a deleted resource still has its primary key.
        changes: the old and the new value of each changed field; never a secret.
        is_automatic: whether nobody asked for the change.

    Raises:
        TooManyChanges: a user of the account has no changes left today. The change must not be made.
    """
    account = account_of(resource)
    author = {"source": AuditSource.AUTOMATIC} if is_automatic else _author()
    if verb not in _UNLIMITED and _is_limited(author["source"]):
        _check_limit(account)
    kind, name = _kind_and_name(resource)
    AuditEntry.objects.create(
        **author,
        account_pk=account.pk,
        account_name=account.name,
        verb=verb,
        kind=kind,
        name=name,
        label=str(resource),
        changes={name: _bounded(*values) for name, values in (changes or {}).items()},
    )


def entries_of(resource: Resource) -> QuerySet[AuditEntry]:
    """Return the entries about a resource, newest first."""
    kind, name = _kind_and_name(resource)
    return AuditEntry.objects.filter(account_pk=account_of(resource).pk, kind=kind, name=name)


def made_by_people() -> Q:
    """Return a condition for entries of changes that the people of the account have made themselves."""
    return Q(source__in=_OPEN_SOURCES)


def public_author(entry: AuditEntry) -> str | None:
    """Return the e-mail address of the person who made a change; None if an operator, a command or nobody made it.

    Tenants must not learn the address of an operator: they could guess its password in the admin.
    """
    return entry.email if entry.source in _OPEN_SOURCES else None


def _is_limited(source: AuditSource) -> bool:
    request = _request.get()
    return source in _OPEN_SOURCES and request is not None and not may_operate(request.user, "change", Account)


def _check_limit(account: Account) -> None:
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    limit = settings.CHANGES_PER_DAY
    entries = AuditEntry.objects.filter(account_pk=account.pk, at__gte=midnight).order_by()
    if entries[:limit].count() >= limit:
        raise TooManyChanges(
            f"The account was changed {limit} times today, which is the limit. Until midnight UTC, you can only revoke "
            "and delete."
        )


def _bounded(old: Any, new: Any) -> tuple[Any, Any]:
    """Return the values to record: of a list, a few of the items that were removed and added."""
    if isinstance(old, list) and isinstance(new, list):
        return _shortened([item for item in old if item not in new]), _shortened(
            [item for item in new if item not in old]
        )
    return _shortened(old), _shortened(new)


def _shortened(value: Any) -> Any:
    if not isinstance(value, list) or len(value) <= MAX_LISTED:
        return value
    return [*value[:MAX_LISTED], f"and {len(value) - MAX_LISTED} more"]


def record_revoked_token(user: User) -> None:
    """Record that an API token of this user was revoked, and who revoked it."""
    record_login_change(AuditVerb.REVOKED, ResourceKind.TOKEN, user, f"API token of {user.email}")


def record_login_change(verb: AuditVerb, kind: ResourceKind, user: User, label: str) -> None:
    """Record a change of how a user logs in, which concerns no account.

    Args:
        verb: what was done.
        kind: what it was done to.
        user: the user.
        label: names what it was done to, for people.
    """
    AuditEntry.objects.create(**_author(), verb=verb, kind=kind, name=user.email, label=label)


def _author() -> dict[str, Any]:
    request = _request.get()
    if request is None:
        return {"source": AuditSource.COMMAND}
    # Django REST framework also sets the user of a token on Django's request.
    user = request.user
    return {"source": _source(request), "user_pk": user.pk, "email": user.get_username()}


def _source(request: HttpRequest) -> AuditSource:
    match = request.resolver_match
    if match is not None and match.app_name == "admin":
        return AuditSource.ADMIN
    # Django REST framework, and nothing else, gives its views this attribute.
    return AuditSource.REST if match is not None and hasattr(match.func, "cls") else AuditSource.CONSOLE


def _kind_and_name(resource: Resource) -> tuple[ResourceKind, str]:
    match resource:
        case Account():
            return ResourceKind.ACCOUNT, str(resource.pk)
        case Membership():
            return ResourceKind.MEMBER, resource.user.email
        case Invitation():
            return ResourceKind.INVITATION, resource.email
        case Cluster():
            return ResourceKind.CLUSTER, resource.cluster_id
        case ApiKey():
            return ResourceKind.KEY, resource.public_key
        case Webhook():
            return ResourceKind.WEBHOOK, str(resource.pk)

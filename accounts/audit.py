"""The audit log: each change that a service makes is recorded in the same transaction, without secrets."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from django.http import HttpRequest, HttpResponse

from .models import (
    Account,
    ApiKey,
    AuditEntry,
    AuditSource,
    AuditVerb,
    Cluster,
    Membership,
    Resource,
    ResourceKind,
    account_of,
)
from .users import User

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


def record_change(
    verb: AuditVerb,
    resource: Resource,
    changes: Mapping[str, tuple[Any, Any]] | None = None,
) -> None:
    """Record a change and who made it: the user of the current request, or a command if there is no request.

    Args:
        verb: what was done.
        resource: the changed resource; a deleted resource still has its primary key.
        changes: the old and the new value of each changed field; never a secret.
    """
    account = account_of(resource)
    kind, name = _kind_and_name(resource)
    AuditEntry.objects.create(
        **_author(),
        account_pk=account.pk,
        account_name=account.name,
        verb=verb,
        kind=kind,
        name=name,
        label=str(resource),
        changes=dict(changes or {}),
    )


def record_revoked_token(user: User) -> None:
    """Record that an API token of this user was revoked, and who revoked it."""
    AuditEntry.objects.create(
        **_author(),
        verb=AuditVerb.REVOKED,
        kind=ResourceKind.TOKEN,
        name=user.email,
        label=f"API token of {user.email}",
    )


def _author() -> dict[str, Any]:
    request = _request.get()
    if request is None:
        return {"source": AuditSource.COMMAND}
    # Django REST framework also sets the user of a token on Django's request.
    user, match = request.user, request.resolver_match
    source = AuditSource.ADMIN if match is not None and match.app_name == "admin" else AuditSource.REST
    return {"source": source, "user_pk": user.pk, "email": user.get_username()}


def _kind_and_name(resource: Resource) -> tuple[ResourceKind, str]:
    match resource:
        case Account():
            return ResourceKind.ACCOUNT, str(resource.pk)
        case Membership():
            return ResourceKind.MEMBER, resource.user.email
        case Cluster():
            return ResourceKind.CLUSTER, resource.cluster_id
        case ApiKey():
            return ResourceKind.KEY, resource.public_key

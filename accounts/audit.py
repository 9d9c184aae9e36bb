"""Who changed what: each change by a service leaves an entry, in the same transaction, without secrets."""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from django.http import HttpRequest, HttpResponse

from .models import Account, ApiKey, AuditEntry, Cluster, Kind, Membership, Source, Verb, account_of

_request: ContextVar[HttpRequest | None] = ContextVar("audited_request", default=None)


class AuditMiddleware:
    """Remembers the request by which a change comes, so that services need no argument for it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = _request.set(request)
        try:
            return self._get_response(request)
        finally:
            _request.reset(token)


def record(
    verb: Verb,
    thing: Account | Membership | Cluster | ApiKey,
    changes: Mapping[str, tuple[Any, Any]] | None = None,
) -> None:
    """Write down a change, and who made it: the person of this request, or a command.

    Args:
        verb: what was done.
        thing: to what it was done; while it is deleted, it still has its primary key.
        changes: old and new value of each field. None of a secret may be among them.
    """
    account = account_of(thing)
    kind, name = _kind_and_name(thing)
    AuditEntry.objects.create(
        **_who(),
        account_pk=account.pk,
        account_name=account.name,
        verb=verb,
        kind=kind,
        name=name,
        label=str(thing),
        changes=dict(changes or {}),
    )


def _who() -> dict[str, Any]:
    request = _request.get()
    if request is None:
        return {"source": Source.COMMAND}
    # Django REST framework puts the person of a token into the request too.
    user, match = request.user, request.resolver_match
    source = Source.ADMIN if match is not None and match.app_name == "admin" else Source.REST
    return {"source": source, "user_pk": user.pk, "username": user.get_username()}


def _kind_and_name(thing: Account | Membership | Cluster | ApiKey) -> tuple[Kind, str]:
    match thing:
        case Account():
            return Kind.ACCOUNT, str(thing.pk)
        case Membership():
            return Kind.MEMBER, thing.user.get_username()
        case Cluster():
            return Kind.CLUSTER, thing.cluster_id
        case ApiKey():
            return Kind.KEY, thing.public_key

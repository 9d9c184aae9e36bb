"""What all services have in common: a change that is validated, saved and recorded, and a quota that is kept."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from django.db import IntegrityError, transaction

from ..audit import record_change
from ..locks import Refused
from ..models import Account, AuditVerb, Resource
from ..quotas import limit_of


class NotAllowed(Refused):
    """The user may not do this now."""


class Conflict(Refused):
    """Someone else has changed the settings meanwhile."""


class QuotaReached(Refused):
    """The account owns as much as its quota allows."""


def create_recorded(resource: Resource, *fields: str) -> None:
    """Validate, save and record a new resource.

    Args:
        resource: the resource to save.
        fields: the fields whose values are recorded.

    Raises:
        ValidationError: a value is invalid or already taken.
    """
    resource.full_clean()
    try:
        with transaction.atomic():
            resource.save(force_insert=True)
    except IntegrityError:
        resource.full_clean()  # if another request has just taken the value, this error names the field
        raise
    record_change(AuditVerb.CREATED, resource, {name: (None, getattr(resource, name)) for name in fields})


def update_recorded(resource: Resource, values: dict[str, Any]) -> None:
    """Change and record some fields of a resource.

    Raises:
        ValidationError: a value is invalid.
    """
    # Read the old values from the locked row: a form may already have set new values on the object.
    rows: Any = type(resource)._default_manager.select_for_update().filter(pk=resource.pk)
    before = rows.values(*values).get()
    for name, value in values.items():
        setattr(resource, name, value)
    resource.full_clean()
    resource.save(update_fields=list(values))
    changes = {name: (before[name], value) for name in values if before[name] != (value := getattr(resource, name))}
    if changes:
        record_change(AuditVerb.CHANGED, resource, changes)


def version_of(resource: Resource, fields: Iterable[str]) -> str:
    """Return a text that is another one after each change of these fields."""
    values = json.dumps([getattr(resource, name) for name in fields])
    return hashlib.sha256(values.encode()).hexdigest()[:16]


def check_room(account: Account, quota: str, used: int) -> None:
    """Check that an account may own one more of something.

    Args:
        account: the locked account.
        quota: the name of the quota's field.
        used: how many it owns.

    Raises:
        QuotaReached: it may not.
    """
    limit = limit_of(account, quota)
    if used >= limit:
        name = account._meta.get_field(quota).verbose_name  # type: ignore[union-attr]
        raise QuotaReached(f"The account has reached its quota of {limit} {name}.")

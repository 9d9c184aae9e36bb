"""The pages of API keys."""

from collections.abc import Collection
from datetime import timedelta

from django.contrib import admin
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.formats import date_format
from django.views.decorators.debug import sensitive_variables

from .. import services
from ..forms import ApiKeyForm, RotationForm
from ..models import ApiKey, Cluster
from ..quotas import QUOTA_FIELDS
from ..services import IssuedKey
from .base import ConnectionsColumn, issued_keys
from .frozen import why_account_frozen, why_key_frozen
from .inlines import ServiceInline
from .lists import change_link, copyable, timestamp_filter
from .operations import Operation


def save_key(request: HttpRequest, key: ApiKey, changed: Collection[str]) -> None:
    """Issue an API key, or update its changed settings, with the values that a form has set on it."""
    settings = {name: getattr(key, name) for name in services.KEY_SETTINGS}
    if key.pk is None:
        issued = services.issue_key(key.cluster, **settings)
        key.pk, key.public_key = issued.key.pk, issued.key.public_key
        issued_keys(request).append(issued)
    else:
        services.update_key(key, **{name: settings[name] for name in changed})


@sensitive_variables()
def rotate(key: ApiKey, overlap: timedelta) -> IssuedKey:
    """Rotate the secret of an API key."""
    return IssuedKey(key, services.rotate_secret(key, overlap))


class ApiKeyInline(ServiceInline):
    model = ApiKey
    form = ApiKeyForm
    show_change_link = True
    fields = ["label", "protects_channels", "allows_client_messages", "last_used_at", "revoked_at"]
    readonly_fields = ["last_used_at", "revoked_at"]

    def save_row(self, request: HttpRequest, row: ApiKey, changed: Collection[str]) -> None:
        save_key(request, row, changed)

    def delete_row(self, row: ApiKey) -> None:
        services.delete_key(row)

    def why_frozen(self, parent: Cluster) -> str | None:
        return why_account_frozen(parent.account)


@admin.register(ApiKey)
class ApiKeyAdmin(ConnectionsColumn):
    form = ApiKeyForm
    list_display = ["label", "account", "cluster", "active", "connections", "last_used", "short_key"]
    list_filter = [
        timestamp_filter("revoked_at", "revoked", if_set="Revoked", if_null="Active"),
        timestamp_filter("last_used_at", "used", if_set="Used", if_null="Never used"),
        "protects_channels",
        "allows_client_messages",
        "created_at",
    ]
    list_select_related = ["cluster__account"]
    search_fields = ["label", "public_key", "cluster__cluster_id", "cluster__account__name"]
    autocomplete_fields = ["cluster"]
    fieldsets = [
        (None, {"fields": ["cluster", "label", "whole_key"]}),
        (
            "Settings",
            {
                "fields": [
                    "protects_channels",
                    "allows_client_messages",
                    "closes_expired_connections",
                    "allowed_origins",
                ]
            },
        ),
        ("Quotas", {"fields": list(QUOTA_FIELDS), "description": "Quotas without a value use those of the account."}),
        ("Usage", {"fields": ["connections", "last_used_at"]}),
        ("Audit", {"fields": ["created_at", "old_secret_ends_at", "revoked_at"]}),
    ]
    add_fieldsets = [(None, {"fields": ["cluster", "label"]}), fieldsets[1], fieldsets[2]]
    readonly_fields = ["whole_key", "connections", "created_at", "last_used_at", "old_secret_ends_at", "revoked_at"]
    operations = [
        Operation(
            "rotate",
            "Rotate secret",
            "got a new secret",
            "The API key gets a new secret, which the next page shows once. When the old secret ends, the connections "
            "that its JWTs have opened are closed; others stay open.",
            rotate,
            lambda key: why_key_frozen(key) is None,
            "The API key is revoked or its account is suspended, so it cannot get a new secret.",
            counted="Open connections of the API key, with and without a JWT",
            form=RotationForm,
        ),
        Operation(
            "end-old-secret",
            "End the old secret",
            "limited to the new secret",
            "The secret before the last rotation stops working now, and the connections that its JWTs have opened are "
            "closed; others stay open.",
            lambda key: services.end_old_secret(key, suspended_too=True),
            lambda key: key.has_old_secret,
            "The API key has no old secret that is still valid.",
            counted="Open connections of the API key, with and without a JWT",
        ),
        Operation(
            "revoke",
            "Revoke",
            "revoked",
            "All connections of the API key are closed, and it can never be used again.",
            lambda key: services.revoke_key(key, suspended_too=True),
            lambda key: not key.revoked,
            "The API key is revoked already.",
            counted="Open connections that will be closed now",
        ),
    ]

    def why_frozen(self, obj: ApiKey) -> str | None:
        return why_key_frozen(obj)

    def notices(self, obj: ApiKey) -> list[str]:
        if not obj.has_old_secret or obj.old_secret_ends_at is None:
            return super().notices(obj)
        until = date_format(obj.old_secret_ends_at, "DATETIME_FORMAT")
        return [*super().notices(obj), f"The old secret of this API key is also valid until {until}."]

    def delete_object(self, obj: ApiKey) -> None:
        services.delete_key(obj)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Otherwise the encrypted secret could be read by filtering.
        return "secret_ciphertext" not in lookup and super().lookup_allowed(lookup, value, request)

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ModelForm, change: bool) -> None:
        save_key(request, obj, form.changed_data)

    @admin.display(ordering="cluster__account__name")
    def account(self, key: ApiKey) -> str:
        return change_link(key.cluster.account)

    @admin.display(description="public key")
    def whole_key(self, key: ApiKey) -> str:
        return copyable(key.public_key)

    @admin.display(description="public key", ordering="public_key")
    def short_key(self, key: ApiKey) -> str:
        return copyable(key.public_key, f"{key.public_key[:8]}…")

    @admin.display(ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        return date_format(key.last_used_at, "DATE_FORMAT") if key.last_used_at is not None else "never"

    @admin.display(boolean=True, ordering="revoked_at")
    def active(self, key: ApiKey) -> bool:
        return not key.revoked

"""The admin, in which operators of the service manage tenants. All changes go through the services."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.forms import BaseUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db.models import Count, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponseRedirect
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html_join
from django.views.decorators.debug import sensitive_variables

from . import services, token_admin  # noqa: F401  (registers itself)
from .forms import ApiKeyForm, ClusterForm, LoginForm, MembershipForm, RotationForm
from .locks import Refused, sentence
from .models import Account, ApiKey, AuditEntry, Cluster, Membership, Role
from .operations import Operation
from .quotas import QUOTA_FIELDS, default_quotas
from .service_admin import (
    CheckedRequests,
    ConnectionsColumn,
    ServiceInline,
    change_link,
    changelist_link,
    copyable,
    issued_keys,
    timestamp_filter,
)
from .services import IssuedKey
from .usage import messages_today
from .users import User

admin.site.login_form = LoginForm


def save_cluster(cluster: Cluster) -> None:
    """Create a cluster with the values that a form has set on it. A form changes no field of an existing cluster."""
    if cluster.pk is None:
        cluster.pk = services.create_cluster(cluster.account, cluster.cluster_id, enabled=cluster.enabled).pk


def why_account_frozen(account: Account) -> str | None:
    """Return a sentence that says why an account and everything in it cannot be changed, or None if it can."""
    if account.suspended_at is None:
        return None
    since = date_format(account.suspended_at, "DATETIME_FORMAT")
    return f"The account {account} is suspended since {since}. It cannot be changed until it is resumed."


def why_key_frozen(key: ApiKey) -> str | None:
    """Return a sentence that says why an API key cannot be changed, or None if it can."""
    if key.revoked_at is None:
        return why_account_frozen(key.cluster.account)
    return f"This API key was revoked on {date_format(key.revoked_at, 'DATETIME_FORMAT')}. It cannot be used again."


@sensitive_variables()
def rotate(key: ApiKey, overlap: timedelta) -> IssuedKey:
    """Rotate the secret of an API key."""
    return IssuedKey(key, services.rotate_secret(key, overlap))


def save_key(request: HttpRequest, key: ApiKey, changed: Collection[str]) -> None:
    """Issue an API key, or update its changed settings, with the values that a form has set on it."""
    settings = {name: getattr(key, name) for name in services.KEY_SETTINGS}
    if key.pk is None:
        issued = services.issue_key(key.cluster, **settings)
        key.pk, key.public_key = issued.key.pk, issued.key.public_key
        issued_keys(request).append(issued)
    else:
        services.update_key(key, **{name: settings[name] for name in changed})


class MembershipInline(ServiceInline):
    model = Membership
    form = MembershipForm
    autocomplete_fields = ["user"]
    verbose_name_plural = "people"

    def sorted_for_saving(self, rows: list[Membership]) -> list[Membership]:
        # Owners first, so that one form can make another member the owner and the current owner a viewer.
        return sorted(rows, key=lambda membership: membership.role != Role.OWNER)

    def save_row(self, request: HttpRequest, row: Membership, changed: Collection[str]) -> None:
        if row.pk is None:
            row.pk = services.add_member(row.account, row.user, row.role).pk
        else:
            services.set_role(row, row.role)

    def delete_row(self, row: Membership) -> None:
        services.remove_member(row)

    def why_frozen(self, parent: Account) -> str | None:
        return why_account_frozen(parent)


class ClusterInline(ServiceInline):
    model = Cluster
    form = ClusterForm
    show_change_link = True
    fields = ["cluster_id", "enabled", "created_at"]
    readonly_fields = ["created_at"]

    def save_row(self, request: HttpRequest, row: Cluster, changed: Collection[str]) -> None:
        save_cluster(row)

    def why_frozen(self, parent: Account) -> str | None:
        return why_account_frozen(parent)

    def delete_row(self, row: Cluster) -> None:
        services.delete_cluster(row, suspended_too=True)


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


class UserForm(UserChangeForm):
    """A user. Deactivating the only owner of an account is refused."""

    def clean(self) -> dict[str, Any] | None:
        values = super().clean()
        if values is not None and values.get("is_active") is False:
            self.instance.is_active = False
            services.check_deactivation(self.instance)
        return values


@admin.register(User)
class UserAdmin(CheckedRequests, BaseUserAdmin):
    """Users. Only superusers can give them rights, and change or delete users who have rights."""

    form = UserForm
    add_form = BaseUserCreationForm
    show_full_result_count = False
    list_per_page = 50
    list_display = ["email", "name", "is_staff", "is_superuser", "is_active", "last_login"]
    list_filter = ["is_staff", "is_superuser", "is_active", "groups"]
    search_fields = ["email", "name"]
    ordering = ["email"]
    fieldsets = [
        (None, {"fields": ["email", "password", "name"]}),
        ("Permissions", {"fields": ["is_active", "is_staff", "is_superuser", "groups", "user_permissions"]}),
        ("Audit", {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [(None, {"classes": ["wide"], "fields": ["email", "name", "password1", "password2"]})]
    readonly_fields = ["last_login", "date_joined"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return self.readonly_fields if request.user.is_superuser else [*self.readonly_fields, *RIGHTS]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and has_no_more_rights(obj, request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and has_no_more_rights(obj, request.user)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        try:
            return super().delete_view(request, object_id, extra_context)
        except (ValidationError, Refused) as error:
            self.message_user(request, sentence(error), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        services.delete_user(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            try:
                services.delete_user(user)
            except (ValidationError, Refused) as error:
                self.message_user(request, f"{user}: {sentence(error)}", messages.ERROR)


RIGHTS = ["is_staff", "is_superuser", "groups", "user_permissions"]


def has_no_more_rights(user: User | None, other: Any) -> bool:
    """Return whether `other` may take over the login of a user: anyone's as a superuser, else one without rights."""
    if user is None or other.is_superuser:
        return True
    return not (user.is_staff or user.is_superuser or user.groups.exists() or user.user_permissions.exists())


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(CheckedRequests, BaseGroupAdmin):
    """Groups. Only superusers can change them, because they give rights to their members."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)


@admin.register(Account)
class AccountAdmin(ConnectionsColumn):
    list_display = ["name", "active", "connections", "messages_today", "cluster_count", "created"]
    list_filter = [timestamp_filter("suspended_at", "suspended", if_set="Suspended", if_null="Active"), "created_at"]
    search_fields = ["name", "clusters__cluster_id", "people__email", "people__name"]
    ordering = ["name", "pk"]
    fieldsets = [
        (None, {"fields": ["name", "cluster_count"]}),
        ("Quotas", {"fields": list(default_quotas()), "description": "Leave a field empty to use the default."}),
        ("Usage", {"fields": ["connections", "messages_today"]}),
        ("Audit", {"fields": ["created_at", "suspended_at"]}),
    ]
    add_fieldsets = [(None, {"fields": ["name"]}), fieldsets[1]]
    readonly_fields = ["cluster_count", "connections", "messages_today", "created_at", "suspended_at"]
    inlines = [MembershipInline, ClusterInline]
    operations = [
        Operation(
            "suspend",
            "Suspend",
            "suspended",
            "All connections of the account are closed, and new ones and publishing are rejected until it is resumed.",
            services.suspend_account,
            lambda account: not account.suspended,
            "The account is suspended already.",
            counted="Open connections that will be closed now",
        ),
        Operation(
            "resume",
            "Resume",
            "resumed",
            "Clients can connect and servers can publish again.",
            services.resume_account,
            lambda account: account.suspended,
            "The account is not suspended.",
        ),
    ]
    owned = [(Cluster, "account"), (ApiKey, "cluster__account")]

    def why_frozen(self, obj: Account) -> str | None:
        return why_account_frozen(obj)

    def delete_object(self, obj: Account) -> None:
        services.delete_account(obj, suspended_too=True)

    def save_model(self, request: HttpRequest, obj: Account, form: ModelForm, change: bool) -> None:
        quotas = {name: getattr(obj, name) for name in default_quotas() if name in form.changed_data}
        account = obj if change else services.create_account(obj.name)
        obj.pk = account.pk
        if change and "name" in form.changed_data:
            services.rename_account(account, obj.name)
        services.set_quotas(account, **quotas)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        accounts: QuerySet[Any] = super().get_queryset(request)
        return accounts.annotate(  # type: ignore[no-any-return]
            cluster_count=Count("clusters", distinct=True), sent_today=messages_today("pk")
        )

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        for name, default in default_quotas().items():
            if name not in form.base_fields:
                continue  # users with only the view permission get no form fields
            form.base_fields[name].widget.attrs["placeholder"] = "server limit" if default is None else default
        return form

    @admin.display(description="messages today", ordering="sent_today")
    def messages_today(self, account: Any) -> int:
        return int(account.sent_today)

    @admin.display(boolean=True, ordering="suspended_at")
    def active(self, account: Account) -> bool:
        return not account.suspended

    @admin.display(description="clusters", ordering="cluster_count")
    def cluster_count(self, account: Any) -> str:
        return changelist_link(Cluster, account.cluster_count, account__id__exact=account.pk)

    @admin.display(ordering="created_at")
    def created(self, account: Account) -> str:
        return date_format(account.created_at, "DATE_FORMAT")


@admin.register(Cluster)
class ClusterAdmin(ConnectionsColumn):
    form = ClusterForm
    list_display = ["cluster_id", "account_link", "enabled", "key_count", "created"]
    list_filter = ["enabled", "created_at"]
    list_select_related = ["account"]
    search_fields = ["cluster_id", "account__name"]
    autocomplete_fields = ["account"]
    ordering = ["cluster_id"]
    fieldsets = [(None, {"fields": ["account", "cluster_id", "enabled", "connections", "key_count", "created_at"]})]
    add_fieldsets = [(None, {"fields": ["account", "cluster_id", "enabled"]})]
    readonly_fields = ["connections", "key_count", "created_at"]
    inlines = [ApiKeyInline]
    operations = [
        Operation(
            "disable",
            "Switch off",
            "switched off",
            "All connections to the cluster are closed, and new ones and publishing are rejected until it is on again.",
            lambda cluster: services.update_cluster(cluster, enabled=False),
            lambda cluster: cluster.enabled and not cluster.account.suspended,
            "The cluster is off already, or its account is suspended.",
            counted="Open connections that will be closed now",
        ),
        Operation(
            "enable",
            "Switch on",
            "switched on",
            "Clients can connect and servers can publish again.",
            lambda cluster: services.update_cluster(cluster, enabled=True),
            lambda cluster: not cluster.enabled and not cluster.account.suspended,
            "The cluster is on already, or its account is suspended.",
        ),
    ]
    owned = [(ApiKey, "cluster")]

    def why_frozen(self, obj: Cluster) -> str | None:
        return why_account_frozen(obj.account)

    def notices(self, obj: Cluster) -> list[str]:
        off = [] if obj.enabled else ["This cluster is switched off: it accepts neither connections nor messages."]
        return [*super().notices(obj), *off]

    def delete_object(self, obj: Cluster) -> None:
        services.delete_cluster(obj, suspended_too=True)

    def save_model(self, request: HttpRequest, obj: Cluster, form: ModelForm, change: bool) -> None:
        save_cluster(obj)

    @admin.display(description="account", ordering="account__name")
    def account_link(self, cluster: Cluster) -> str:
        return change_link(cluster.account)

    @admin.display(ordering="created_at")
    def created(self, cluster: Cluster) -> str:
        return date_format(cluster.created_at, "DATE_FORMAT")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        clusters: QuerySet[Any] = super().get_queryset(request)
        return clusters.annotate(key_count=Count("keys"))  # type: ignore[no-any-return]

    @admin.display(description="API keys", ordering="key_count")
    def key_count(self, cluster: Any) -> str:
        return changelist_link(ApiKey, cluster.key_count, cluster__id__exact=cluster.pk)


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
        ("Quotas", {"fields": list(QUOTA_FIELDS), "description": "Leave a field empty to use the account's quota."}),
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
        if obj.revoked or obj.old_secret_ends_at is None or obj.old_secret_ends_at <= timezone.now():
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


@admin.register(AuditEntry)
class AuditEntryAdmin(CheckedRequests):
    """The audit log, read-only."""

    show_full_result_count = False
    list_per_page = 50
    list_display = ["at", "what", "account_name", "who", "changed"]
    list_filter = ["at", "source", "verb", "kind"]
    search_fields = ["email", "name", "label", "account_name"]
    fields = ["at", "account_name", "kind", "label", "name", "verb", "changed", "who"]
    change_form_template = "accounts/audit_entry.html"

    class Media:
        css = {"all": ["accounts/admin.css"]}

    @admin.display(description="what", ordering="verb")
    def what(self, entry: AuditEntry) -> str:
        return f"{entry.get_kind_display()} {entry.label} {entry.verb}"

    @admin.display(description="by", ordering="email")
    def who(self, entry: AuditEntry) -> str:
        return entry.author

    @admin.display(description="changes")
    def changed(self, entry: AuditEntry) -> str:
        return format_html_join("", "<div>{}</div>", ([change] for change in entry.described_changes()))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

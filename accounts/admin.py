"""The admin, in which operators of the service manage tenants. All changes go through the services."""

from collections.abc import Collection
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.forms import BaseUserCreationForm
from django.db import transaction
from django.db.models import Count, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse

from . import services, token_admin  # noqa: F401  (registers itself)
from .forms import ApiKeyForm, ClusterForm, LoginForm, MembershipForm
from .models import Account, ApiKey, AuditEntry, Cluster, Membership, Role
from .quotas import QUOTA_FIELDS, default_quotas
from .service_admin import ServiceAdmin, ServiceInline, changelist_link, issued_keys, secrets_page, timestamp_filter
from .services import IssuedKey
from .usage import connections, messages_today
from .users import User

admin.site.login_form = LoginForm


def save_cluster(cluster: Cluster, changed: Collection[str]) -> None:
    """Create a cluster, or update its changed fields, with the values that a form has set on it."""
    if cluster.pk is None:
        cluster.pk = services.create_cluster(cluster.account, cluster.cluster_id, enabled=cluster.enabled).pk
    elif "enabled" in changed:
        services.update_cluster(cluster, enabled=cluster.enabled)


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
        # Owners first, so that one form can make another member the owner and the current owner a member.
        return sorted(rows, key=lambda membership: membership.role != Role.OWNER)

    def save_row(self, request: HttpRequest, row: Membership, changed: Collection[str]) -> None:
        if row.pk is None:
            row.pk = services.add_member(row.account, row.user, row.role).pk
        else:
            services.set_role(row, row.role)

    def delete_row(self, row: Membership) -> None:
        services.remove_member(row)


class ClusterInline(ServiceInline):
    model = Cluster
    form = ClusterForm
    show_change_link = True
    fields = ["cluster_id", "enabled", "created_at"]
    readonly_fields = ["created_at"]

    def save_row(self, request: HttpRequest, row: Cluster, changed: Collection[str]) -> None:
        save_cluster(row, changed)


class ApiKeyInline(ServiceInline):
    model = ApiKey
    form = ApiKeyForm
    show_change_link = True
    fields = ["label", "public_key", "protects_channels", "allows_client_messages", "last_used_at", "revoked_at"]
    readonly_fields = ["public_key", "last_used_at", "revoked_at"]

    def save_row(self, request: HttpRequest, row: ApiKey, changed: Collection[str]) -> None:
        save_key(request, row, changed)


@admin.register(User)
class UserAdmin(BaseUserAdmin):
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


@admin.register(Account)
class AccountAdmin(ServiceAdmin):
    list_display = ["name", "active", "cluster_count", "connections", "messages_today", "created_at"]
    list_filter = [timestamp_filter("suspended_at", "suspended", if_set="Suspended", if_null="Active"), "created_at"]
    search_fields = ["name", "clusters__cluster_id", "people__email", "people__name"]
    ordering = ["name", "pk"]
    fieldsets = [
        (None, {"fields": ["name", "cluster_count"]}),
        ("Quotas", {"fields": list(default_quotas()), "description": "Leave a field empty to use the default."}),
        ("Usage", {"fields": ["connections", "messages_today"]}),
        ("Audit", {"fields": ["created_at", "suspended_at"]}),
    ]
    readonly_fields = ["cluster_count", "connections", "messages_today", "created_at", "suspended_at"]
    inlines = [MembershipInline, ClusterInline]
    actions = ["suspend", "resume"]

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

    @admin.display(description="connections now")
    def connections(self, account: Account) -> int:
        return connections(account_id=account.pk)

    @admin.display(description="messages today", ordering="sent_today")
    def messages_today(self, account: Any) -> int:
        return int(account.sent_today)

    @admin.display(boolean=True, ordering="suspended_at")
    def active(self, account: Account) -> bool:
        return not account.suspended

    @admin.display(description="clusters", ordering="cluster_count")
    def cluster_count(self, account: Any) -> str:
        return changelist_link(Cluster, account.cluster_count, account__id__exact=account.pk)

    @admin.action(description="Suspend: close all connections and reject new ones", permissions=["change"])
    def suspend(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        self.call_for_each(request, queryset, services.suspend_account, "suspended")

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        self.call_for_each(request, queryset, services.resume_account, "resumed")


@admin.register(Cluster)
class ClusterAdmin(ServiceAdmin):
    form = ClusterForm
    list_display = ["cluster_id", "account", "enabled", "key_count", "created_at"]
    list_filter = ["enabled", "created_at"]
    list_select_related = ["account"]
    search_fields = ["cluster_id", "account__name"]
    autocomplete_fields = ["account"]
    ordering = ["cluster_id"]
    fields = ["account", "cluster_id", "enabled", "key_count", "created_at"]
    readonly_fields = ["key_count", "created_at"]
    inlines = [ApiKeyInline]
    actions = ["enable", "disable"]

    def save_model(self, request: HttpRequest, obj: Cluster, form: ModelForm, change: bool) -> None:
        save_cluster(obj, form.changed_data)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        clusters: QuerySet[Any] = super().get_queryset(request)
        return clusters.annotate(key_count=Count("keys"))  # type: ignore[no-any-return]

    @admin.display(description="API keys", ordering="key_count")
    def key_count(self, cluster: Any) -> str:
        return changelist_link(ApiKey, cluster.key_count, cluster__id__exact=cluster.pk)

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Cluster]) -> None:
        self.call_for_each(request, queryset, lambda cluster: services.update_cluster(cluster, enabled=True), "enabled")

    @admin.action(description="Disable: close all connections and reject new ones", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Cluster]) -> None:
        self.call_for_each(
            request, queryset, lambda cluster: services.update_cluster(cluster, enabled=False), "disabled"
        )


@admin.register(ApiKey)
class ApiKeyAdmin(ServiceAdmin):
    form = ApiKeyForm
    list_display = ["label", "public_key", "cluster", "account", "active", "connections", "last_used_at", "created_at"]
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
        (None, {"fields": ["cluster", "label", "public_key"]}),
        ("Settings", {"fields": ["protects_channels", "allows_client_messages", "allowed_origins"]}),
        ("Quotas", {"fields": list(QUOTA_FIELDS), "description": "Leave a field empty to use the account's quota."}),
        ("Usage", {"fields": ["connections", "last_used_at"]}),
        ("Audit", {"fields": ["created_at", "revoked_at"]}),
    ]
    readonly_fields = ["public_key", "connections", "created_at", "last_used_at", "revoked_at"]
    actions = ["revoke", "rotate_secrets"]

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ModelForm, change: bool) -> None:
        save_key(request, obj, form.changed_data)

    @admin.display(ordering="cluster__account__name")
    def account(self, key: ApiKey) -> Account:
        return key.cluster.account

    @admin.display(description="connections now")
    def connections(self, key: ApiKey) -> int:
        return connections(public_key=key.public_key)

    @admin.display(boolean=True, ordering="revoked_at")
    def active(self, key: ApiKey) -> bool:
        return not key.revoked

    @admin.action(description="Revoke permanently: close all connections and reject new ones", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        self.call_for_each(request, queryset, services.revoke_key, "revoked")

    @admin.action(description="Rotate secrets and show the new ones once", permissions=["change"])
    @transaction.atomic  # if an error keeps the page from showing the new secrets, none is rotated
    def rotate_secrets(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponse | None:
        rotated: list[IssuedKey] = []
        for key in queryset.filter(revoked_at=None):
            rotated.append(IssuedKey(key, services.rotate_secret(key)))
            self.log_change(request, key, "Secret rotated.")
        if not rotated:
            self.message_user(request, "Revoked keys cannot get a new secret. Issue another key.", messages.ERROR)
            return None
        return secrets_page(self, request, rotated, request.get_full_path())


@admin.register(AuditEntry)
class AuditEntryAdmin(admin.ModelAdmin):
    """The audit log, read-only."""

    show_full_result_count = False
    list_per_page = 50
    list_display = ["at", "source", "email", "verb", "kind", "label", "account_name", "changes"]
    list_filter = ["at", "source", "verb", "kind"]
    search_fields = ["email", "name", "label", "account_name"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

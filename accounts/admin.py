"""The admin, in which operators of the service manage tenants. All changes go through the services."""

from collections.abc import Callable, Collection
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import model_ngettext
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.forms import BaseUserCreationForm
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, Model, QuerySet
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.html import format_html

from . import services
from .forms import ApiKeyForm, ClusterForm, LoginForm, MembershipForm
from .models import Account, ApiKey, AuditEntry, Cluster, Membership, Role
from .quotas import QUOTA_FIELDS, default_quotas
from .services import IssuedKey
from .usage import connections, messages_today
from .users import User

admin.site.login_form = LoginForm
# The maximum number of rows that an inline shows.
MAX_INLINE_ROWS = 50


def timestamp_filter(field: str, label: str, *, if_set: str, if_null: str) -> type[admin.SimpleListFilter]:
    """Return a list filter by whether a timestamp is set.

    Args:
        field: the name of the timestamp's field.
        label: the title of the filter, and its query parameter.
        if_set: the label of the choice for objects whose timestamp is set.
        if_null: the label of the other choice.
    """

    class TimestampFilter(admin.SimpleListFilter):
        title = label
        parameter_name = label

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return [("no", if_null), ("yes", if_set)]

        def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
            if self.value() in ("yes", "no"):
                return queryset.filter(**{f"{field}__isnull": self.value() == "no"})
            return queryset

    return TimestampFilter


class ServiceAdmin(admin.ModelAdmin):
    """Saves through the services, and shows the secrets of newly issued keys once."""

    show_full_result_count = False
    list_per_page = 50

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        """Leave out inlines with many rows if their model has its own list: Django limits the fields of a form."""

        def is_short(model: type[Model]) -> bool:
            rows = model._default_manager.filter(**{str(self.opts.model_name): obj})
            return rows[: MAX_INLINE_ROWS + 1].count() <= MAX_INLINE_ROWS

        return [
            inline
            for inline in super().get_inlines(request, obj)
            if obj is None or not self.admin_site.is_registered(inline.model) or is_short(inline.model)
        ]

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm, change: bool) -> None:
        """Save the object, with the values of the form, through the services."""
        raise NotImplementedError

    def save_formset(self, request: HttpRequest, form: ModelForm, formset: Any, change: bool) -> None:
        formset.inline.save_rows(request, formset)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except ValidationError as error:  # raised by a service; nothing was saved
            self.message_user(request, " ".join(error.messages), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        response = super().response_add(request, obj, post_url_continue)
        return self._with_secrets(request, response)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return self._with_secrets(request, super().response_change(request, obj))

    def call_for_each(
        self, request: HttpRequest, queryset: QuerySet[Any], service: Callable[[Any], object], done: str
    ) -> None:
        """Call a service for each selected object, and record the change in the object's history.

        Args:
            request: the current request.
            queryset: the selected objects.
            service: the function to call with each object.
            done: what was done, such as "suspended", for the history and the message on the page.
        """
        count = 0
        for obj in queryset:
            service(obj)
            self.log_change(request, obj, f"{done.capitalize()}.")
            count += 1
        self.message_user(request, f"{count} {model_ngettext(self.opts, count)} {done}.", messages.SUCCESS)

    def _with_secrets(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        keys = issued_keys(request)
        return secrets_page(self, request, keys, response.headers.get("Location", "..")) if keys else response


class ServiceInline(admin.TabularInline):
    """Rows in the form of the object that they belong to, saved through the services."""

    extra = 0

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        formset: Any = super().get_formset(request, obj, **kwargs)
        formset.inline = self  # for ServiceAdmin.save_formset(), which receives only the formset
        return formset

    def save_rows(self, request: HttpRequest, formset: BaseModelFormSet) -> None:
        """Save the rows that were added or changed, then delete the rows that were marked for deletion."""
        changed = {id(form.instance): form.changed_data for form in formset.forms}
        for row in self.sorted_for_saving(formset.save(commit=False)):
            self.save_row(request, row, changed[id(row)])
        for row in formset.deleted_objects:
            self.delete_row(row)

    def sorted_for_saving(self, rows: list[Any]) -> list[Any]:
        return rows

    def save_row(self, request: HttpRequest, row: Any, changed: Collection[str]) -> None:
        """Save a new row, or the changed fields of an existing row, through the services."""
        raise NotImplementedError

    def delete_row(self, row: Any) -> None:
        row.delete()


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


def issued_keys(request: HttpRequest) -> list[IssuedKey]:
    """Return the keys that were issued in this request, as a list that can be appended to."""
    keys: list[IssuedKey] = request.__dict__.setdefault("issued_keys", [])
    return keys


def secrets_page(model_admin: admin.ModelAdmin, request: HttpRequest, keys: list[IssuedKey], back: str) -> HttpResponse:
    """Return a page that shows secrets once. A Django message would store them in a cookie or a session."""
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": "Secrets of API keys",
        "keys": keys,
        "back": back,
    }
    response = TemplateResponse(request, "accounts/secrets.html", context)
    add_never_cache_headers(response)
    return response


def changelist_link(model: type[Model], count: int, **filters: object) -> str:
    """Return a number as a link to the list of the objects that it counts."""
    url = reverse(f"admin:accounts_{model._meta.model_name}_changelist", query=filters)
    return format_html('<a href="{}">{}</a>', url, count)


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

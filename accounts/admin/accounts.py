"""The pages of accounts, with their people and clusters."""

from collections.abc import Collection
from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.urls import URLPattern, path, reverse
from django.utils.formats import date_format

from .. import services
from ..forms import MembershipForm
from ..models import Account, ApiKey, Cluster, Invitation, Membership, Role, Webhook
from ..quotas import default_quotas
from ..usage import messages_today
from .base import ConnectionsColumn
from .clusters import ClusterInline
from .frozen import why_account_frozen
from .inlines import ServiceInline
from .lists import changelist_link, timestamp_filter
from .operations import Operation
from .usage import UsagePages


class MembershipInline(ServiceInline):
    model = Membership
    form = MembershipForm
    autocomplete_fields = ["user"]
    verbose_name, verbose_name_plural = "person", "people"

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


@admin.register(Account)
class AccountAdmin(UsagePages, ConnectionsColumn):
    list_display = ["name", "active", "connections", "messages_today", "cluster_count", "created"]
    list_filter = [timestamp_filter("suspended_at", "suspended", if_set="Suspended", if_null="Active"), "created_at"]
    search_fields = ["name", "clusters__cluster_id", "people__email", "people__name"]
    ordering = ["name", "pk"]
    fieldsets = [
        (None, {"fields": ["name", "cluster_count"]}),
        ("Quotas", {"fields": list(default_quotas()), "description": "Quotas without a value use the defaults."}),
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
    owned = [
        *((Cluster, "account"), (ApiKey, "cluster__account"), (Webhook, "cluster__account")),
        (Invitation, "account"),
    ]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("busiest/", view(self.busiest_view), name="accounts_account_busiest"),
            path("<int:pk>/usage/", view(self.usage_view), name="accounts_account_usage"),
            *super().get_urls(),
        ]

    def buttons(self, request: HttpRequest, obj: Any) -> list[dict[str, str]]:
        usage = {"label": "Usage", "url": reverse("admin:accounts_account_usage", args=[obj.pk])}
        return [usage, *super().buttons(request, obj)]

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

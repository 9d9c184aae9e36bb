"""The pages of clusters."""

from collections.abc import Collection
from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.formats import date_format

from .. import services
from ..forms import ClusterForm
from ..key_access import CLUSTER_OPTIONS
from ..models import Account, ApiKey, Cluster, Webhook
from .base import ConnectionsColumn
from .frozen import why_account_frozen
from .inlines import ServiceInline
from .keys import ApiKeyInline
from .lists import change_link, changelist_link, copyable
from .operations import Operation


def save_cluster(cluster: Cluster, changed: Collection[str]) -> None:
    """Save a cluster with the values that a form has set on it.

    Args:
        cluster: the cluster.
        changed: the fields that the form has changed.
    """
    settings = {name: getattr(cluster, name) for name in services.CLUSTER_SETTINGS if name in changed}
    if cluster.pk is None:
        settings["enabled"] = cluster.enabled
        cluster.pk = services.create_cluster(cluster.account, cluster.cluster_id, **settings).pk
    else:
        services.update_cluster(cluster, **settings)


class ClusterInline(ServiceInline):
    model = Cluster
    form = ClusterForm
    show_change_link = True
    fields = ["cluster_id", "enabled", "created_at"]
    readonly_fields = ["created_at"]

    def save_row(self, request: HttpRequest, row: Cluster, changed: Collection[str]) -> None:
        save_cluster(row, changed)

    def why_frozen(self, parent: Account) -> str | None:
        return why_account_frozen(parent)

    def delete_row(self, row: Cluster) -> None:
        services.delete_cluster(row, suspended_too=True)


@admin.register(Cluster)
class ClusterAdmin(ConnectionsColumn):
    form = ClusterForm
    list_display = ["cluster_id", "account_link", "enabled", "key_count", "created"]
    list_filter = ["enabled", "created_at"]
    list_select_related = ["account"]
    search_fields = ["cluster_id", "account__name"]
    autocomplete_fields = ["account"]
    ordering = ["cluster_id"]
    fieldsets = [
        (None, {"fields": ["account", "cluster_id", "app_id", "enabled", "connections", "key_count", "created_at"]}),
        ("Pusher’s protocol", {"fields": list(CLUSTER_OPTIONS)}),
    ]
    add_fieldsets = [(None, {"fields": ["account", "cluster_id", "enabled"]}), fieldsets[1]]
    readonly_fields = ["app_id", "connections", "key_count", "created_at"]
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
    owned = [(ApiKey, "cluster"), (Webhook, "cluster")]

    def why_frozen(self, obj: Cluster) -> str | None:
        return why_account_frozen(obj.account)

    def notices(self, obj: Cluster) -> list[str]:
        off = [] if obj.enabled else ["This cluster is switched off: it accepts neither connections nor messages."]
        return [*super().notices(obj), *off]

    def delete_object(self, obj: Cluster) -> None:
        services.delete_cluster(obj, suspended_too=True)

    def save_model(self, request: HttpRequest, obj: Cluster, form: ModelForm, change: bool) -> None:
        save_cluster(obj, form.changed_data)

    @admin.display(description="app ID for Pusher’s libraries")
    def app_id(self, cluster: Cluster) -> str:
        return copyable(cluster.app_id)

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

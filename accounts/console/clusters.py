"""Pages of clusters: the list, one cluster with its keys, and what can be done to it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST, require_safe

from accounts import services
from accounts.key_access import CLUSTER_OPTIONS
from accounts.locks import Refused, sentence
from accounts.models import Account, ApiKey, Cluster

from .access import DEVELOPERS, OWNERS, AccountRequest, account_page
from .endpoints import site_of
from .figures import Connections
from .forms import ClusterForm, ClusterOptionsForm, DeletionForm
from .frame import render_page
from .key_lists import list_of_keys
from .limits import exhausted
from .today import messages_of_clusters

WHAT = "change clusters"


class Row(NamedTuple):
    """A cluster in a list."""

    cluster: Any
    endpoint: str
    keys: int
    connections: int | None
    messages: int


def clusters_of(account: Account) -> Any:
    """Return the clusters of an account, each with the number of its active keys."""
    return account.clusters.annotate(active_keys=Count("keys", filter=Q(keys__revoked_at=None)))


def rows_of(
    request: HttpRequest, clusters: list[Any], connections: Connections, messages_today: Mapping[int, int]
) -> list[Row]:
    """Return clusters with what a list shows of them.

    Args:
        request: the request.
        clusters: clusters, as `clusters_of` returns them.
        connections: the connections of all of them.
        messages_today: their messages by primary key.
    """
    site = site_of(request)
    return [
        Row(
            cluster,
            site.channels(cluster.cluster_id),
            cluster.active_keys,
            connections.of(cluster),
            messages_today.get(cluster.pk, 0),
        )
        for cluster in clusters
    ]


def address_of(request: HttpRequest, cluster_id: str) -> str:
    """Return the address of a cluster that exists or not yet, such as "wss://shop.ws.example.com"."""
    return site_of(request).channels(cluster_id).removesuffix("/v3/")


@require_safe
@account_page()
def index(request: AccountRequest, account: Account) -> HttpResponse:
    """List the clusters of an account."""
    clusters = list(clusters_of(account))
    connections = Connections([account, *clusters])
    context = {
        "rows": rows_of(request, clusters, connections, messages_of_clusters(account)),
        "missing": connections.missing(account),
    }
    return render_page(request, "console/clusters.html", context, page="clusters")


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def new(request: AccountRequest, account: Account) -> HttpResponse:
    """Create a cluster."""
    form = ClusterForm(request.POST or None, initial={"cluster_id": ""})
    if request.method == "POST" and form.is_valid():
        cluster = create(account, form)
        if cluster is not None:
            messages.success(request, "Cluster created.")
            return redirect("console:cluster", account=account.pk, cluster_id=cluster.cluster_id)
    context = {"form": form, "address": address_of(request, "CLUSTER_ID")}
    return render_page(request, "console/cluster_new.html", context, page="clusters")


def create(account: Account, form: ClusterForm) -> Cluster | None:
    """Create the cluster that a valid form asks for. If its ID is taken, fill a free one into the form."""
    wanted = form.cleaned_data["cluster_id"]
    if Cluster.objects.filter(cluster_id=wanted).exists():
        free = free_cluster_id(wanted)
        form.suggest(free)
        form.add_error("cluster_id", f"“{wanted}” is taken. “{free}” is free.")
        return None
    try:
        return services.create_cluster(account, wanted)
    except services.QuotaReached:
        form.reject(exhausted(account, "max_clusters"))
    except (Refused, ValidationError) as error:
        form.reject(error)
    return None


def free_cluster_id(wanted: str) -> str:
    """Return a cluster ID that begins like the wanted one, and that no cluster has."""
    stem = wanted[:56].rstrip("-")
    taken = set(Cluster.objects.filter(cluster_id__startswith=f"{stem}-").values_list("cluster_id", flat=True))
    return next(name for number in range(2, len(taken) + 3) if (name := f"{stem}-{number}") not in taken)


@require_safe
@account_page()
def detail(request: AccountRequest, account: Account, cluster_id: str) -> HttpResponse:
    """Show a cluster with its keys."""
    cluster = _find(account, cluster_id)
    counts = {
        "active": cluster.keys.filter(revoked_at=None).count(),
        "revoked": cluster.keys.filter(revoked_at__isnull=False).count(),
    }
    connections = Connections([cluster])
    options = {name: getattr(cluster, name) for name in CLUSTER_OPTIONS}
    context = {
        "cluster": cluster,
        "options": ClusterOptionsForm(initial=options),
        "endpoint": f"{site_of(request).channels(cluster_id)}CHANNEL_ID?api_key=API_KEY",
        "connections": connections.of(cluster),
        "counts": counts,
        "list": list_of_keys(request, cluster),
    }
    return render_page(request, "console/cluster.html", context, page="clusters")


@require_POST
@account_page(*DEVELOPERS, changes=True, what=WHAT)
def options(request: AccountRequest, account: Account, cluster_id: str) -> HttpResponse:
    """Change what clients of Pusher's protocol notice of a cluster."""
    form = ClusterOptionsForm(request.POST)
    values = {name: bool(form[name].value()) for name in CLUSTER_OPTIONS}
    return _change(request, _find(account, cluster_id), "Options saved.", **values)


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def off(request: AccountRequest, account: Account, cluster_id: str) -> HttpResponse:
    """Ask whether to switch a cluster off, and do it."""
    cluster = _find(account, cluster_id)
    if request.method == "POST":
        return _change(request, cluster, "Cluster switched off.", enabled=False)
    context = {"cluster": cluster, "connections": Connections([cluster]).of(cluster)}
    return render_page(request, "console/cluster_off.html", context, page="clusters")


@require_POST
@account_page(*DEVELOPERS, changes=True, what=WHAT)
def on(request: AccountRequest, account: Account, cluster_id: str) -> HttpResponse:
    """Switch a cluster on."""
    return _change(request, _find(account, cluster_id), "Cluster switched on.", enabled=True)


def _change(request: HttpRequest, cluster: Cluster, done: str, **values: bool) -> HttpResponse:
    try:
        services.update_cluster(cluster, **values)
    except (Refused, ValidationError) as error:
        messages.error(request, sentence(error))
    else:
        messages.success(request, done)
    return redirect("console:cluster", account=cluster.account_id, cluster_id=cluster.cluster_id)


@account_page(*OWNERS, changes=True, what="delete clusters")
def delete(request: AccountRequest, account: Account, cluster_id: str) -> HttpResponse:
    """Ask for the ID of a cluster, and delete it with its keys."""
    cluster = _find(account, cluster_id)
    form = DeletionForm(cluster_id, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            services.delete_cluster(cluster)
        except Refused as error:
            form.reject(error)
        else:
            messages.success(request, f"Cluster {cluster_id} deleted.")
            return redirect("console:clusters", account=account.pk)
    context = {
        "cluster": cluster,
        "form": form,
        "keys": ApiKey.objects.filter(cluster=cluster, revoked_at=None).count(),
        "webhooks": cluster.webhooks.count(),
        "connections": Connections([cluster]).of(cluster),
    }
    return render_page(request, "console/cluster_delete.html", context, page="clusters")


def _find(account: Account, cluster_id: str) -> Cluster:
    return get_object_or_404(account.clusters, cluster_id=cluster_id)

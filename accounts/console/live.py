"""Live: what happens in a cluster now, its channels, and their connections. The stream itself is the data plane's."""

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts import services
from accounts.channels import LARGEST, Unknown, channels_of, connections_to, members_of
from accounts.channels import disconnect as close_connection
from accounts.locks import Refused, sentence
from accounts.models import Account, Cluster

from .access import DEVELOPERS, AccountRequest, account_page
from .frame import render_page

WHAT = "watch live"
PER_PAGE = 50
KINDS = (
    ("connect", "Connects"),
    ("refusal", "Refusals"),
    ("subscription", "Subscriptions"),
    ("message", "Messages"),
    ("publish", "Publishes"),
    ("call", "API calls"),
    ("close", "Closes"),
)
UNKNOWN = "The connections cannot be counted now. Reload the page to try again."
# The cluster that a session has watched last, by the primary key of the account.
_WATCHED = "watched_clusters"
# A channel of PieSocket, or one of Pusher's protocol.
_CHANNEL = r"(?:v4:)?(?:[A-Za-z0-9_-]{1,128}/)?[A-Za-z0-9_-]{1,128}|pusher:[A-Za-z0-9_\-=@,.;]{1,164}"


class SendForm(forms.Form):
    """A message to a channel."""

    channel = forms.RegexField(
        rf"^(?:{_CHANNEL})\Z",
        error_messages={"invalid": "Channel IDs are 1 to 128 letters, digits, hyphens and underscores."},
    )
    message = forms.CharField(strip=False)


@require_safe
@account_page(*DEVELOPERS, what=WHAT)
def latest(request: AccountRequest, account: Account) -> HttpResponse:
    """Lead to the cluster that was watched last, or else to the first."""
    watched = request.session.get(_WATCHED, {}).get(str(account.pk))
    cluster = account.clusters.filter(cluster_id=watched).first() or account.clusters.first()
    if cluster is None:
        return render_page(request, "console/live_none.html", page="live")
    return redirect("console:live", account=account.pk, cluster_id=cluster.cluster_id)


@require_safe
@account_page(*DEVELOPERS, what=WHAT)
def live(request: AccountRequest, account: Account, cluster_id: str) -> HttpResponse:
    """Show the page to which the data plane streams what happens in a cluster."""
    if choice := request.GET.get("cluster"):  # without a script, the picker leads here
        return redirect("console:live", account=account.pk, cluster_id=_cluster(account, choice).cluster_id)
    cluster = _cluster(account, cluster_id)
    request.session[_WATCHED] = {**request.session.get(_WATCHED, {}), str(account.pk): cluster.cluster_id}
    return _show(request, account, cluster, SendForm(initial={"channel": request.GET.get("channel", "")}))


@require_POST
@account_page(*DEVELOPERS, changes=True, what="send messages")
def send(request: AccountRequest, account: Account, cluster_id: str) -> HttpResponse:
    """Send a message to a channel. A script gets the result as JSON."""
    cluster = _cluster(account, cluster_id)
    form = SendForm(request.POST)
    result = None
    if form.is_valid():
        try:
            receivers = services.send_message(cluster, form.cleaned_data["channel"], form.cleaned_data["message"])
            result = _sent(receivers)
        except (Refused, ValidationError) as error:
            form.add_error(None, sentence(error))
    if request.accepts("text/html"):
        if result is None:
            return _show(request, account, cluster, form)
        messages.success(request, result)
        back = reverse("console:live", args=[account.pk, cluster.cluster_id])
        return redirect(f"{back}?{urlencode({'channel': form.cleaned_data['channel']})}")
    problem = " ".join(str(text) for errors in form.errors.values() for text in errors)
    return JsonResponse({"sentence": result or problem}, status=200 if result else 400)


@require_safe
@account_page(*DEVELOPERS, what=WHAT)
def channels(request: AccountRequest, account: Account, cluster_id: str) -> HttpResponse:
    """List the channels of a cluster; with `?channel=`, show one of them."""
    cluster = _cluster(account, cluster_id)
    channel = request.GET.get("channel", "")
    if channel:
        return _channel(request, cluster, channel)
    search = request.GET.get("q", "").strip()
    try:
        found = channels_of(cluster, search)
    except Unknown:
        found, missing = [], UNKNOWN
    else:
        missing = ""
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    context = {"cluster": cluster, "channels": page, "search": search, "missing": missing}
    return render_page(request, "console/live_channels.html", context, page="live")


@account_page(*DEVELOPERS, changes=True, what="disconnect clients")
def disconnect(request: AccountRequest, account: Account, cluster_id: str) -> HttpResponse:
    """Ask whether to close one connection of a channel, and close it."""
    cluster = _cluster(account, cluster_id)
    given = request.POST if request.method == "POST" else request.GET
    channel, connection_id = given.get("channel", ""), given.get("connection", "")
    if request.method != "POST":
        context = {"cluster": cluster, "channel": channel, "connection": connection_id, "who": given.get("who", "")}
        return render_page(request, "console/live_disconnect.html", context, page="live")
    try:
        if close_connection(cluster, channel, connection_id):
            messages.success(request, "Client disconnected.")
        else:
            messages.warning(request, "This connection was closed already.")
    except Unknown:
        messages.error(request, "The nodes did not answer. Try again.")
    back = reverse("console:live_channels", args=[account.pk, cluster.cluster_id])
    return redirect(f"{back}?{urlencode({'channel': channel})}")


def _channel(request: HttpRequest, cluster: Cluster, channel: str) -> HttpResponse:
    context: dict[str, Any] = {"cluster": cluster, "channel": channel}
    try:
        context["count"] = next((each.connections for each in channels_of(cluster) if each.path == channel), 0)
        context["connections"] = connections_to(cluster, channel) if context["count"] else []
        context["members"] = members_of(cluster, channel) if context["count"] else []
    except Unknown:
        context["missing"] = UNKNOWN
    return render_page(request, "console/live_channel.html", context, page="live")


def _show(request: HttpRequest, account: Account, cluster: Cluster, form: SendForm) -> HttpResponse:
    try:
        found = channels_of(cluster)
    except Unknown:
        found = []
    context = {
        "cluster": cluster,
        "clusters": account.clusters.all(),
        "kinds": KINDS,
        "form": form,
        "filter": request.GET.get("filter", ""),
        "channels": found[:LARGEST],
        "all": len(found),
    }
    return render_page(request, "console/live.html", context, page="live")


def _cluster(account: Account, cluster_id: str) -> Cluster:
    return get_object_or_404(account.clusters, cluster_id=cluster_id)


def _sent(receivers: int) -> str:
    if not receivers:
        return "Sent, but no connection is open in this channel."
    return f"Sent to {receivers:,} connection{'' if receivers == 1 else 's'}."

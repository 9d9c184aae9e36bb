"""The first steps of an account: a cluster with a key, a connection, and a message that arrives."""

import contextlib
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.text import slugify
from django.views.decorators.http import require_POST, require_safe

from accounts import services
from accounts.channels import Unknown, connections_to
from accounts.locks import Refused
from accounts.models import Account, ApiKey, Cluster, DailyUsage, Role
from accounts.refusals import reasons_of
from accounts.usage import NotPublished

from . import keys
from .access import DEVELOPERS, AccountRequest, account_page
from .clusters import address_of, create, free_cluster_id
from .endpoints import site_of
from .figures import Connections
from .forms import ClusterForm, FirstClusterForm, MessageForm
from .frame import render_page
from .snippets import CHANNEL, Snippet, connecting, publishing

FIRST_KEY = "First key"
_REFUSALS_SHOWN_FOR = timedelta(minutes=10)
WHAT = "take the first steps"
# What a session remembers of the steps of an account, by its primary key: the number of connections that the last
# message went to, until a page has shown it; whether a message has arrived; and whether the user has hidden the steps.
_SENT, _ARRIVED, _HIDDEN = "steps_sent", "steps_arrived", "steps_hidden"


def leads_to_steps(request: AccountRequest, account: Account) -> bool:
    """Return whether the first steps take the overview's place: until the first message or until they are hidden."""
    if not request.frame.develops or _noted(request, _HIDDEN, account):
        return False
    return not has_sent(request, account)


def has_sent(request: HttpRequest, account: Account) -> bool:
    """Return whether an account has sent a message, as far as this session and the database know."""
    if _noted(request, _ARRIVED, account):
        return True  # the node has not recorded it yet
    return DailyUsage.objects.filter(account_pk=account.pk, messages__gt=0).exists()


def start(request: HttpRequest, account: int) -> HttpResponse:
    """Show the steps; before the first one, ask for a cluster ID and create the cluster and its first key."""
    view = _create if request.method == "POST" else _read
    return view(request, account=account)


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def _read(request: AccountRequest, account: Account) -> HttpResponse:
    cluster = account.clusters.order_by("pk").first()
    if cluster is None:
        suggestion = _suggestion(account)
        form = _first_form(request, account, initial={"name": account.name, "cluster_id": suggestion})
        return _welcome(request, form, suggestion)
    key = _first_key(cluster)
    if key is None:
        return redirect("console:cluster_new_key", account=account.pk, cluster_id=cluster.cluster_id)
    return _show(request, account, key, MessageForm(initial={"message": "Hello!"}))


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def _create(request: AccountRequest, account: Account) -> HttpResponse:
    if account.clusters.exists():
        return redirect("console:start", account=account.pk)
    form = _first_form(request, account, request.POST)
    if form.is_valid() and (key := _create_first(request, account, form)) is not None:
        return redirect("console:secret", account=account.pk, pk=key.pk)
    return _welcome(request, form, str(form["cluster_id"].value() or "CLUSTER_ID"))


@transaction.atomic
def _create_first(request: AccountRequest, account: Account, form: ClusterForm) -> ApiKey | None:
    cluster = create(account, form)
    if cluster is None:
        return None
    if (name := form.cleaned_data.get("name", account.name)) != account.name:
        try:
            services.rename_account(account, name)
        except (Refused, ValidationError) as error:
            transaction.set_rollback(True)
            form.reject(error)
            return None
    back = reverse("console:start", args=[account.pk])
    key = keys.issue(request, cluster, FIRST_KEY, back, form)
    if key is None:
        transaction.set_rollback(True)
    return key


@require_safe
@account_page(*DEVELOPERS, what=WHAT)
def connection(request: AccountRequest, account: Account) -> HttpResponse:
    """Return the part of the page that says whether a client is connected; a script asks for it again and again."""
    key = _first_key(account.clusters.order_by("pk").first())
    if key is None:
        raise Http404
    return render(
        request,
        "console/start_connection.html",
        {
            "account": account,
            "frame": request.frame,
            **_waiting_for(key, _asked(request, connecting(site_of(request), key)).path),
        },
    )


@require_POST
@account_page(*DEVELOPERS, changes=True, what=WHAT)
def send(request: AccountRequest, account: Account) -> HttpResponse:
    """Send a message to the channel of the first steps."""
    key = _first_key(account.clusters.order_by("pk").first())
    if key is None:
        return redirect("console:start", account=account.pk)
    form = MessageForm(request.POST)
    snippet = _asked(request, connecting(site_of(request), key))
    if form.is_valid():
        try:
            receivers = services.send_message(key.cluster, snippet.path, form.cleaned_data["message"])
        except (NotPublished, Refused) as error:
            form.reject(error)
        else:
            _note(request, _SENT, account, receivers)
            if receivers:
                _note(request, _ARRIVED, account, True)
            return redirect(f"{reverse('console:start', args=[account.pk])}?code={snippet.name}#send")
    return _show(request, account, key, form)


@require_POST
@account_page(*DEVELOPERS, what=WHAT)
def hide(request: AccountRequest, account: Account) -> HttpResponse:
    """Show the overview instead of the steps from now on, in this session."""
    _note(request, _HIDDEN, account, True)
    return redirect("console:overview", account=account.pk)


def _show(request: AccountRequest, account: Account, key: ApiKey, form: MessageForm) -> HttpResponse:
    site = site_of(request)
    snippets = connecting(site, key)
    snippet = _asked(request, snippets)
    receivers = _noted(request, _SENT, account)
    if receivers is not None:
        _note(request, _SENT, account, None)
    context = {
        "key": key,
        "cluster": key.cluster,
        "channel": CHANNEL,
        "snippets": snippets,
        "snippet": snippet,
        "publishing": publishing(site, key),
        **_waiting_for(key, snippet.path),
        "form": form,
        "receivers": receivers,
        "has_arrived": bool(_noted(request, _ARRIVED, account)),
    }
    return render_page(request, "console/start.html", context, page="overview")


def _asked(request: HttpRequest, snippets: list[Snippet]) -> Snippet:
    """Return the code that the page shows."""
    return next((snippet for snippet in snippets if snippet.name == request.GET.get("code")), snippets[0])


def _waiting_for(key: ApiKey, path: str) -> dict[str, Any]:
    """Return whether the clients of a key are connected, from where, and why the last one could not connect.

    Args:
        key: the key.
        path: the path of the channel in which the address of a client is looked up.
    """
    connections = Connections([key]).of(key)
    address, refusal = "", None
    if connections:
        with contextlib.suppress(Unknown):
            address = next((client.address for client in reversed(connections_to(key.cluster, path))), "")
    elif latest := reasons_of(key.cluster.account, 1, newest_first=True):
        is_recent = timezone.now() - latest[0].latest.at < _REFUSALS_SHOWN_FOR
        refusal = latest[0] if is_recent else None
    return {"connections": connections, "address": address, "refusal": refusal}


def _welcome(request: AccountRequest, form: ClusterForm, cluster_id: str) -> HttpResponse:
    context = {"form": form, "address": address_of(request, cluster_id)}
    return render_page(request, "console/welcome.html", context, page="overview")


def _first_form(request: AccountRequest, account: Account, data: object = None, **options: object) -> ClusterForm:
    """Return a form that also asks for the name of the account, if the user has just created it by signing up."""
    may_rename = request.frame.role == Role.OWNER and account.creator_id == request.user.pk
    return (FirstClusterForm if may_rename else ClusterForm)(data, **options)  # type: ignore[arg-type]


def _suggestion(account: Account) -> str:
    wanted = slugify(account.name)[:40].strip("-_").replace("_", "-") or "my-cluster"
    return free_cluster_id(wanted) if Cluster.objects.filter(cluster_id=wanted).exists() else wanted


def _first_key(cluster: Cluster | None) -> ApiKey | None:
    if cluster is None:
        return None
    return cluster.keys.filter(revoked_at=None).select_related("cluster__account").order_by("pk").first()


def _note(request: HttpRequest, name: str, account: Account, value: int | None) -> None:
    request.session[name] = {**request.session.get(name, {}), str(account.pk): value}


def _noted(request: HttpRequest, name: str, account: Account) -> Any:
    return request.session.get(name, {}).get(str(account.pk))

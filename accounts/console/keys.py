"""Pages of API keys: issue, settings, rotation, revocation, and the secret, which is shown once."""

import json
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_safe

from accounts import new_secrets, services
from accounts.audit import entries_of
from accounts.locks import Refused, sentence
from accounts.models import Account, ApiKey, AuditVerb, Cluster
from accounts.quotas import limits_of

from .access import DEVELOPERS, AccountRequest, account_page
from .endpoints import Site, site_of
from .figures import Connections, Figure
from .forms import ConsoleForm, KeyForm, NewKeyForm, RotationForm, host_of
from .frame import render_page
from .key_lists import notes
from .limits import exhausted
from .numbers import share
from .sentences import author_of
from .today import used_today

WHAT = "change keys"


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def new(request: AccountRequest, account: Account, cluster_id: str = "") -> HttpResponse:
    """Issue a key for a cluster, or for one that the form asks for. Its secret is shown on the next page."""
    names = list(account.clusters.values_list("cluster_id", flat=True))
    if cluster_id and cluster_id not in names:
        raise Http404
    if not names:
        return redirect("console:new_cluster", account=account.pk)
    form = NewKeyForm([cluster_id] if cluster_id else names, request.POST or None)
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["cluster"]
        back = reverse("console:cluster", args=[account.pk, name])
        cluster = get_object_or_404(account.clusters, cluster_id=name)
        key = issue(request, cluster, form.cleaned_data["label"], back, form)
        if key is not None:
            messages.success(request, "Key issued.")
            return redirect("console:secret", account=account.pk, pk=key.pk)
    context = {"form": form, "cluster_id": cluster_id}
    return render_page(request, "console/key_new.html", context, page="clusters")


@sensitive_variables()
@transaction.atomic
def issue(request: HttpRequest, cluster: Cluster, label: str, back: str, form: ConsoleForm) -> ApiKey | None:
    """Issue a key whose secret this session sees once; None, with the reason in the form, if that is impossible.

    Args:
        request: the request.
        cluster: the cluster.
        label: the label of the key.
        back: the path of the page that follows that of the secret.
        form: the form, which gets the reason.
    """
    try:
        with transaction.atomic():
            key = services.issue_key(cluster, label).key
    except services.QuotaReached:
        form.reject(exhausted(cluster.account, "max_keys"))
        return None
    except (Refused, ValidationError) as error:
        form.reject(error)
        return None
    _remember_secret(request, key, back)
    return key


def detail(request: HttpRequest, account: int, pk: int) -> HttpResponse:
    """Show a key with its settings, which developers and owners change here."""
    view = _save if request.method == "POST" else _read
    return view(request, account=account, pk=pk)


@account_page()
def _read(request: AccountRequest, account: Account, pk: int) -> HttpResponse:
    key = _find(account, pk)
    form = KeyForm(key, limits_of(account), origins=_origins(request))
    return _show(request, key, form)


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def _save(request: AccountRequest, account: Account, pk: int) -> HttpResponse:
    key = _find_active(account, pk)
    form = KeyForm(key, limits_of(account), request.POST)
    if form.is_valid():
        try:
            services.update_key(key, version=form.cleaned_data["version"], **form.settings())
        except services.Conflict as error:
            form.take_version(services.version_of_settings(_find(account, pk)))
            form.reject(error)
        except (Refused, ValidationError) as error:
            form.reject(error)
        else:
            messages.success(request, "Settings saved.")
            return redirect("console:key", account=account.pk, pk=pk)
    return _show(request, _find(account, pk), form)


def _show(request: AccountRequest, key: ApiKey, form: KeyForm) -> HttpResponse:
    account = key.cluster.account
    connections = Connections([key])
    limits = limits_of(account)
    own = key.max_connections
    quota = min(filter(None, (own, limits["max_connections"])), default=None)
    created = entries_of(key).filter(verb=AuditVerb.CREATED).first()
    revoked = entries_of(key).filter(verb=AuditVerb.REVOKED).first() if key.revoked else None
    today, of_account = used_today(account, key), used_today(account)
    context = {
        "key": key,
        "sent": today.messages,
        "share": share(today.messages, of_account.messages) if of_account.messages else "",
        "refused": today.refused,
        "cluster": key.cluster,
        "form": form if request.frame.develops and not key.revoked else None,
        "notes": notes(key),
        "connections": Figure(connections.of(key), quota),
        "quota_is_own": own is not None and own == quota,
        "missing": connections.missing(key),
        "issued_by": author_of(created) if created else "",
        "revoked_by": author_of(revoked) if revoked else "",
    }
    return render_page(request, "console/key.html", context, page="clusters")


@sensitive_variables()
@require_safe
@account_page(*DEVELOPERS, what=WHAT)
def secret(request: AccountRequest, account: Account, pk: int) -> HttpResponse:
    """Show the secret of a key that this session has just issued or rotated, once."""
    key = _find(account, pk)
    issued, back = new_secrets.take(request.session, _page_of_secret(key))
    following = back or reverse("console:key", args=[account.pk, pk])
    if not issued:
        return render_page(request, "console/secret_shown.html", {"key": key, "back": following}, page="clusters")
    context = {
        "key": key,
        "secret": issued[0].secret,
        "env": _as_env(site_of(request), issued[0]),
        "json": _as_json(site_of(request), issued[0]),
        "back": following,
    }
    return render_page(request, "console/secret.html", context, page="clusters")


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def rotate(request: AccountRequest, account: Account, pk: int) -> HttpResponse:
    """Ask how long the old secret stays valid, and replace it."""
    key = _find_active(account, pk)
    form = RotationForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and _rotate(request, key, form):
        messages.success(request, "Secret rotated.")
        return redirect("console:secret", account=account.pk, pk=pk)
    context = {"key": key, "form": form, "connections": Connections([key]).of(key)}
    return render_page(request, "console/key_rotate.html", context, page="clusters")


@sensitive_variables()
@transaction.atomic
def _rotate(request: HttpRequest, key: ApiKey, form: RotationForm) -> bool:
    try:
        services.rotate_secret(key, form.cleaned_data["overlap"])
    except (Refused, ValidationError) as error:
        form.reject(error)
        return False
    _remember_secret(request, key, reverse("console:key", args=[key.cluster.account_id, key.pk]))
    return True


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def end_old_secret(request: AccountRequest, account: Account, pk: int) -> HttpResponse:
    """Ask whether to end the old secret of a key now, and do it."""
    key = _find_active(account, pk)
    if request.method == "POST":
        return _operate(request, key, services.end_old_secret, "The old secret has ended.")
    return render_page(request, "console/key_end_old_secret.html", {"key": key}, page="clusters")


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def revoke(request: AccountRequest, account: Account, pk: int) -> HttpResponse:
    """Ask whether to revoke a key, and do it."""
    key = _find_active(account, pk)
    if request.method == "POST":
        return _operate(request, key, services.revoke_key, "Key revoked.")
    context = {"key": key, "connections": Connections([key]).of(key)}
    return render_page(request, "console/key_revoke.html", context, page="clusters")


def _operate(request: HttpRequest, key: ApiKey, operation: Any, done: str) -> HttpResponse:
    try:
        operation(key)
    except Refused as error:
        messages.error(request, sentence(error))
    else:
        messages.success(request, done)
    return redirect("console:key", account=key.cluster.account_id, pk=key.pk)


def _find(account: Account, pk: int) -> ApiKey:
    return get_object_or_404(ApiKey.objects.select_related("cluster__account"), pk=pk, cluster__account=account)


def _find_active(account: Account, pk: int) -> ApiKey:
    key = _find(account, pk)
    if key.revoked:
        raise Http404
    return key


def _origins(request: HttpRequest) -> list[str]:
    """Return the origins that a link from a refusal adds to the form, without saving them."""
    return [host_of(origin) for origin in request.GET.getlist("origin")[:10] if origin.strip()]


def _page_of_secret(key: ApiKey) -> str:
    return f"key-{key.pk}"


def _remember_secret(request: HttpRequest, key: ApiKey, back: str) -> None:
    new_secrets.remember(request.session, [key], back, _page_of_secret(key))


@sensitive_variables()
def _as_env(site: Site, issued: services.IssuedKey) -> str:
    key, secret = issued
    host = site.host(key.cluster.cluster_id)
    return f"WS_CLUSTER={host}\nWS_API_KEY={key.public_key}\nWS_API_SECRET={secret}"


@sensitive_variables()
def _as_json(site: Site, issued: services.IssuedKey) -> str:
    key, secret = issued
    values = {"cluster": site.host(key.cluster.cluster_id), "key": key.public_key, "secret": secret}
    return json.dumps(values, indent=2)

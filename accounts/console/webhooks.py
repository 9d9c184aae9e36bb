"""Pages of webhooks: the list, one webhook with its log, its settings, and its signing secrets."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST, require_safe

from accounts import services, shown_once
from accounts.audit import entries_of
from accounts.crypto import DecryptionFailed
from accounts.locks import Refused
from accounts.models import Account, ApiKey, AuditVerb, DeliveryState, Webhook

from .access import DEVELOPERS, AccountRequest, account_page
from .acts import act
from .forms import RotationForm
from .frame import render_page
from .limits import exhausted
from .webhook_figures import events_of, is_probed, name_of, row_of, signing_key_of, state_of, webhooks_of
from .webhook_forms import MAX_KEYS, NewWebhookForm, WebhookForm
from .webhook_log import log_of
from .webhook_snippets import VERIFYING

PER_PAGE = 50
WHAT = "change webhooks"


@require_safe
@account_page()
def index(request: AccountRequest, account: Account) -> HttpResponse:
    """List the webhooks of an account."""
    page = Paginator(webhooks_of(account), PER_PAGE).get_page(request.GET.get("page"))
    context = {"list": page, "rows": [row_of(webhook) for webhook in page]}
    return render_page(request, "console/webhooks.html", context, page="webhooks")


@sensitive_variables()
@account_page(*DEVELOPERS, changes=True, what=WHAT)
def new(request: AccountRequest, account: Account) -> HttpResponse:
    """Add a webhook. Its secret is shown on the next page."""
    names = list(account.clusters.values_list("cluster_id", flat=True))
    if not names:
        return redirect("console:new_cluster", account=account.pk)
    keys = _active_keys(account).order_by("cluster__cluster_id", "label", "pk")[:MAX_KEYS]
    form = NewWebhookForm(names, keys, request.POST or None, request.GET.get("cluster", ""))
    if request.method == "POST" and form.is_valid():
        webhook = _create(request, account, form)
        if webhook is not None:
            messages.success(request, "Webhook added.")
            return redirect("console:webhook_secret", account=account.pk, webhook_pk=webhook.pk)
    return render_page(request, "console/webhook_new.html", {"form": form}, page="webhooks")


@sensitive_variables()
def _create(request: HttpRequest, account: Account, form: NewWebhookForm) -> Webhook | None:
    cluster = get_object_or_404(account.clusters, cluster_id=form.cleaned_data["cluster"])
    try:
        # Not in a transaction: the service asks a name server before it locks the account.
        created = services.create_webhook(cluster, headers=form.new_headers(), **form.settings())
    except services.QuotaReached:
        form.reject(exhausted(account, "max_webhooks"))
        return None
    except (Refused, ValidationError) as error:
        form.reject(error)
        return None
    _show_once(request, created.webhook, created.secret)
    return created.webhook


@require_safe
@account_page()
def detail(request: AccountRequest, account: Account, webhook_pk: int) -> HttpResponse:
    """Show a webhook and its log. Only people who may see messages see what was sent and answered."""
    webhook = find_webhook(account, webhook_pk)
    issued = entries_of(webhook).filter(verb__in=[AuditVerb.CREATED, AuditVerb.ROTATED]).first()
    context = {
        **described(webhook),
        "events": events_of(webhook),
        "header_names": _header_names(webhook),
        "signing_key": signing_key_of(webhook),
        "issued_at": issued.at if issued else webhook.created_at,
        "failed": services.failed_deliveries(webhook).count(),
        "is_probed": is_probed(webhook),
        "log": log_of(request, webhook),
        "sees_bodies": request.frame.role in DEVELOPERS,
    }
    return render_page(request, "console/webhook.html", context, page="webhooks")


@sensitive_variables()
@account_page(*DEVELOPERS, changes=True, what=WHAT)
def edit(request: AccountRequest, account: Account, webhook_pk: int) -> HttpResponse:
    """Change the settings of a webhook."""
    webhook = find_webhook(account, webhook_pk)
    keys = list(_active_keys(account).filter(cluster=webhook.cluster).order_by("label", "pk")[:MAX_KEYS])
    chosen = signing_key_of(webhook)
    if chosen is not None and chosen not in keys:
        keys.append(chosen)
    form = WebhookForm(keys, webhook, _header_names(webhook), request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            services.update_webhook(webhook, headers=form.new_headers(), **form.settings())
        except (Refused, ValidationError) as error:
            form.reject(error)
        else:
            messages.success(request, "Settings saved.")
            return redirect("console:webhook", account=account.pk, webhook_pk=webhook_pk)
    # The service has put the values of the form into the object.
    context = {**described(find_webhook(account, webhook_pk)), "form": form}
    return render_page(request, "console/webhook_edit.html", context, page="webhooks")


@sensitive_variables()
@require_safe
@account_page(*DEVELOPERS, what=WHAT)
def secret(request: AccountRequest, account: Account, webhook_pk: int) -> HttpResponse:
    """Show a signing secret that this session has just made, once."""
    webhook = find_webhook(account, webhook_pk)
    context = {**described(webhook), "secret": shown_once.take(request.session, _name_of_secret(webhook))}
    return render_page(request, "console/webhook_secret.html", context, page="webhooks")


@require_safe
@account_page()
def verify(request: AccountRequest, account: Account, webhook_pk: int) -> HttpResponse:
    """Show code with which a server verifies requests."""
    chosen = next((each for each in VERIFYING if each.name == request.GET.get("code")), VERIFYING[0])
    context = {**described(find_webhook(account, webhook_pk)), "snippets": VERIFYING, "snippet": chosen}
    return render_page(request, "console/webhook_verify.html", context, page="webhooks")


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def rotate(request: AccountRequest, account: Account, webhook_pk: int) -> HttpResponse:
    """Ask how long the old secret stays valid, and replace it."""
    webhook = find_webhook(account, webhook_pk)
    form = RotationForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and _rotate(request, webhook, form):
        messages.success(request, "Secret rotated.")
        return redirect("console:webhook_secret", account=account.pk, webhook_pk=webhook_pk)
    return render_page(request, "console/webhook_rotate.html", {**described(webhook), "form": form}, page="webhooks")


@sensitive_variables()
@transaction.atomic
def _rotate(request: HttpRequest, webhook: Webhook, form: RotationForm) -> bool:
    try:
        secret = services.rotate_webhook_secret(webhook, form.cleaned_data["overlap"])
    except (Refused, ValidationError) as error:
        form.reject(error)
        return False
    _show_once(request, webhook, secret)
    return True


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def end_old_secret(request: AccountRequest, account: Account, webhook_pk: int) -> HttpResponse:
    """Ask whether to end the old secret of a webhook now, and do it."""
    webhook = find_webhook(account, webhook_pk)
    if request.method == "POST":
        act(request, "The old secret has ended.", services.end_old_webhook_secret, webhook)
        return redirect("console:webhook", account=account.pk, webhook_pk=webhook_pk)
    return render_page(request, "console/webhook_end_old_secret.html", described(webhook), page="webhooks")


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def off(request: AccountRequest, account: Account, webhook_pk: int) -> HttpResponse:
    """Ask whether to switch a webhook off, and do it."""
    webhook = find_webhook(account, webhook_pk)
    if request.method == "POST":
        act(request, "Webhook switched off.", _switch, webhook, False)
        return redirect("console:webhook", account=account.pk, webhook_pk=webhook_pk)
    return render_page(request, "console/webhook_off.html", described(webhook), page="webhooks")


@require_POST
@account_page(*DEVELOPERS, changes=True, what=WHAT)
def on(request: AccountRequest, account: Account, webhook_pk: int) -> HttpResponse:
    """Switch a webhook on."""
    act(request, "Webhook switched on.", _switch, find_webhook(account, webhook_pk), True)
    return redirect("console:webhook", account=account.pk, webhook_pk=webhook_pk)


def _switch(webhook: Webhook, enabled: bool) -> None:
    services.update_webhook(webhook, enabled=enabled)


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def delete(request: AccountRequest, account: Account, webhook_pk: int) -> HttpResponse:
    """Ask whether to delete a webhook with its log, and do it."""
    webhook = find_webhook(account, webhook_pk)
    if request.method == "POST":
        if act(request, "Webhook deleted.", services.delete_webhook, webhook):
            return redirect("console:webhooks", account=account.pk)
        return redirect("console:webhook", account=account.pk, webhook_pk=webhook_pk)
    return render_page(request, "console/webhook_delete.html", described(webhook), page="webhooks")


def find_webhook(account: Account, pk: int) -> Webhook:
    """Return a webhook of an account, as `webhooks_of` does.

    Raises:
        Http404: the account does not have it.
    """
    webhook: Webhook = get_object_or_404(webhooks_of(account), pk=pk)
    return webhook


def described(webhook: Webhook) -> dict[str, Any]:
    """Return what all templates about one webhook show."""
    name = name_of(webhook)
    return {
        "webhook": webhook,
        "name": name,
        "host": name.partition("/")[0],
        "state": state_of(webhook),
        "waiting": webhook.deliveries.filter(state=DeliveryState.WAITING).count(),
    }


def _active_keys(account: Account) -> Any:
    return ApiKey.objects.filter(cluster__account=account, revoked_at=None).select_related("cluster")


@sensitive_variables()
def _header_names(webhook: Webhook) -> list[str]:
    try:
        return sorted(services.headers_of(webhook))
    except DecryptionFailed:  # the server logs it whenever it sends the webhook
        return []


def _name_of_secret(webhook: Webhook) -> str:
    return f"webhook-{webhook.pk}"


@sensitive_variables()
def _show_once(request: HttpRequest, webhook: Webhook, secret: str) -> None:
    shown_once.keep(request.session, _name_of_secret(webhook), secret)
    # Saved in the transaction of the change, so that no secret is replaced that nobody can see.
    request.session.save()

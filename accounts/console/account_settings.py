"""The settings of an account, its export, and its deletion."""

from functools import partial
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_safe

from accounts import attempts, services
from accounts.exports import Export, ExportRuns
from accounts.locks import Refused, sentence
from accounts.models import Account, ApiKey, Webhook

from .access import OWNERS, AccountRequest, account_page
from .figures import Connections
from .frame import render_page
from .member_forms import AccountDeletionForm, AccountSettingsForm

_owners_page = partial(account_page, *OWNERS, what="change the settings", acts="rename, export and delete the account")


@_owners_page()
def settings(request: AccountRequest, account: Account) -> HttpResponse:
    """Show the settings of an account, which can be read while it is suspended."""
    if request.method == "POST":
        return _save(request, account.pk)
    return _show(request, AccountSettingsForm(initial=_current(account)))


@_owners_page(changes=True)
def _save(request: AccountRequest, account: Account) -> HttpResponse:
    form = AccountSettingsForm(request.POST)
    if form.is_valid() and _change(account, form):
        messages.success(request, "Settings saved.")
        return redirect("console:settings", account=account.pk)
    return _show(request, form)


def _show(request: AccountRequest, form: AccountSettingsForm) -> HttpResponse:
    return render_page(request, "console/account_settings.html", {"form": form}, page="settings")


def _current(account: Account) -> dict[str, object]:
    return {"name": account.name, "sends_quota_notices": account.sends_quota_notices}


def _change(account: Account, form: AccountSettingsForm) -> bool:
    try:
        with transaction.atomic():
            services.rename_account(account, form.cleaned_data["name"])
            services.set_quota_notices(account, form.cleaned_data["sends_quota_notices"])
    except (Refused, ValidationError) as error:
        form.reject(error)
        return False
    return True


@require_safe
@_owners_page()
def export_account(request: AccountRequest, account: Account) -> Any:
    """Download everything about an account as JSON."""
    try:
        attempts.check(attempts.EXPORTS, str(account.pk))
        export = Export(account)
    except ExportRuns as error:
        context = {"heading": "Another export runs", "sentence": sentence(error)}
        return render_page(request, "console/forbidden.html", context, page="settings", status=409)
    except ValidationError as error:
        messages.error(request, sentence(error))
        return redirect("console:settings", account=account.pk)
    name = f"account-{account.pk}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(export, content_type="application/json", headers=headers)


@_owners_page(changes=True)
def delete(request: AccountRequest, account: Account) -> HttpResponse:
    """Ask for the account's name, and delete the account."""
    form = AccountDeletionForm(account, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            services.delete_account(account)
        except Refused as error:
            form.reject(error)
        else:
            messages.success(request, f"{form.cleaned_data['name']} is deleted.")
            return redirect("console:home")
    context = {
        "form": form,
        "clusters": account.clusters.count(),
        "keys": ApiKey.objects.filter(cluster__account=account).count(),
        "webhooks": Webhook.objects.filter(cluster__account=account).count(),
        "invitations": account.invitations.pending().count(),
        "connections": Connections([account]).of(account),
    }
    return render_page(request, "console/account_delete.html", context, page="settings")

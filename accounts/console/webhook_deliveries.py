"""What people do with the deliveries of a webhook: send a test event, and send deliveries again."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts import services
from accounts.locks import Refused, sentence
from accounts.models import Account, DeliveryState, Webhook, WebhookDelivery
from accounts.webhooks.client import MAX_SECONDS

from .access import DEVELOPERS, AccountRequest, account_page
from .acts import act
from .frame import render_page
from .numbers import whole
from .webhook_forms import SinceForm, as_field
from .webhook_log import is_number, since_first
from .webhooks import WHAT, described, find_webhook

# How long a page waits for a result: a request, and some time until a sender takes the delivery.
RESULT_WAITS = timedelta(seconds=MAX_SECONDS + 5)
_LOOK_SECONDS = 1


@require_POST
@account_page(*DEVELOPERS, changes=True, what=WHAT)
def test(request: AccountRequest, account: Account, webhook_pk: int) -> HttpResponse:
    """Send a test event and wait for its result."""
    webhook = find_webhook(account, webhook_pk)
    try:
        delivery = services.send_test_event(webhook)
    except Refused as error:
        messages.error(request, sentence(error))
        return _back(webhook)
    return _wait(webhook, delivery)


@require_POST
@account_page(*DEVELOPERS, changes=True, what=WHAT)
def redeliver(request: AccountRequest, account: Account, webhook_pk: int, delivery_pk: int) -> HttpResponse:
    """Send one delivery again and wait for its result."""
    webhook = find_webhook(account, webhook_pk)
    delivery = get_object_or_404(webhook.deliveries.select_related("webhook"), pk=delivery_pk)
    is_sent = act(request, "The delivery is sent again.", services.redeliver, delivery)
    return _wait(webhook, delivery) if is_sent else _back(webhook, delivery)


@require_safe
@account_page(*DEVELOPERS, what=WHAT)
def result(request: AccountRequest, account: Account, webhook_pk: int, delivery_pk: int) -> HttpResponse:
    """Wait until a delivery has a new attempt, and go back to the webhook with its result."""
    webhook = find_webhook(account, webhook_pk)
    delivery = webhook.deliveries.defer("events").filter(pk=delivery_pk).first()
    if delivery is None:
        messages.error(request, "This delivery is no longer in the log.")
        return _back(webhook)
    if delivery.attempts and _last_at(delivery) != request.GET.get("after", ""):
        _tell_result(request, delivery)
        return _back(webhook, delivery)
    is_waiting = delivery.state == DeliveryState.WAITING and webhook.enabled and not account.suspended
    if not is_waiting or not _may_wait(request.GET.get("until", ""), timezone.now()):
        _tell_of_no_result(request, webhook, is_waiting)
        return _back(webhook, delivery)
    context = {**described(webhook), "delivery": delivery}
    response = render_page(request, "console/webhook_result.html", context, page="webhooks")
    # The browser looks again by itself, without a script.
    response.headers["Refresh"] = str(_LOOK_SECONDS)
    return response


def _may_wait(until: str, now: datetime) -> bool:
    return is_number(until) and now.timestamp() < int(until) <= (now + RESULT_WAITS).timestamp()


def _wait(webhook: Webhook, delivery: WebhookDelivery) -> HttpResponse:
    url = reverse("console:webhook_result", args=[webhook.cluster.account_id, webhook.pk, delivery.pk])
    until = int((timezone.now() + RESULT_WAITS).timestamp())
    return redirect(f"{url}?{urlencode({'after': _last_at(delivery), 'until': until})}")


def _last_at(delivery: WebhookDelivery) -> str:
    """Return when the last attempt was made; empty if there was none."""
    return str(delivery.attempts[-1]["at"]) if delivery.attempts else ""


def _tell_of_no_result(request: HttpRequest, webhook: Webhook, is_waiting: bool) -> None:
    if not is_waiting:
        messages.warning(request, "The request was not sent.")
        return
    why = " The last request has failed, so this webhook gets one request at a time." if webhook.failures else ""
    messages.warning(request, f"The request was not sent yet.{why} The result will appear in the log.")


def _tell_result(request: HttpRequest, delivery: WebhookDelivery) -> None:
    attempt: dict[str, Any] = delivery.attempts[-1]
    status, milliseconds = attempt["status"], whole(attempt["milliseconds"])
    if status is not None:
        tell = messages.success if delivery.state == DeliveryState.DELIVERED else messages.error
        tell(request, f"Your server answered {status} in {milliseconds} ms.{_meaning(status)}")
    elif attempt["error"].startswith("No answer within"):
        messages.error(request, f"Your server did not answer within {MAX_SECONDS:.0f} s.")
    else:
        messages.error(request, f"The request failed. {attempt['error']}")


def _meaning(status: int) -> str:
    if 300 <= status < 400:
        return " Redirects are not followed: enter the URL that it redirects to."
    return "" if 200 <= status < 300 else " Any status other than 2xx counts as a failure."


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def redeliver_failed(request: AccountRequest, account: Account, webhook_pk: int) -> HttpResponse:
    """Ask since when failed deliveries are sent again, say how many these are, and send them."""
    webhook = find_webhook(account, webhook_pk)
    sent = request.POST if request.method == "POST" else request.GET
    first = since_first(services.failed_deliveries(webhook))
    form = SinceForm(sent if "since" in sent else {"since": as_field(first)})
    is_valid = form.is_valid()
    since = form.cleaned_data["since"] if is_valid else None
    if request.method == "POST" and is_valid:
        try:
            number = services.redeliver_failed(webhook, since)
        except (Refused, ValidationError) as error:
            form.reject(error)
        else:
            messages.success(request, _again(number))
            return _back(webhook)
    context = {
        **described(webhook),
        "form": form,
        "number": services.failed_deliveries(webhook, since).count() if since else 0,
    }
    return render_page(request, "console/webhook_redeliver.html", context, page="webhooks")


def _again(number: int) -> str:
    return f"{whole(number)} {'delivery is' if number == 1 else 'deliveries are'} sent again."


def _back(webhook: Webhook, delivery: WebhookDelivery | None = None) -> HttpResponse:
    url = reverse("console:webhook", args=[webhook.cluster.account_id, webhook.pk])
    return redirect(f"{url}?delivery={delivery.pk}" if delivery is not None else url)

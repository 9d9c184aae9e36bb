"""What people do with the deliveries of a webhook: send a test event, and send deliveries again."""

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from accounts import services
from accounts.locks import Refused, sentence
from accounts.models import Account, DeliveryState, Webhook, WebhookDelivery
from accounts.webhooks.client import MAX_SECONDS

from .access import DEVELOPERS, AccountRequest, account_page
from .acts import act
from .frame import render_page
from .numbers import whole
from .webhook_forms import SinceForm, as_field
from .webhook_log import find_delivery, since_first
from .webhooks import WHAT, described, find_webhook

# How long the page waits for the result of a test event: a request, and some time until a sender takes it.
TEST_WAITS = timedelta(seconds=MAX_SECONDS + 5)
_LOOK_SECONDS = 1


@account_page(*DEVELOPERS, changes=True, what=WHAT)
def test(request: AccountRequest, account: Account, webhook_pk: int) -> HttpResponse:
    """Send a test event, wait for its result on a page of its own, and come back with it."""
    webhook = find_webhook(account, webhook_pk)
    if request.method == "POST":
        try:
            delivery = services.send_test_event(webhook)
        except Refused as error:
            messages.error(request, sentence(error))
            return _back(webhook)
        waiting = reverse("console:webhook_test", args=[account.pk, webhook_pk])
        return redirect(f"{waiting}?delivery={delivery.pk}")
    if "delivery" not in request.GET:
        return _back(webhook)
    delivery = find_delivery(webhook, request.GET["delivery"])
    if delivery.attempts or timezone.now() - delivery.created_at > TEST_WAITS:
        _tell_result(request, webhook, delivery)
        return _back(webhook, delivery)
    response = render_page(request, "console/webhook_test.html", described(webhook), page="webhooks")
    # The browser looks again by itself, without a script.
    response.headers["Refresh"] = str(_LOOK_SECONDS)
    return response


def _tell_result(request: HttpRequest, webhook: Webhook, delivery: WebhookDelivery) -> None:
    if not delivery.attempts:
        why = " The webhook has failed before, so it gets one request at a time." if webhook.failures else ""
        messages.warning(request, f"The test event was not sent yet.{why} Its result will appear in the log.")
        return
    attempt: dict[str, Any] = delivery.attempts[-1]
    status, milliseconds = attempt["status"], whole(attempt["milliseconds"])
    if status is not None:
        tell = messages.success if delivery.state == DeliveryState.DELIVERED else messages.error
        tell(request, f"Your server answered {status} in {milliseconds} ms.{_meaning(status)}")
    elif attempt["error"].startswith("No answer within"):
        messages.error(request, f"Your server did not answer within {MAX_SECONDS:.0f} s.")
    else:
        messages.error(request, f"The test event could not be sent. {attempt['error']}")


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


@require_POST
@account_page(*DEVELOPERS, changes=True, what=WHAT)
def redeliver(request: AccountRequest, account: Account, webhook_pk: int, delivery_pk: int) -> HttpResponse:
    """Send one delivery again."""
    webhook = find_webhook(account, webhook_pk)
    delivery = get_object_or_404(webhook.deliveries.select_related("webhook"), pk=delivery_pk)
    act(request, "The delivery is sent again.", services.redeliver, delivery)
    return _back(webhook, delivery)


def _back(webhook: Webhook, delivery: WebhookDelivery | None = None) -> HttpResponse:
    url = reverse("console:webhook", args=[webhook.cluster.account_id, webhook.pk])
    return redirect(f"{url}?delivery={delivery.pk}" if delivery is not None else url)

"""The deliveries of a webhook as its page shows them. What a tenant's server has answered is untrusted text."""

import json
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.db.models.functions import Length, Substr
from django.http import Http404, HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts import services
from accounts.models import DeliveryState, Webhook, WebhookDelivery, WebhookKind
from accounts.webhooks.queue import WAITING_FOR, waits_for_later

from .numbers import hour, whole
from .webhook_figures import is_probed

PER_PAGE = 50
# How much of the events of a delivery the database returns for a row of the list, and for the open delivery, in
# characters. A delivery can have 100 messages of 64 KiB.
_SUMMARIZED = 4_096
_SHOWN = 65_536
_NAME = re.compile(r'"name": ?"([a-z_]{1,40})"')
_CHANNEL = re.compile(r'"channel": ?"([^"\\]{1,257})"')
_TABS = (("", "All"), ("waiting", "Waiting"), ("failed", "Failed"))
_OUTLOOKS = {
    DeliveryState.DELIVERED: "",
    DeliveryState.FAILED: "All attempts have failed. It is sent again only if you ask for it.",
    DeliveryState.DROPPED: "It was dropped because it had waited too long, or because too many deliveries waited.",
}
_LABELS = {**dict(WebhookKind.choices), "test": "Test event"}


class Attempt(NamedTuple):
    """One request."""

    at: datetime | None
    result: str
    is_success: bool
    milliseconds: int
    answer: str


class Row(NamedTuple):
    """A delivery in the list."""

    delivery: WebhookDelivery
    events: str
    attempts: list[Attempt]
    """The newest first."""
    url: str
    """The query of the URL that opens it, or closes it if it is open."""
    is_open: bool


class Opened(NamedTuple):
    """What only an open delivery shows."""

    body: str
    is_cut: bool
    answer: str
    """The beginning of the last answer; empty if there was none."""
    outlook: str
    """A sentence: what happens next."""
    can_be_sent: bool
    """Whether it can be sent again, or earlier than planned."""


class Tab(NamedTuple):
    """A link to some of the deliveries."""

    label: str
    query: str
    number: int | None
    current: bool


class Log(NamedTuple):
    """A page of the deliveries of a webhook."""

    tabs: list[Tab]
    rows: list[Row]
    opened: Opened | None
    total: int
    newest: str
    """The query of the URL of the first page; empty on the first page."""
    older: str
    """The query of the URL of the next page; empty on the last page."""


def log_of(request: HttpRequest, webhook: Webhook) -> Log:
    """Return the page of the deliveries of a webhook that a request asks for.

    Raises:
        Http404: the request asks for a delivery that the webhook does not have.
    """
    show, before, pk = (request.GET.get(name, "") for name in ("show", "before", "delivery"))
    show = show if show in dict(_TABS) else ""
    delivery = find_delivery(webhook, pk) if pk else None
    if delivery is not None and not _shown(webhook, show).filter(pk=delivery.pk).exists():
        show = ""  # it is in another state by now
    found = _shown(webhook, show)
    page = _page(found, before)
    if delivery is not None and delivery.pk not in [row.pk for row in page]:
        before = str(delivery.pk + 1)
        page = _page(found, before)
    kept = {"show": show, "before": before}
    numbers = {"": None, "waiting": _shown(webhook, "waiting").count(), "failed": _shown(webhook, "failed").count()}
    rows = [_row(row, kept, delivery) for row in page[:PER_PAGE]]
    return Log(
        tabs=[Tab(label, _query(show=name), numbers[name], name == show) for name, label in _TABS],
        rows=rows,
        opened=_opened(webhook, delivery) if delivery is not None else None,
        total=found.count(),
        newest=_query(show=show) if before else "",
        older=_query(show=show, before=rows[-1].delivery.pk) if len(page) > PER_PAGE else "",
    )


def find_delivery(webhook: Webhook, pk: str) -> WebhookDelivery:
    """Return a delivery of a webhook without its events.

    Raises:
        Http404: the webhook does not have it.
    """
    delivery = webhook.deliveries.defer("events").filter(pk=int(pk)).first() if is_number(pk) else None
    if delivery is None:
        raise Http404
    return delivery


def result_of(attempt: dict[str, Any]) -> str:
    """Return what an attempt has come to, such as "503" or "No answer within 10 s"."""
    status = attempt.get("status")
    return str(status) if status is not None else str(attempt.get("error", "")).removesuffix(".")


def attempts_of(delivery: WebhookDelivery) -> list[Attempt]:
    """Return the attempts of a delivery that are kept, the newest first."""
    return [
        Attempt(
            parse_datetime(str(attempt.get("at"))),
            result_of(attempt),
            200 <= (attempt.get("status") or 0) < 300,
            attempt.get("milliseconds") or 0,
            attempt.get("answer") or "",
        )
        for attempt in reversed(delivery.attempts)
    ]


def _shown(webhook: Webhook, show: str) -> QuerySet[WebhookDelivery]:
    if show == "failed":
        return services.failed_deliveries(webhook)
    return webhook.deliveries.filter(state=DeliveryState.WAITING) if show else webhook.deliveries.all()


def _page(found: QuerySet[WebhookDelivery], before: str) -> list[Any]:
    """Return the deliveries of a page, and one more if there is another page."""
    if is_number(before):
        found = found.filter(pk__lt=int(before))
    rows = found.defer("events").annotate(beginning=Substr("events", 1, _SUMMARIZED)).order_by("-pk")
    return list(rows[: PER_PAGE + 1])


def _row(row: Any, kept: dict[str, str], opened: WebhookDelivery | None) -> Row:
    is_open = opened is not None and row.pk == opened.pk
    url = _query(**kept) if is_open else _query(**kept, delivery=row.pk)
    return Row(row, _summary(row.beginning, row.count), attempts_of(row), f"{url}#deliveries", is_open)


def _summary(beginning: str, count: int) -> str:
    """Return the events of a delivery in a few words.

    Args:
        beginning: the beginning of the events, as a JSON array.
        count: how many there are.
    """
    try:
        events = json.loads(beginning)
    except ValueError:  # cut
        events = None
    if count == 1:
        name, channel = _NAME.search(beginning), _CHANNEL.search(beginning)
        label = _LABELS.get(name[1], name[1]) if name else "1 event"
        return f"{label}, {channel[1]}" if channel else label
    if events is None:
        return f"{whole(count)} events"
    channels = {event.get("channel") for event in events}
    return f"{whole(count)} events in {channels.pop() if len(channels) == 1 else f'{len(channels)} channels'}"


def _opened(webhook: Webhook, delivery: WebhookDelivery) -> Opened:
    row = WebhookDelivery.objects.annotate(shown=Substr("events", 1, _SHOWN), length=Length("events"))
    found = row.values_list("shown", "length").filter(pk=delivery.pk).first()
    if found is None:  # it was pruned meanwhile
        raise Http404
    shown, length = found
    attempts = attempts_of(delivery)
    at = attempts[0].at if attempts else None
    answer = next((attempt.answer for attempt in attempts if attempt.answer), "")
    is_cut = length > _SHOWN
    is_finished = delivery.state != DeliveryState.WAITING
    return Opened(
        body=_body(shown, is_cut, at or delivery.created_at),
        is_cut=is_cut,
        answer=answer,
        outlook=_outlook(webhook, delivery),
        can_be_sent=webhook.enabled and (is_finished or waits_for_later(delivery, webhook, timezone.now())),
    )


def _body(events: str, is_cut: bool, at: datetime) -> str:
    """Return the body of a request with a line for each event, or its beginning as it was sent."""
    time_ms = int(at.timestamp() * 1000)
    if is_cut:
        return f'{{"time_ms":{time_ms},"events":{events}'
    lines = ",\n".join(f"    {json.dumps(event, ensure_ascii=False)}" for event in json.loads(events))
    return f'{{\n  "time_ms": {time_ms},\n  "events": [\n{lines}\n  ]\n}}'


def _outlook(webhook: Webhook, delivery: WebhookDelivery) -> str:
    if delivery.state != DeliveryState.WAITING:
        return _OUTLOOKS[DeliveryState(delivery.state)]
    now = timezone.now()
    until = hour(delivery.waiting_since + WAITING_FOR, now)
    if not webhook.enabled:
        return f"Sent when the webhook is switched on, until {until}."
    if is_probed(webhook):
        return f"Tried again when the endpoint works, until {until}."
    if delivery.next_at <= now:
        return "It is sent soon."
    return "It is being sent now." if delivery.lease else f"Next attempt: {hour(delivery.next_at, now)}."


def is_number(text: str) -> bool:
    """Return whether a part of a query is a whole number that fits into 64 bits."""
    return re.fullmatch(r"[0-9]{1,18}", text) is not None


def _query(**values: Any) -> str:
    return f"?{urlencode({name: value for name, value in values.items() if value})}"


def since_first(deliveries: QuerySet[WebhookDelivery]) -> datetime:
    """Return when the first of some deliveries was created; now if there are none."""
    first = deliveries.order_by("created_at").values_list("created_at", flat=True).first()
    return first or timezone.now().astimezone(UTC)

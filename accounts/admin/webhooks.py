"""The pages of webhooks and of their log. Operators create no webhooks, because the secrets are for the tenants."""

import json
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join

from .. import crypto, services
from ..forms import WebhookForm
from ..models import DeliveryState, Webhook, WebhookDelivery
from .base import ReadOnly, ServiceAdmin
from .frozen import why_account_frozen
from .lists import change_link, changelist_link, copyable, timestamp_filter
from .operations import Operation, OperationsMixin


def _can_send(webhook: Webhook) -> bool:
    return webhook.enabled and not webhook.cluster.account.suspended


def _send_test_event(webhook: Webhook) -> None:
    services.send_test_event(webhook)


def _redeliver_failed(webhook: Webhook) -> None:
    services.redeliver_failed(webhook)


_HEALTH = ("failures", "failing_since", "last_error", "probe_at", "disabled_because", "dropped", "dropped_at")


@admin.register(Webhook)
class WebhookAdmin(ServiceAdmin):
    form = WebhookForm
    saves_in_transaction = False  # the service asks a name server before it locks anything
    list_display = ["short_url", "account", "cluster", "enabled", "failures", "last_drop", "created"]
    list_filter = [
        "enabled",
        timestamp_filter("failing_since", "health", if_set="Failing", if_null="Healthy"),
        "created_at",
    ]
    list_select_related = ["cluster__account"]
    search_fields = ["url", "cluster__cluster_id", "cluster__account__name"]
    ordering = ["-pk"]
    fieldsets = [
        (None, {"fields": ["account", "cluster", "enabled"]}),
        ("Settings", {"fields": ["url", "kinds", "channel_prefix", "batches", "signing_key", "header_names"]}),
        ("Health", {"fields": _HEALTH}),
        ("Log", {"fields": ["waiting", "failed"]}),
        ("Audit", {"fields": ["created_at", "old_secret_ends_at"]}),
    ]
    readonly_fields = [
        *("account", "cluster", "enabled", "header_names", "waiting", "failed"),
        *_HEALTH,
        *("created_at", "old_secret_ends_at"),
    ]
    operations = [
        Operation(
            "disable",
            "Switch off",
            "switched off",
            "No events are sent any more. Deliveries that wait are kept for a day, and are sent if the webhook is on "
            "again by then.",
            lambda webhook: services.update_webhook(webhook, enabled=False),
            _can_send,
            "The webhook is off already, or its account is suspended.",
        ),
        Operation(
            "enable",
            "Switch on",
            "switched on",
            "Events are sent again, and so are the deliveries that wait.",
            lambda webhook: services.update_webhook(webhook, enabled=True),
            lambda webhook: not webhook.enabled and not webhook.cluster.account.suspended,
            "The webhook is on already, or its account is suspended.",
        ),
        Operation(
            "test",
            "Send test event",
            "sent a test event",
            "The tenant's server gets an event with the name test. The log shows what it answers.",
            _send_test_event,
            _can_send,
            "The webhook is off, or its account is suspended.",
        ),
        Operation(
            "redeliver",
            "Send failed again",
            "set to send what has failed again",
            "All deliveries in the log that have failed or were dropped are sent again, each with its ID.",
            _redeliver_failed,
            _can_send,
            "The webhook is off, or its account is suspended.",
        ),
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def why_frozen(self, obj: Webhook) -> str | None:
        return why_account_frozen(obj.cluster.account)

    def notices(self, obj: Webhook) -> list[str]:
        off = [] if obj.enabled else [f"This webhook is switched off. {obj.disabled_because}".strip()]
        return [*super().notices(obj), *off]

    def delete_object(self, obj: Webhook) -> None:
        services.delete_webhook(obj, suspended_too=True)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Otherwise the encrypted secrets could be read by filtering.
        return "ciphertext" not in lookup and super().lookup_allowed(lookup, value, request)

    def save_model(self, request: HttpRequest, obj: Webhook, form: ModelForm, change: bool) -> None:
        services.update_webhook(obj, **{name: form.cleaned_data[name] for name in form.changed_data})

    @admin.display(description="URL", ordering="url")
    def short_url(self, webhook: Webhook) -> str:
        return webhook.url if len(webhook.url) <= 50 else f"{webhook.url[:49]}…"

    @admin.display(ordering="cluster__account__name")
    def account(self, webhook: Webhook) -> str:
        return change_link(webhook.cluster.account)

    @admin.display(description="events dropped", ordering="dropped_at")
    def last_drop(self, webhook: Webhook) -> str:
        return _moment(webhook.dropped_at) if webhook.dropped_at is not None else "never"

    @admin.display(ordering="created_at")
    def created(self, webhook: Webhook) -> str:
        return date_format(webhook.created_at, "DATE_FORMAT")

    @admin.display(description="extra headers")
    def header_names(self, webhook: Webhook) -> str:
        try:
            names = ", ".join(sorted(services.headers_of(webhook)))
        except crypto.DecryptionFailed:
            return "They cannot be decrypted with the keys in the settings."
        return names or "none"

    @admin.display(description="deliveries that wait")
    def waiting(self, webhook: Webhook) -> str:
        return self._log(webhook, DeliveryState.WAITING)

    @admin.display(description="deliveries that have failed")
    def failed(self, webhook: Webhook) -> str:
        return self._log(webhook, DeliveryState.FAILED)

    def _log(self, webhook: Webhook, state: DeliveryState) -> str:
        count = webhook.deliveries.filter(state=state).count()
        return changelist_link(WebhookDelivery, count, webhook__id__exact=webhook.pk, state__exact=state)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly, OperationsMixin):
    """The log of webhooks, read-only."""

    show_full_result_count = False
    list_per_page = 50
    list_display = ["created", "short_url", "account", "count", "state", "last_status", "next_try"]
    list_filter = ["state", "created_at"]
    search_fields = ["message_id__exact"]
    fields = [
        *("webhook_link", "account", "id_of_message", "state", "count", "size"),
        *("created_at", "next_try", "shown_attempts", "body"),
    ]
    change_form_template = "accounts/webhook_delivery.html"
    operations = [
        Operation(
            "redeliver",
            "Send again",
            "set to be sent again",
            "The tenant's server gets the same events with the same ID once more.",
            services.redeliver,
            lambda delivery: delivery.state != DeliveryState.WAITING and _can_send(delivery.webhook),
            "The delivery waits already, the webhook is off, or its account is suspended.",
        ),
    ]

    class Media:
        js = ["accounts/copy.js"]

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any) -> HttpResponse | None:
        if request.POST.get("select_across", "0") != "0":
            sentence = "Select deliveries of one page. The page of a webhook sends everything again that has failed."
            self.message_user(request, sentence, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
        return super().response_action(request, queryset, *args)

    def may_operate(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("accounts.change_webhook"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        deliveries: QuerySet[WebhookDelivery] = super().get_queryset(request)
        # Those of deleted webhooks are left out. They stay until they are pruned.
        existing = deliveries.filter(webhook__in=Webhook.objects.all())
        return existing.select_related("webhook__cluster__account").defer("events")

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context["buttons"] = self.buttons(request, kwargs["obj"])
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="time", ordering="created_at")
    def created(self, delivery: WebhookDelivery) -> str:
        return _moment(delivery.created_at)

    @admin.display(description="webhook")
    def short_url(self, delivery: WebhookDelivery) -> str:
        url = delivery.webhook.url
        return url if len(url) <= 40 else f"{url[:39]}…"

    @admin.display(description="webhook")
    def webhook_link(self, delivery: WebhookDelivery) -> str:
        return change_link(delivery.webhook)

    @admin.display
    def account(self, delivery: WebhookDelivery) -> str:
        return change_link(delivery.webhook.cluster.account)

    @admin.display(description="webhook-id")
    def id_of_message(self, delivery: WebhookDelivery) -> str:
        return copyable(delivery.message_id)

    @admin.display(description="last answer")
    def last_status(self, delivery: WebhookDelivery) -> str:
        return _outcome(delivery.attempts[-1]) if delivery.attempts else "none yet"

    @admin.display(description="next attempt", ordering="next_at")
    def next_try(self, delivery: WebhookDelivery) -> str:
        return _moment(delivery.next_at) if delivery.state == DeliveryState.WAITING else "none"

    @admin.display(description="attempts")
    def shown_attempts(self, delivery: WebhookDelivery) -> str:
        rows = [
            [
                _moment(datetime.fromisoformat(attempt["at"])),
                _outcome(attempt),
                f"{attempt['milliseconds']:,} ms",
                attempt["answer"],
            ]
            for attempt in reversed(delivery.attempts)
        ]
        if not rows:
            return "none yet"
        body = format_html_join("", "<tr><td>{}</td><td>{}</td><td>{}</td><td><pre>{}</pre></td></tr>", rows)
        return format_html(
            '<div class="scrolled attempts"><table>'
            "<thead><tr><th>Time</th><th>Result</th><th>Took</th><th>Answer</th></tr></thead>"
            "<tbody>{}</tbody></table></div>",
            body,
        )

    @admin.display(description="events")
    def body(self, delivery: WebhookDelivery) -> str:
        events = WebhookDelivery.objects.filter(pk=delivery.pk).values_list("events", flat=True).first()
        if events is None:
            return "They were deleted meanwhile."
        text = json.dumps(json.loads(events), ensure_ascii=False, indent=2)
        return format_html('<pre class="body scrolled">{}</pre>', text)


def _moment(at: datetime) -> str:
    return date_format(at, "Y-m-d H:i:s")


def _outcome(attempt: dict[str, Any]) -> str:
    return str(attempt["error"] or attempt["status"])

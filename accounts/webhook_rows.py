"""Webhooks, and the deliveries to them."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

from .refused_clients import MAX_CHANNEL_LENGTH
from .webhooks.addresses import validate_url

MAX_SHOWN_URL = 200
MAX_REASON = 200
MAX_USER_ID_LENGTH = 128
"""The length of the longest ID of a member of a channel, which users of Pusher's protocol may have."""


def without_query(url: str) -> str:
    """Return a URL without its query, which may contain a credential that only developers and owners may see."""
    return url.partition("?")[0]


class WebhookKind(models.TextChoices):
    """An event that a webhook can report."""

    OCCUPIED = "channel_occupied", "Channel occupied"
    VACATED = "channel_vacated", "Channel vacated"
    ADDED = "member_added", "Member added"
    REMOVED = "member_removed", "Member removed"
    CLIENT = "client_event", "Client message"
    MISSED = "cache_miss", "Cache miss"
    COUNTED = "subscription_count", "Subscription count"


def validate_kinds(value: Any) -> None:
    """Check that the value is a list of kinds of events.

    Raises:
        ValidationError: it is not.
    """
    if not isinstance(value, list) or not value or len(set(map(str, value))) != len(value):
        raise ValidationError("Choose at least one kind of event, each once.")
    for kind in value:
        if kind not in WebhookKind.values:
            raise ValidationError(f"Choose from {', '.join(WebhookKind.values)}.")


class Webhook(models.Model):
    """A URL of a tenant's server that gets the events of one cluster."""

    cluster = models.ForeignKey("accounts.Cluster", models.CASCADE, related_name="webhooks")
    url = models.CharField(
        "URL", max_length=2000, validators=[validate_url], help_text="Where your server receives the events."
    )
    kinds = models.JSONField("events", validators=[validate_kinds], help_text="The kinds of events to send.")
    channel_prefix = models.CharField(
        max_length=257,
        blank=True,
        validators=[
            RegexValidator(r"^[A-Za-z0-9_/=@,.;#-]*\Z", "Channel IDs have letters, digits and any of -_/=@,.;# only.")
        ],
        help_text="The beginning of the channels whose events to send. Empty for all channels.",
    )
    batches = models.BooleanField(
        default=False, help_text="Whether a request can contain several events: up to 100, or those of one second."
    )
    # Not a foreign key: thousands of API keys can be deleted with a single query.
    signing_key = models.CharField(
        max_length=60,
        blank=True,
        help_text="The public key whose secret signs for Pusher's libraries. Empty, or if it was revoked: the oldest "
        "active key of the cluster.",
    )
    secret_ciphertext = models.TextField(editable=False)
    # The secret before the last rotation, if that left it valid for some time.
    old_secret_ciphertext = models.TextField(blank=True, editable=False)
    old_secret_ends_at = models.DateTimeField("old secret valid until", null=True, blank=True, editable=False)
    headers_ciphertext = models.TextField(editable=False)
    enabled = models.BooleanField(default=True, help_text="If off, no events are sent.")
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)

    # What the senders know about the endpoint.
    failures = models.PositiveIntegerField("failures in a row", default=0, editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    last_error = models.CharField(
        max_length=MAX_REASON, blank=True, editable=False, help_text="Why the last request failed."
    )
    probe_at = models.DateTimeField("next probe", null=True, blank=True, editable=False)
    is_slow = models.BooleanField(
        default=False, editable=False, help_text="Whether its last answer took long. Such webhooks share some requests."
    )
    due_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When a sender has something to do; empty if nothing waits."
    )
    disabled_because = models.CharField(max_length=MAX_REASON, blank=True, editable=False)
    dropped = models.PositiveBigIntegerField(default=0, editable=False, help_text="Events that could not be kept.")
    dropped_at = models.DateTimeField("last event dropped", null=True, blank=True, editable=False)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(condition=~models.Q(secret_ciphertext=""), name="webhook_has_a_secret"),
            models.CheckConstraint(
                condition=models.Q(old_secret_ends_at=None) | ~models.Q(old_secret_ciphertext=""),
                name="webhook_has_no_end_without_an_old_secret",
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=models.Q(enabled=True), name="webhooks_that_are_due"),
        ]

    def __str__(self) -> str:
        # Short enough for the audit log.
        url = without_query(self.url)
        return f"{url if len(url) <= MAX_SHOWN_URL else f'{url[: MAX_SHOWN_URL - 1]}…'} ({self.cluster})"

    @property
    def has_old_secret(self) -> bool:
        """Whether the secret before the last rotation is still valid."""
        return self.old_secret_ends_at is not None and self.old_secret_ends_at > timezone.now()


class DeliveryState(models.TextChoices):
    """What became of a delivery."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    DROPPED = "dropped"


class WebhookDelivery(models.Model):
    """One request to a webhook, which is repeated until the receiver has taken it. The log of the webhook."""

    # A deleted webhook may leave thousands of rows behind, which are pruned in small steps.
    webhook = models.ForeignKey(Webhook, models.DO_NOTHING, related_name="deliveries", db_constraint=False)
    message_id = models.CharField("webhook-id", max_length=40, unique=True)
    events = models.TextField(help_text="The events, as a JSON array.")
    size = models.PositiveIntegerField(help_text="Of the events, in bytes.")
    count = models.PositiveIntegerField("events", default=1)
    in_order = models.BooleanField(help_text="Whether its events report states, which are sent in order.")
    state = models.CharField(max_length=10, choices=DeliveryState.choices, default=DeliveryState.WAITING)
    tries = models.PositiveIntegerField(default=0, help_text="Since it was sent or sent again.")
    attempts = models.JSONField(
        default=list, help_text="The last attempts: time, HTTP status, milliseconds, error, and the answer's beginning."
    )
    attempts_size = models.PositiveIntegerField(default=0, help_text="Of the attempts, in bytes.")
    created_at = models.DateTimeField("created", default=timezone.now)
    waiting_since = models.DateTimeField(default=timezone.now, help_text="When it was sent or sent again.")
    next_at = models.DateTimeField(
        "next attempt", help_text="While a sender has it, when others take it over if that sender has died."
    )
    lease = models.CharField(max_length=32, blank=True, help_text="The sender that has it now.")

    class Meta:
        verbose_name_plural = "webhook deliveries"
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(condition=models.Q(state__in=DeliveryState.values), name="delivery_has_a_state")
        ]
        indexes = [
            models.Index(fields=["webhook", "state", "next_at"], name="deliveries_that_wait"),
            models.Index(fields=["webhook", "-id"], name="deliveries_of_a_webhook"),
            models.Index(fields=["webhook", "state", "size", "attempts_size"], name="sizes_of_deliveries"),
            models.Index(fields=["state", "waiting_since"], name="deliveries_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.message_id} ({self.state})"


class WebhookState(models.Model):
    """The last state of a channel, or of a member of one, that a webhook was told, or will be."""

    webhook = models.ForeignKey(Webhook, models.DO_NOTHING, related_name="states", db_constraint=False)
    channel = models.CharField(max_length=MAX_CHANNEL_LENGTH)
    user_id = models.CharField(
        max_length=MAX_USER_ID_LENGTH, blank=True, help_text="Of the member; empty for the channel itself."
    )
    is_present = models.BooleanField(help_text="Whether the channel is occupied, or the member is there.")
    sequence = models.BigIntegerField(help_text="Grows with each state.")
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["webhook", "channel", "user_id"], name="one_state_per_webhook"),
        ]
        indexes = [
            models.Index(fields=["changed_at"], condition=models.Q(is_present=False), name="states_that_have_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.channel} {self.user_id}: {'present' if self.is_present else 'gone'}"

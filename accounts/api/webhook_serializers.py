"""The serializers of webhooks and their deliveries."""

import json
from datetime import datetime
from typing import Any

from django.utils.functional import cached_property
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts import crypto
from accounts.models import Cluster, DeliveryState, Membership, Webhook, WebhookDelivery, WebhookKind
from accounts.services import MAX_OVERLAP, headers_of
from accounts.users import may_operate
from accounts.webhook_rows import without_query

from .permissions import DEVELOPERS
from .serializers import RotationSerializer, VisibleNameRelatedField


class WebhookSerializer(serializers.ModelSerializer[Webhook]):
    cluster: Any = VisibleNameRelatedField(slug_field="cluster_id", queryset=Cluster.objects.all())
    kinds = serializers.ListField(
        child=serializers.ChoiceField(choices=WebhookKind.choices),
        allow_empty=False,
        help_text="The kinds of events to send.",
    )
    headers = serializers.DictField(
        child=serializers.CharField(max_length=1000, trim_whitespace=False),
        write_only=True,
        required=False,
        help_text="Extra headers of each request, by name. They replace all extra headers that the webhook has.",
    )
    header_names = serializers.SerializerMethodField(
        help_text="The names of the extra headers, whose values are secret; null if the service cannot decrypt them."
    )

    class Meta:
        model = Webhook
        fields = [
            "id",
            "cluster",
            "url",
            "kinds",
            "channel_prefix",
            "batches",
            "signing_key",
            "headers",
            "header_names",
            "enabled",
            "disabled_because",
            "failures",
            "failing_since",
            "last_error",
            "dropped",
            "dropped_at",
            "created_at",
            "old_secret_ends_at",
        ]
        read_only_fields = [
            "disabled_because",
            "failures",
            "failing_since",
            "last_error",
            "dropped",
            "dropped_at",
            "created_at",
            "old_secret_ends_at",
        ]
        extra_kwargs = {
            "url": {
                "help_text": "Where your server receives the events. Viewers see it without its query, which may "
                "contain a credential."
            },
            "enabled": {"default": True},
            "disabled_because": {"help_text": "Why this service has switched it off; empty if it has not."},
            "failures": {"help_text": "How many requests have failed since the last one that succeeded."},
            "failing_since": {"help_text": "When the first of them failed; null if the last request succeeded."},
            "last_error": {"help_text": "Why the last request failed; empty if it succeeded."},
        }

    @cached_property
    def _accounts_with_queries(self) -> set[int]:
        """The accounts, by primary key, whose URLs the user sees with their queries."""
        user = self.context["request"].user
        members = Membership.objects.filter(user=user.pk, role__in=DEVELOPERS)
        return set(members.values_list("account", flat=True))

    def to_representation(self, webhook: Webhook) -> Any:
        values = super().to_representation(webhook)
        user = self.context["request"].user
        if not may_operate(user, "view", Webhook) and webhook.cluster.account_id not in self._accounts_with_queries:
            values["url"] = without_query(values["url"])
        return values

    def get_header_names(self, webhook: Webhook) -> list[str] | None:
        try:
            return sorted(headers_of(webhook))
        except crypto.DecryptionFailed:
            return None


class ChangeWebhookSerializer(WebhookSerializer):
    cluster: Any = serializers.SlugRelatedField(slug_field="cluster_id", read_only=True)


class CreatedWebhookSerializer(WebhookSerializer):
    """A webhook with its signing secret, which is shown only once."""

    secret = serializers.CharField(read_only=True, help_text="Shown only in this response.")

    class Meta(WebhookSerializer.Meta):
        fields = [*WebhookSerializer.Meta.fields, "secret"]


class WebhookRotationSerializer(RotationSerializer):
    """How to rotate the signing secret of a webhook."""

    overlap_seconds = serializers.IntegerField(
        default=0,
        min_value=0,
        max_value=int(MAX_OVERLAP.total_seconds()),
        help_text="For how many seconds requests are also signed with the old secret. With 0, it ends immediately.",
    )


class RedeliverySerializer(serializers.Serializer[Any]):
    """Which deliveries to send again."""

    since = serializers.DateTimeField(
        default=None,
        allow_null=True,
        help_text="Only deliveries that were created since then; null for all in the log.",
    )


class RedeliveredSerializer(serializers.Serializer[Any]):
    """How many deliveries are sent again."""

    deliveries = serializers.IntegerField(help_text="Call again for the rest if so many failed that not all can wait.")


class OutcomeSerializer(serializers.Serializer[Any]):
    """What became of one attempt."""

    at = serializers.DateTimeField()
    status = serializers.IntegerField(allow_null=True, help_text="The HTTP status; null if there was no answer.")
    milliseconds = serializers.IntegerField()
    error = serializers.CharField(help_text="Why there was no answer; otherwise empty.")


class AttemptSerializer(OutcomeSerializer):
    """One attempt, with the beginning of the answer."""

    answer = serializers.SerializerMethodField(
        help_text="The first 1,024 bytes of the answer; null for viewers of the account."
    )

    def get_answer(self, attempt: dict[str, Any]) -> str | None:
        return str(attempt["answer"]) if self.context["shows_bodies"] else None


class DeliverySerializer(serializers.ModelSerializer[WebhookDelivery]):
    id = serializers.CharField(
        source="message_id", read_only=True, help_text="The `webhook-id` of the delivery, the same in all attempts."
    )
    events = serializers.IntegerField(source="count", read_only=True, help_text="How many events it contains.")
    bytes = serializers.IntegerField(source="size", read_only=True, help_text="The size of the events.")
    next_attempt_at = serializers.SerializerMethodField(help_text="Null if it is not sent any more.")
    last_attempt = serializers.SerializerMethodField(help_text="Null before the first attempt.")

    class Meta:
        model = WebhookDelivery
        fields = ["id", "state", "events", "bytes", "created_at", "next_attempt_at", "last_attempt"]
        read_only_fields = ["state", "created_at"]

    def get_next_attempt_at(self, delivery: WebhookDelivery) -> datetime | None:
        return delivery.next_at if delivery.state == DeliveryState.WAITING else None

    @extend_schema_field(OutcomeSerializer(allow_null=True))
    def get_last_attempt(self, delivery: WebhookDelivery) -> dict[str, Any] | None:
        return OutcomeSerializer(delivery.attempts[-1]).data if delivery.attempts else None


class WholeDeliverySerializer(DeliverySerializer):
    """A delivery with its events and all attempts that are kept."""

    body = serializers.SerializerMethodField(
        help_text="The events, which each request contains as `events`; null for viewers of the account."
    )
    attempts = AttemptSerializer(many=True, read_only=True, help_text="The last 20 attempts, oldest first.")

    class Meta(DeliverySerializer.Meta):
        fields = [*DeliverySerializer.Meta.fields, "body", "attempts"]

    def get_body(self, delivery: WebhookDelivery) -> list[dict[str, Any]] | None:
        events: list[dict[str, Any]] = json.loads(delivery.events)
        return events if self.context["shows_bodies"] else None

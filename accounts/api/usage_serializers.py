"""The serializers of usage over time: which hours or days a request asks for, and the answer."""

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from accounts.key_access import can_be_a_key
from accounts.models import Account, ApiKey, UsageUnit
from accounts.usage_counts import Counts
from accounts.usage_reports import LENGTHS, Span, last, over_time, span, total

MAX_PARTS = {UsageUnit.HOUR: 7 * 24, UsageUnit.DAY: 400}
DEFAULT_PARTS = {UsageUnit.HOUR: 7 * 24, UsageUnit.DAY: 30}


def _time_field(help_text: str) -> serializers.DateTimeField:
    invalid = "Enter a day or a time, such as 2026-11-26 or 2026-11-26T14:00:00Z."
    return serializers.DateTimeField(
        required=False,
        default_timezone=UTC,
        help_text=help_text,
        error_messages=dict.fromkeys(("invalid", "date", "make_aware", "overflow"), invalid),
    )


class UsageQuerySerializer(serializers.Serializer[Any]):
    """Which hours or days of an account's usage are asked for."""

    unit = serializers.ChoiceField(
        UsageUnit.choices,
        default=UsageUnit.DAY,
        help_text="`hour` for the last 7 days, `day` for the last 13 months.",
        error_messages={"invalid_choice": "Choose hour or day."},
    )
    start = _time_field(
        "The first hour or day, in UTC. By default, the answer has the 168 hours or the 30 days before `end`."
    )
    end = _time_field("The time before which the last hour or day begins, in UTC. By default, it is the current one.")
    key = serializers.CharField(
        required=False,
        max_length=60,
        help_text="The public part of an API key. The answer then has only what this key has used, without deliveries, "
        "which are counted for the whole account.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        unit = UsageUnit(attrs["unit"])
        for name in ("start", "end"):
            if name in attrs and not 2000 <= attrs[name].astimezone(UTC).year < 3000:
                raise serializers.ValidationError({name: "Enter a time between 2000 and 2999."})
        return {"span": self._span(unit, attrs.get("start"), attrs.get("end")), "key": self._key(attrs.get("key"))}

    def _span(self, unit: UsageUnit, start: datetime | None, end: datetime | None) -> Span:
        end = end or last(unit, 1).end
        start = start or end - DEFAULT_PARTS[unit] * LENGTHS[unit]
        if start >= end:
            raise serializers.ValidationError({"start": "The start must be before the end."})
        if end - start > MAX_PARTS[unit] * LENGTHS[unit]:
            raise serializers.ValidationError({"start": f"Ask for at most {MAX_PARTS[unit]} {unit}s at a time."})
        return span(unit, start, end)

    def _key(self, public_key: str | None) -> int | None:
        if public_key is None:
            return None
        account: Account = self.context["account"]
        keys = ApiKey.objects.filter(public_key=public_key, cluster__account=account)
        pk = keys.values_list("pk", flat=True).first() if can_be_a_key(public_key) else None
        if pk is None:
            raise serializers.ValidationError({"key": "The account has no such API key."})
        return pk


class UsageNumbersSerializer(serializers.Serializer[Any]):
    """What was used in some time."""

    messages = serializers.IntegerField(help_text="Messages sent by clients and servers.")
    message_bytes = serializers.IntegerField(help_text="Bytes of the WebSocket frames of these messages.")
    deliveries = serializers.IntegerField(
        allow_null=True, help_text="Messages delivered, counted once for each receiver; null for a key."
    )
    delivered_bytes = serializers.IntegerField(
        allow_null=True, help_text="Bytes of the frames of these deliveries; null for a key."
    )
    api_calls = serializers.IntegerField(help_text="Successful requests to the Cluster API.")
    peak_connections = serializers.IntegerField(help_text="The most connections at the same time.")
    refusals = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="Refused clients by reason: rejected connections, rejected requests to publish, and connections that "
        "were closed because of what they sent.",
    )


class UsagePartSerializer(UsageNumbersSerializer):
    """What was used in an hour or on a day."""

    start = serializers.DateTimeField(help_text="The beginning of the hour or the day.")


class UsageOverTimeSerializer(serializers.Serializer[Any]):
    """The usage of an account or one of its keys over time. The current hour or day is not complete."""

    unit = serializers.ChoiceField(UsageUnit.choices)
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    total = UsageNumbersSerializer()
    usage = UsagePartSerializer(many=True, help_text="Oldest first, also those without any usage.")


def usage_over_time(account: Account, span: Span, key_pk: int | None) -> dict[str, Any]:
    """Return the usage of an account, or of one of its keys, as `UsageOverTimeSerializer` describes it."""
    found = over_time(account.pk, span, key_pk)
    of_key = key_pk is not None
    return {
        "unit": span.unit,
        "start": span.start,
        "end": span.end,
        "total": _numbers(total(found.values()), of_key=of_key),
        "usage": [{"start": start, **_numbers(counts, of_key=of_key)} for start, counts in found.items()],
    }


def _numbers(counts: Counts, *, of_key: bool) -> dict[str, Any]:
    return {
        "messages": counts.messages,
        "message_bytes": counts.message_bytes,
        "deliveries": None if of_key else counts.deliveries,
        "delivered_bytes": None if of_key else counts.delivered_bytes,
        "api_calls": counts.api_calls,
        "peak_connections": counts.peak_connections,
        "refusals": dict(sorted(counts.refusals.items())),
    }

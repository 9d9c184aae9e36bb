"""The tables of usage over time, and of the warnings that follow from it. See `usage_history` for what writes them."""

from django.db import models
from django.utils import timezone


class UsageUnit(models.TextChoices):
    """The time that a row of usage covers, in UTC."""

    HOUR = "hour"
    DAY = "day"


class UsageRow(models.Model):
    """What every table of usage has. Nodes add to its rows.

    There are no foreign keys: nodes write many rows at a time, and must not wait for the locks of what they name.
    """

    unit = models.CharField(max_length=4, choices=UsageUnit.choices)
    start = models.DateTimeField()
    account_pk = models.BigIntegerField()
    key_pk = models.BigIntegerField(
        default=0, help_text="0 for what belongs to no API key, or to one that was deleted."
    )

    class Meta:
        abstract = True


class Usage(UsageRow):
    """What an API key, or an account apart from its keys, has used in an hour or on a day."""

    messages = models.PositiveBigIntegerField(default=0)
    message_bytes = models.PositiveBigIntegerField(default=0)
    deliveries = models.PositiveBigIntegerField(default=0)
    delivered_bytes = models.PositiveBigIntegerField(default=0)
    api_calls = models.PositiveBigIntegerField(default=0)
    peak_connections = models.PositiveBigIntegerField(
        default=0, help_text="The most connections at the same time; in the row without a key, of the whole account."
    )

    class Meta:
        ordering = ["-start"]
        constraints = [
            models.UniqueConstraint(fields=["account_pk", "unit", "start", "key_pk"], name="one_row_of_usage_per_key")
        ]
        indexes = [models.Index(fields=["unit", "start"], name="usage_by_time")]

    def __str__(self) -> str:
        return f"{self.account_pk}, {self.unit} from {self.start:%Y-%m-%d %H:%M}"


class RefusedUsage(UsageRow):
    """How many clients of an API key, or without one, were refused for a reason."""

    reason = models.CharField(max_length=40)
    refusals = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["-start"]
        constraints = [
            models.UniqueConstraint(
                fields=["account_pk", "unit", "start", "key_pk", "reason"],
                name="one_row_of_refusals_per_key_and_reason",
            )
        ]
        indexes = [models.Index(fields=["unit", "start"], name="refused_usage_by_time")]

    def __str__(self) -> str:
        return f"{self.account_pk}, {self.reason}, {self.unit} from {self.start:%Y-%m-%d %H:%M}"


class UsageWriter(models.Model):
    """A process that writes usage, and the number of the last batch that it has added."""

    writer = models.CharField(max_length=32, primary_key=True)
    batch = models.PositiveBigIntegerField(default=0)
    written_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return f"{self.writer}: {self.batch}"


class QuotaKind(models.TextChoices):
    """A quota that owners are warned of."""

    CONNECTIONS = "connections"
    MESSAGES = "messages"


class QuotaNotice(models.Model):
    """A warning that the owners of an account got on a day. The process that creates the row sends it."""

    account = models.ForeignKey("accounts.Account", models.CASCADE, related_name="quota_notices")
    day = models.DateField()
    quota = models.CharField(max_length=12, choices=QuotaKind.choices)
    percent = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["-day"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "day", "quota", "percent"], name="one_notice_per_account_day_quota_and_percent"
            )
        ]

    def __str__(self) -> str:
        return f"{self.percent} % of {self.quota} on {self.day}"

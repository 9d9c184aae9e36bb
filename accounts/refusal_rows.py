"""The refusals of a day, and their number by cause."""

from django.db import models

from .refused_clients import MAX_CHANNEL_LENGTH, MAX_CLIENT_LENGTH, MAX_ORIGIN_LENGTH, MAX_SHOWN_LENGTH


class Refusal(models.Model):
    """A client that could not connect, or was disconnected because of what it sent. Kept for a day.

    There are no foreign keys: nodes write many refusals at a time, and must not wait for the locks of what they name.
    """

    at = models.DateTimeField("time", db_index=True)
    account_pk = models.BigIntegerField()
    cluster_pk = models.BigIntegerField()
    public_key = models.CharField(
        max_length=60, blank=True, help_text="Empty if the client has sent no valid key of the cluster."
    )
    code = models.PositiveSmallIntegerField("close code", help_text="For a request, the HTTP status.")
    reason = models.CharField(max_length=30)
    detail = models.CharField(max_length=30, blank=True)
    channel = models.CharField(max_length=MAX_CHANNEL_LENGTH, blank=True)
    origin = models.CharField(max_length=MAX_ORIGIN_LENGTH, blank=True)
    user = models.CharField(max_length=MAX_SHOWN_LENGTH, blank=True)
    address = models.CharField(max_length=64, blank=True)
    client = models.CharField(max_length=MAX_CLIENT_LENGTH, blank=True)
    facts = models.JSONField(blank=True, default=dict)

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [
            models.Index(fields=["account_pk", "-at", "-id"], name="refusals_of_an_account"),
            models.Index(fields=["cluster_pk", "public_key", "-at", "-id"], name="refusals_of_a_key"),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.reason} at {self.at:%H:%M:%S}"


class RefusalCount(models.Model):
    """How many refusals one key had for one reason within one hour, including those that are not kept."""

    hour = models.DateTimeField(db_index=True)
    account_pk = models.BigIntegerField()
    cluster_pk = models.BigIntegerField()
    public_key = models.CharField(max_length=60, blank=True)
    code = models.PositiveSmallIntegerField()
    reason = models.CharField(max_length=30)
    detail = models.CharField(max_length=30, blank=True)
    refusals = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["-hour"]
        constraints = [
            models.UniqueConstraint(
                fields=["account_pk", "hour", "cluster_pk", "public_key", "code", "reason", "detail"],
                name="one_row_per_cause_and_hour",
            )
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.reason}: {self.refusals}"

"""The messages that accounts send in a day, also those of accounts that were deleted on that day."""

from django.conf import settings
from django.db import models


class DailyUsage(models.Model):
    """The number of messages that an account has sent on one day (UTC).

    There is no foreign key, because the messages of a deleted account still count against its owners. See
    `FormerAccount`.
    """

    account_pk = models.BigIntegerField()
    day = models.DateField()
    messages = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["-day"]
        constraints = [models.UniqueConstraint(fields=["account_pk", "day"], name="one_row_per_account_and_day")]

    def __str__(self) -> str:
        return f"{self.account_pk} on {self.day}: {self.messages}"


class FormerAccount(models.Model):
    """An account that was deleted, once for each of its owners: its messages of that day count for its heir."""

    account_pk = models.BigIntegerField()
    day = models.DateField()
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="former_accounts")
    heir = models.ForeignKey(
        "accounts.Account",
        models.SET_NULL,
        related_name="inherited",
        null=True,
        blank=True,
        help_text="The next account of the same owner.",
    )

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["account_pk", "owner"], name="one_row_per_account_and_owner")]

    def __str__(self) -> str:
        return f"{self.account_pk}, deleted on {self.day}"

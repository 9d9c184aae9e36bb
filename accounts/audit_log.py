"""The audit log: records of changes, which outlive what they describe."""

from typing import Any

from django.db import models
from django.utils import timezone

from .users import MAX_EMAIL_LENGTH


class AuditSource(models.TextChoices):
    """How a change was made."""

    CONSOLE = "console"
    ADMIN = "admin"
    REST = "rest", "REST API"
    COMMAND = "command"
    AUTOMATIC = "automatic"


class AuditVerb(models.TextChoices):
    """What was done to a resource."""

    CREATED = "created"
    CHANGED = "changed"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    ROTATED = "rotated"
    PUBLISHED = "published", "Message sent"
    TESTED = "tested"
    RESENT = "resent", "Sent again"
    ENDED = "ended", "Old secret ended"
    REVOKED = "revoked"
    DECLINED = "declined"
    DELETED = "deleted"


class ResourceKind(models.TextChoices):
    """The type of a resource."""

    ACCOUNT = "account"
    MEMBER = "member"
    INVITATION = "invitation"
    CLUSTER = "cluster"
    KEY = "key", "API key"
    WEBHOOK = "webhook"
    TOKEN = "token", "API token"
    USER = "user"
    FACTOR = "factor", "Second factor"


class AuditEntry(models.Model):
    """A record of a change: who made it, how, and what changed. Entries are never changed.

    They have plain values and no foreign keys, because they outlive the resources that they describe.
    """

    at = models.DateTimeField("time", default=timezone.now, db_index=True)
    # A user's token belongs to no account.
    account_pk = models.BigIntegerField("account ID", null=True, blank=True)
    account_name = models.CharField("account", max_length=100, blank=True)
    user_pk = models.BigIntegerField("user ID", null=True, blank=True)
    email = models.EmailField("user", max_length=MAX_EMAIL_LENGTH, blank=True)
    by_operator = models.BooleanField(
        default=False, help_text="Whether the user was an operator who did not belong to the account."
    )
    source = models.CharField("made through", max_length=10, choices=AuditSource.choices)
    verb = models.CharField("action", max_length=10, choices=AuditVerb.choices)
    kind = models.CharField("type", max_length=10, choices=ResourceKind.choices)
    name = models.CharField(
        max_length=MAX_EMAIL_LENGTH,
        help_text="The account's ID, the e-mail address of the member or of the token's user, the cluster ID, the "
        "public key, or the webhook's ID.",
    )
    # The label of a member is the longest: the e-mail address and the role.
    label = models.CharField(max_length=300, help_text="The resource's name for people at the time of the change.")
    changes = models.JSONField(
        blank=True,
        default=dict,
        help_text="The old and the new value of each changed field: [old, new]. For a list, what was removed and what "
        "was added.",
    )

    class Meta:
        verbose_name_plural = "audit entries"
        ordering = ["-pk"]
        indexes = [
            models.Index(fields=["account_pk", "-id"], name="audit_of_an_account"),
            models.Index(fields=["account_pk", "at"], name="audit_of_an_account_by_day"),
        ]

    def __str__(self) -> str:
        return f"{self.label} {self.verb}"

    @property
    def author(self) -> str:
        """The person who made the change, and how."""
        source = self.get_source_display()
        return f"{self.email} ({source})" if self.email else source

    def described_changes(self) -> list[str]:
        """Return a text for each field that the change has set, such as "label: web → app"."""
        return [
            f"{name.replace('_', ' ')}: {_described(new)}"
            if self.verb == AuditVerb.CREATED
            else f"{name.replace('_', ' ')}: {_described(old)} → {_described(new)}"
            for name, (old, new) in self.changes.items()
            if old != new
        ]


def _described(value: Any) -> str:
    match value:
        case None | "" | []:
            return "none"
        case bool():
            return "on" if value else "off"
        case list():
            return ", ".join(map(str, value))
        case _:
            return str(value)

"""Invitations to accounts."""

import hashlib
from datetime import datetime, timedelta

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.utils import timezone

from .roles import Role
from .users import MAX_EMAIL_LENGTH, NormalizedEmailField, User

INVITATION_LIFETIME = timedelta(days=14)


def hash_of_token(token: str) -> str:
    """Return what is stored of the token in an invitation's link."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def pending(self) -> "InvitationQuerySet":
        """Return the invitations that have not expired."""
        return self.filter(created_at__gt=timezone.now() - INVITATION_LIFETIME)

    def for_user(self, user: User | AnonymousUser) -> "InvitationQuerySet":
        """Return the pending invitations of a user's e-mail address; none if the address is not verified."""
        if not user.is_authenticated or not user.has_verified_address():
            return self.none()
        return self.pending().filter(email=user.email)

    def with_token(self, token: str) -> "InvitationQuerySet":
        """Return the pending invitation whose link contains this token, if there is one."""
        return self.pending().filter(token_hash=hash_of_token(token))


class Invitation(models.Model):
    """An invitation to an account, for an e-mail address that may or may not have a user.

    It is deleted when it is accepted, declined or revoked.
    """

    account = models.ForeignKey("accounts.Account", models.CASCADE, related_name="invitations")
    email = NormalizedEmailField("e-mail address", max_length=MAX_EMAIL_LENGTH)
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.VIEWER)
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)
    token_hash = models.CharField(max_length=64, unique=True, editable=False)

    link: str | None = None
    """The link of an invitation that was just created, if this service sends no mail and the inviter passes it on."""

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "email"],
                name="one_invitation_per_account_and_address",
                violation_error_message="This e-mail address is already invited.",
            ),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="invitation_has_a_role"),
        ]
        indexes = [models.Index(fields=["email"], name="invitations_of_an_address")]

    def __str__(self) -> str:
        return f"{self.email} ({self.role})"

    @property
    def expires_at(self) -> datetime:
        return self.created_at + INVITATION_LIFETIME

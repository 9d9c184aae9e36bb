"""Accounts with their people, clusters and API keys. All changes go through `services`."""

from collections.abc import Collection
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.utils import timezone

from .api_tokens import ApiToken
from .audit_log import AuditEntry, AuditSource, AuditVerb, ResourceKind
from .daily_usage import DailyUsage, FormerAccount
from .invitation_rows import Invitation
from .key_access import PUBLIC_KEY_PATTERN, new_key
from .origins import validate_allowed_origins
from .refusal_rows import Refusal, RefusalCount
from .roles import Role
from .usage_rows import QuotaKind, QuotaNotice, RefusedUsage, Usage, UsageRow, UsageUnit, UsageWriter
from .users import User, may_operate
from .webhook_rows import DeliveryState, Webhook, WebhookDelivery, WebhookKind, WebhookState

__all__ = [
    "Account",
    "ApiKey",
    "ApiToken",
    "AuditEntry",
    "AuditSource",
    "AuditVerb",
    "Cluster",
    "DailyUsage",
    "DeliveryState",
    "FormerAccount",
    "Invitation",
    "Membership",
    "QuotaKind",
    "QuotaNotice",
    "Refusal",
    "RefusalCount",
    "RefusedUsage",
    "ResourceKind",
    "Role",
    "Usage",
    "UsageRow",
    "UsageUnit",
    "UsageWriter",
    "Webhook",
    "WebhookDelivery",
    "WebhookKind",
    "WebhookState",
]

CLUSTER_ID_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z"

UserOrAnonymous = User | AnonymousUser


class QuotaOverrides(models.Model):
    """Quotas that an account or an API key sets itself. A quota that is not set is inherited."""

    max_connections = models.PositiveIntegerField(
        "connections", null=True, blank=True, help_text="Maximum number of connections open at the same time."
    )
    max_message_bytes = models.PositiveIntegerField(
        "bytes per message",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Maximum size of a message. The server's own limit always applies.",
    )
    max_messages_per_second = models.PositiveIntegerField(
        "messages per second",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Maximum number of messages per second that a connection may send.",
    )

    class Meta:
        abstract = True


class AccountQuerySet(models.QuerySet["Account"]):
    def of(self, user: UserOrAnonymous) -> "AccountQuerySet":
        """Return the accounts that a user belongs to; none if the user is not logged in."""
        return self.filter(memberships__user_id=user.pk) if user.is_authenticated else self.none()

    def visible_to(self, user: UserOrAnonymous) -> "AccountQuerySet":
        """Return the accounts that a user belongs to, or all if the user is an operator who may see accounts."""
        return self.all() if may_operate(user, "view", Account) else self.of(user)


class Account(QuotaOverrides):
    """A tenant: a customer that owns clusters and API keys. A quota that is not set has the default of the settings."""

    name = models.CharField(max_length=100)
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)
    suspended_at = models.DateTimeField("suspended", null=True, blank=True, editable=False)
    creator = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        related_name="created_accounts",
        null=True,
        blank=True,
        editable=False,
        help_text="The user who created the account for themselves; empty if an operator created it.",
    )
    is_demo = models.BooleanField(
        default=False, editable=False, help_text="Whether this is the demo tenant, whose API key everybody knows."
    )
    people = models.ManyToManyField(settings.AUTH_USER_MODEL, through="Membership", related_name="accounts")
    sends_quota_notices = models.BooleanField(
        "quota notices",
        default=True,
        help_text="Whether the owners get an e-mail when 80 % and 100 % of a quota are used.",
    )
    max_messages_per_day = models.PositiveBigIntegerField(
        "messages per day",
        null=True,
        blank=True,
        help_text="Maximum number of messages per day (UTC) from clients and through the Cluster API.",
    )
    max_clusters = models.PositiveIntegerField(
        "clusters", null=True, blank=True, help_text="Maximum number of clusters."
    )
    max_keys = models.PositiveIntegerField(
        "API keys", null=True, blank=True, help_text="Maximum number of API keys that are not revoked."
    )
    max_members = models.PositiveIntegerField(
        "people", null=True, blank=True, help_text="Maximum number of people, including those who are only invited."
    )
    max_webhooks = models.PositiveIntegerField(
        "webhooks", null=True, blank=True, help_text="Maximum number of webhooks."
    )

    objects = AccountQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        constraints = [
            models.CheckConstraint(condition=~models.Q(name=""), name="account_has_a_name"),
            models.UniqueConstraint(fields=["is_demo"], condition=models.Q(is_demo=True), name="one_demo_account"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def suspended(self) -> bool:
        return self.suspended_at is not None


def cascade_if_owners_remain(collector: Any, field: Any, memberships: Any, using: str) -> None:
    """Delete the memberships of deleted users, unless an account would be left without an owner.

    Raises:
        ProtectedError: it would.
    """
    deleted = collector.data.get(User, set())
    owning = {membership for membership in memberships if membership.role == Role.OWNER}
    accounts = {membership.account_id for membership in owning}
    kept = Membership.objects.using(using).active_owners(accounts).exclude(user__in=deleted)
    left = accounts - set(kept.values_list("account", flat=True))
    if left:
        raise models.ProtectedError(
            "An account must have at least one owner.",
            {membership for membership in owning if membership.account_id in left},
        )
    models.CASCADE(collector, field, memberships, using)


class MembershipQuerySet(models.QuerySet["Membership"]):
    def visible_to(self, user: UserOrAnonymous) -> "MembershipQuerySet":
        """Return the memberships of the accounts that a user belongs to, or all if an operator may see them."""
        return (
            self.all() if may_operate(user, "view", Membership) else self.filter(account__in=Account.objects.of(user))
        )

    def active_owners(self, accounts: Collection[int]) -> "MembershipQuerySet":
        """Return the memberships of the owners of some accounts who can log in."""
        return self.filter(account__in=accounts, role=Role.OWNER, user__is_active=True)


class Membership(models.Model):
    """A user's membership of an account."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, cascade_if_owners_remain, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.VIEWER)
    joined_at = models.DateTimeField("since", default=timezone.now, editable=False)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["account", "user"], name="one_membership_per_user_and_account"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="membership_has_a_role"),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class ClusterQuerySet(models.QuerySet["Cluster"]):
    def visible_to(self, user: UserOrAnonymous) -> "ClusterQuerySet":
        """Return the clusters of the accounts that a user belongs to, or all if an operator may see them."""
        return self.all() if may_operate(user, "view", Cluster) else self.filter(account__in=Account.objects.of(user))


class Cluster(models.Model):
    """A named endpoint of an account: `CLUSTER_ID.DOMAIN`."""

    account = models.ForeignKey(Account, models.CASCADE, related_name="clusters")
    cluster_id = models.CharField(
        "cluster ID",
        max_length=63,
        unique=True,
        validators=[
            RegexValidator(
                CLUSTER_ID_PATTERN,
                "Enter up to 63 lower-case letters, digits and hyphens, without a hyphen at the beginning or end.",
            )
        ],
        help_text="A DNS label, which becomes the first part of the host name. It cannot be changed later.",
    )
    enabled = models.BooleanField(
        default=True, help_text="If off, the cluster accepts no connections, and open connections are closed."
    )
    sends_subscription_counts = models.BooleanField(
        default=False,
        help_text="If on, the subscribers of a channel of Pusher's protocol, except presence channels, learn how many "
        "they are.",
    )
    sends_watchlist_events = models.BooleanField(
        default=False,
        help_text="If on, users who sign in with Pusher's protocol learn who of their watchlist is online.",
    )
    closes_unauthorized_connections = models.BooleanField(
        default=False,
        help_text="If on, connections of Pusher's protocol are closed if they neither sign in nor subscribe to a "
        "private or presence channel in time.",
    )
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)

    objects = ClusterQuerySet.as_manager()

    class Meta:
        ordering = ["cluster_id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(cluster_id__regex=CLUSTER_ID_PATTERN), name="cluster_id_is_a_dns_label"
            )
        ]

    def __str__(self) -> str:
        return self.cluster_id

    @property
    def app_id(self) -> str:
        """The number by which clients of Pusher's protocol call the cluster. Pusher's libraries expect a string."""
        return str(self.pk)


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def visible_to(self, user: UserOrAnonymous) -> "ApiKeyQuerySet":
        """Return the API keys of the accounts that a user belongs to, or all if an operator may see them."""
        return (
            self.all()
            if may_operate(user, "view", ApiKey)
            else self.filter(cluster__account__in=Account.objects.of(user))
        )


class ApiKey(QuotaOverrides):
    """An application's access to one cluster: a public part, and a secret that signs JWTs and authorizes publishing.

    A key inherits the quotas of its account, and can set lower ones.
    """

    cluster = models.ForeignKey(Cluster, models.CASCADE, related_name="keys")
    label = models.CharField(max_length=100, help_text="A name that tells people what uses this key.")
    public_key = models.CharField(
        max_length=60,
        unique=True,
        default=new_key,
        editable=False,
        validators=[RegexValidator(PUBLIC_KEY_PATTERN, "A public key consists of 60 URL-safe characters.")],
    )
    secret_ciphertext = models.TextField(editable=False)
    # The secret before the last rotation, if that left it valid for some time.
    old_secret_ciphertext = models.TextField(blank=True, editable=False)
    old_secret_ends_at = models.DateTimeField("old secret valid until", null=True, blank=True, editable=False)
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)
    last_used_at = models.DateTimeField("last used", null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField("revoked", null=True, blank=True, editable=False)

    # The settings of a key, which owners can change.
    protects_channels = models.BooleanField(
        default=False, help_text="If on, all channels require a JWT, not only private channels."
    )
    allows_client_messages = models.BooleanField(
        default=True, help_text="If off, messages can only be published through the Cluster API."
    )
    closes_expired_connections = models.BooleanField(
        default=False,
        help_text="If on, a connection is closed when its JWT expires. "
        "PieSocket's libraries do not renew JWTs, so their clients stay disconnected.",
    )
    allowed_origins = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_allowed_origins],
        help_text="Websites whose pages may connect. Empty to allow all.",
    )

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(public_key__regex=PUBLIC_KEY_PATTERN), name="public_key_is_60_url_safe_characters"
            ),
            models.CheckConstraint(condition=~models.Q(secret_ciphertext=""), name="key_has_a_secret"),
            models.CheckConstraint(
                condition=models.Q(old_secret_ends_at=None) | ~models.Q(old_secret_ciphertext=""),
                name="no_end_without_an_old_secret",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.label} ({self.public_key[:8]}…)"

    @property
    def revoked(self) -> bool:
        return self.revoked_at is not None

    @property
    def has_old_secret(self) -> bool:
        """Whether the secret before the last rotation is still valid."""
        return not self.revoked and self.old_secret_ends_at is not None and self.old_secret_ends_at > timezone.now()


Resource = Account | Membership | Invitation | Cluster | ApiKey | Webhook
"""An account, or anything that belongs to one."""


def account_of(resource: Resource | WebhookDelivery) -> Account:
    """Return the account that a resource belongs to, or the account itself."""
    match resource:
        case Account():
            return resource
        case WebhookDelivery():
            return resource.webhook.cluster.account
        case ApiKey() | Webhook():
            return resource.cluster.account
        case _:
            return resource.account

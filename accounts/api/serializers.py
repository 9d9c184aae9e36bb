"""The serializers of the management API. They convert to and from JSON; the services validate."""

from collections.abc import Mapping
from typing import Any

from allauth.usersessions.models import UserSession
from django.contrib.auth import authenticate
from django.contrib.auth.password_validation import validate_password
from rest_framework import serializers

from accounts import usage
from accounts.audit import public_author
from accounts.models import Account, ApiKey, ApiToken, AuditEntry, Cluster, Invitation, Membership, Role
from accounts.quotas import QUOTA_FIELDS, default_quotas
from accounts.refusals import ShownRefusal
from accounts.services import CLUSTER_SETTINGS, MAX_OVERLAP
from accounts.users import MAX_EMAIL_LENGTH

# Without these defaults, a boolean that form data (such as that of `curl -d`) leaves out would be read as false.
DEFAULT_ON = {name: {"default": True} for name in ("enabled", "allows_client_messages", "sends_quota_notices")}


class VisibleOnly:
    """A reference to a resource that the user can see. Any other resource is reported as nonexistent."""

    queryset: Any
    context: dict[str, Any]

    def get_queryset(self) -> Any:
        return self.queryset.visible_to(self.context["request"].user)


class VisiblePrimaryKeyRelatedField(VisibleOnly, serializers.PrimaryKeyRelatedField[Any]):
    """A reference by primary key to a resource that the user can see."""

    def __init__(self, **kwargs: Any) -> None:
        # Otherwise a number that is not an integer would reach the database, which truncates it or fails.
        super().__init__(pk_field=serializers.IntegerField(), **kwargs)


class VisibleNameRelatedField(VisibleOnly, serializers.SlugRelatedField[Any]):
    """A reference by a unique name to a resource that the user can see. NUL, which PostgreSQL rejects, is invalid."""

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(serializers.CharField(max_length=MAX_EMAIL_LENGTH).run_validation(data))


class LoginSerializer(serializers.Serializer[Any]):
    """The e-mail address and password of a user."""

    WRONG = "No active user has this e-mail address and password."

    email = serializers.CharField(max_length=MAX_EMAIL_LENGTH, help_text="Upper and lower case make no difference.")
    password = serializers.CharField(max_length=128, trim_whitespace=False, style={"input_type": "password"})

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        user = authenticate(self.context["request"], **attrs)
        if user is None:
            raise serializers.ValidationError(self.WRONG)
        return {"user": user}


class TokenSerializer(serializers.Serializer[Any]):
    """A token of the management API. It is shown only once."""

    token = serializers.CharField(read_only=True, help_text="Send it as `Authorization: Token …`.")
    expiry = serializers.DateTimeField(read_only=True, allow_null=True)


class StoredTokenSerializer(serializers.ModelSerializer[ApiToken]):
    """A token of the management API, without the token itself."""

    id = serializers.CharField(source="token_key", read_only=True, help_text="The first 15 characters of the token.")
    created_at = serializers.DateTimeField(source="created", read_only=True)
    current = serializers.SerializerMethodField(help_text="Whether this token authenticates this request.")

    class Meta:
        model = ApiToken
        fields = ["id", "name", "created_at", "last_used_at", "expiry", "current"]
        read_only_fields = ["name", "expiry"]

    def get_current(self, token: ApiToken) -> bool:
        return bool(token == self.context["request"].auth)


class UserSessionSerializer(serializers.ModelSerializer[UserSession]):
    """A session in a browser."""

    ip = serializers.IPAddressField(read_only=True, help_text="The address from which the session began.")
    user_agent = serializers.CharField(read_only=True, help_text="The browser, as it describes itself.")
    current = serializers.SerializerMethodField(help_text="Whether this session authenticates this request.")

    class Meta:
        model = UserSession
        fields = ["id", "created_at", "ip", "user_agent", "current"]
        read_only_fields = ["created_at"]

    def get_current(self, session: UserSession) -> bool:
        request = self.context["request"]
        return request.auth is None and session.session_key == request.session.session_key


class ChangePasswordSerializer(serializers.Serializer[Any]):
    """The current and the new password of the logged-in user."""

    current_password = serializers.CharField(
        max_length=128, trim_whitespace=False, style={"input_type": "password"}, write_only=True
    )
    new_password = serializers.CharField(
        max_length=128, trim_whitespace=False, style={"input_type": "password"}, write_only=True
    )

    def validate_current_password(self, value: str) -> str:
        if not self.context["request"].user.check_password(value):
            raise serializers.ValidationError("This is not your current password.")
        return value

    def validate_new_password(self, value: str) -> str:
        validate_password(value, self.context["request"].user)
        return value


class UsageListSerializer(serializers.ListSerializer[Any]):
    """A page of accounts or keys. It counts their connections together: Redis is asked once, not for each of them."""

    context: dict[str, Any]

    def to_representation(self, data: Any) -> Any:
        rows = list(data)
        self.context["connections"] = usage.connections_of(rows)
        return super().to_representation(rows)


class UsageSerializer(serializers.Serializer[Any]):
    """The number of open connections of an account or a key."""

    connections = serializers.SerializerMethodField(help_text="Number of open connections.")

    def get_connections(self, resource: Account | ApiKey) -> int:
        counted: Mapping[usage.WithConnections, int] | None = self.context.get("connections")
        return (counted or usage.connections_of([resource]))[resource]


class AccountUsageSerializer(UsageSerializer):
    """The current usage of an account."""

    messages_today = serializers.IntegerField(
        read_only=True,
        help_text="Number of messages sent since midnight UTC, also by accounts that you have deleted since then. "
        "May be a few seconds old.",
    )


class ChangeAccountSerializer(serializers.ModelSerializer[Account]):
    suspended = serializers.BooleanField(read_only=True)
    usage: Any = AccountUsageSerializer(source="*", read_only=True)

    class Meta:
        model = Account
        list_serializer_class = UsageListSerializer
        fields = ["id", "name", "suspended", "created_at", "sends_quota_notices", *default_quotas(), "usage"]
        read_only_fields = ["created_at"]
        extra_kwargs = DEFAULT_ON


class AccountSerializer(ChangeAccountSerializer):
    owner = serializers.EmailField(
        write_only=True,
        required=False,
        allow_null=True,
        max_length=MAX_EMAIL_LENGTH,
        help_text="The e-mail address of the user who becomes the owner; null for none. Only operators can set it; "
        "without it, you become the owner.",
    )

    class Meta(ChangeAccountSerializer.Meta):
        fields = [*ChangeAccountSerializer.Meta.fields, "owner"]


class MemberSerializer(serializers.ModelSerializer[Membership]):
    email: Any = serializers.EmailField(source="user.email", read_only=True)
    role: Any = serializers.ChoiceField(choices=Role.choices)

    class Meta:
        model = Membership
        fields = ["id", "email", "role"]


class InvitationSerializer(serializers.ModelSerializer[Invitation]):
    """An invitation that has not been accepted yet."""

    email: Any = serializers.EmailField(max_length=MAX_EMAIL_LENGTH)
    role: Any = serializers.ChoiceField(choices=Role.choices, default=Role.VIEWER)
    expires_at = serializers.DateTimeField(read_only=True)
    link: Any = serializers.CharField(
        read_only=True,
        allow_null=True,
        help_text="The link to pass on, which only this answer contains; null if the person gets it by mail.",
    )

    class Meta:
        model = Invitation
        fields = ["id", "email", "role", "created_at", "expires_at", "link"]
        read_only_fields = ["created_at"]


class OwnInvitationSerializer(InvitationSerializer):
    """An invitation for your e-mail address."""

    account: Any = serializers.PrimaryKeyRelatedField(read_only=True)
    account_name = serializers.CharField(source="account.name", read_only=True)

    class Meta(InvitationSerializer.Meta):
        fields = ["id", "account", "account_name", "role", "created_at", "expires_at"]
        read_only_fields = fields


class AcceptedInvitationSerializer(MemberSerializer):
    """Your membership of the account that you were invited to."""

    account: Any = serializers.PrimaryKeyRelatedField(read_only=True)

    class Meta(MemberSerializer.Meta):
        fields = ["id", "account", "email", "role"]


class ClusterSerializer(serializers.ModelSerializer[Cluster]):
    account: Any = VisiblePrimaryKeyRelatedField(queryset=Account.objects.all())
    app_id = serializers.CharField(read_only=True, help_text="The `app_id` for Pusher's libraries.")

    class Meta:
        model = Cluster
        fields = ["id", "account", "cluster_id", "app_id", *CLUSTER_SETTINGS, "created_at"]
        read_only_fields = ["created_at"]
        extra_kwargs = DEFAULT_ON


class ChangeClusterSerializer(ClusterSerializer):
    account: Any = serializers.PrimaryKeyRelatedField(read_only=True)

    class Meta(ClusterSerializer.Meta):
        read_only_fields = ["cluster_id", "created_at"]


class KeyUsageSerializer(UsageSerializer):
    """The current usage of a key."""


class KeySerializer(serializers.ModelSerializer[ApiKey]):
    cluster: Any = VisibleNameRelatedField(slug_field="cluster_id", queryset=Cluster.objects.all())
    revoked = serializers.BooleanField(read_only=True)
    allowed_origins = serializers.ListField(
        child=serializers.CharField(max_length=300),
        required=False,
        help_text="Hosts of the websites whose pages may connect, such as `example.com` or `*.example.com`. "
        "Empty to allow all websites.",
    )
    usage: Any = KeyUsageSerializer(source="*", read_only=True)

    class Meta:
        model = ApiKey
        list_serializer_class = UsageListSerializer
        fields = [
            "public_key",
            "cluster",
            "label",
            "protects_channels",
            "allows_client_messages",
            "closes_expired_connections",
            "allowed_origins",
            *QUOTA_FIELDS,
            "revoked",
            "created_at",
            "last_used_at",
            "old_secret_ends_at",
            "usage",
        ]
        read_only_fields = ["public_key", "created_at", "last_used_at", "old_secret_ends_at"]
        extra_kwargs = DEFAULT_ON


class ChangeKeySerializer(KeySerializer):
    cluster: Any = serializers.SlugRelatedField(slug_field="cluster_id", read_only=True)


class IssuedKeySerializer(KeySerializer):
    """A key with its secret, which is shown only once."""

    secret = serializers.CharField(read_only=True, help_text="Shown only in this response.")

    class Meta(KeySerializer.Meta):
        fields = [*KeySerializer.Meta.fields, "secret"]


class RotationSerializer(serializers.Serializer[Any]):
    """How to rotate the secret of a key."""

    overlap_seconds = serializers.IntegerField(
        default=0,
        min_value=0,
        max_value=int(MAX_OVERLAP.total_seconds()),
        help_text="For how many seconds the old secret also stays valid. With 0, it ends immediately, and the "
        "connections that its JWTs have opened are closed.",
    )


class AuditEntrySerializer(serializers.ModelSerializer[AuditEntry]):
    email = serializers.SerializerMethodField(
        help_text="The user who made the change; null if an operator or this service made it."
    )
    changes = serializers.DictField(
        child=serializers.ListField(child=serializers.JSONField(), min_length=2, max_length=2),
        help_text="The old and the new value of each changed field: `[old, new]`. For a list, "
        "what was removed and what was added.",
    )

    class Meta:
        model = AuditEntry
        fields = ["id", "at", "email", "source", "verb", "kind", "name", "label", "changes"]
        read_only_fields = fields

    def get_email(self, entry: AuditEntry) -> str | None:
        return public_author(entry)


class OperatorAuditEntrySerializer(AuditEntrySerializer):
    """An audit entry with everything that operators see in the admin."""

    account = serializers.IntegerField(source="account_pk")
    email = serializers.CharField(help_text="The user who made the change; empty if a command made it.")  # type: ignore[assignment]

    class Meta(AuditEntrySerializer.Meta):
        fields = ["account", "account_name", *AuditEntrySerializer.Meta.fields]
        read_only_fields = fields


class ReasonSerializer(serializers.Serializer[ShownRefusal]):
    """Refusals of one API key for one reason."""

    cluster = serializers.CharField(allow_null=True, help_text="The Cluster ID; null if the cluster was deleted.")
    key = serializers.CharField(
        source="key.public_key", default=None, allow_null=True, help_text="Null if the client sent no valid key."
    )
    code = serializers.IntegerField(source="latest.code", help_text="The close code; for a request, the HTTP status.")
    reason = serializers.CharField(source="latest.reason")
    detail = serializers.CharField(source="latest.detail", help_text="What was wrong, such as `expired`; may be empty.")
    sentence = serializers.CharField(source="label", help_text="The reason for people.")
    remedy = serializers.CharField(help_text="What to change so that clients can connect.")
    refusals = serializers.IntegerField(help_text="How many there were, also those that are not kept.")
    last_at = serializers.DateTimeField(source="latest.at", help_text="When the last of them was.")


class RefusalSerializer(ReasonSerializer):
    """A client that could not connect, or was disconnected because of what it sent."""

    refusals = None  # type: ignore[assignment]
    last_at = None  # type: ignore[assignment]
    id = serializers.IntegerField(source="latest.pk")
    at = serializers.DateTimeField(source="latest.at")
    channel = serializers.CharField(source="latest.channel")
    origin = serializers.CharField(source="latest.origin")
    user = serializers.CharField(source="latest.user", help_text="Whom the client claims to be; nobody has checked it.")
    address = serializers.CharField(source="latest.address")
    client = serializers.CharField(source="latest.client", help_text="The `User-Agent` of the client.")

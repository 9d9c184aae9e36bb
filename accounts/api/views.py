"""The views of the management API. They show what the user can see, and change it through the services."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.permissions import SAFE_METHODS, AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from accounts import logins, services
from accounts.models import Account, ApiKey, ApiToken, AuditEntry, Cluster, Invitation, Membership, Role
from accounts.quotas import default_quotas
from accounts.tokens import LoginOutdated, create_token
from accounts.usage import messages_today
from accounts.users import User

from . import schema  # noqa: F401  (registers itself)
from .permissions import (
    DEVELOPERS,
    RoleAllowsChange,
    operates,
    require_operator,
    require_role,
    require_role_to_change,
)
from .serializers import (
    AcceptedInvitationSerializer,
    AccountSerializer,
    AuditEntrySerializer,
    ChangeAccountSerializer,
    ChangeClusterSerializer,
    ChangeKeySerializer,
    ClusterSerializer,
    InvitationSerializer,
    IssuedKeySerializer,
    KeySerializer,
    LoginSerializer,
    MemberSerializer,
    OperatorAuditEntrySerializer,
    OwnInvitationSerializer,
    RotationSerializer,
    TokenSerializer,
)
from .throttling import LoginThrottle

NO_STORE = {"Cache-Control": "no-store"}
PRIMARY_KEY = "[0-9]{1,18}"


@method_decorator(sensitive_post_parameters(), name="dispatch")
class TokenView(APIView):
    """Tokens for this API."""

    def get_permissions(self) -> list[Any]:
        return [AllowAny()] if self.request.method == "POST" else [IsAuthenticated()]

    def get_authenticators(self) -> list[Any]:
        # Logging in needs no authentication, so an expired token or cookie must not cause an error.
        return [] if self.request and self.request.method == "POST" else super().get_authenticators()

    def get_throttles(self) -> list[Any]:
        return [LoginThrottle()] if self.request.method == "POST" else super().get_throttles()

    @sensitive_variables()
    @extend_schema(request=LoginSerializer, responses=TokenSerializer, auth=[])
    def post(self, request: Request) -> Response:
        """Obtain a token with an e-mail address and a password."""
        login = LoginSerializer(data=request.data, context={"request": request})
        login.is_valid(raise_exception=True)
        user = login.validated_data["user"]
        try:
            stored, token = create_token(user)
        except LoginOutdated:
            raise ValidationError({api_settings.NON_FIELD_ERRORS_KEY: [LoginSerializer.WRONG]}) from None
        logins.remember(request, user)
        return Response({"token": token, "expiry": stored.expiry}, headers=NO_STORE)

    @extend_schema(request=None, responses={204: None})
    def delete(self, request: Request) -> Response:
        """Revoke the token with which this request is authenticated."""
        if not isinstance(request.auth, ApiToken):
            raise NotFound("Send the token to revoke in the Authorization header.")
        request.auth.delete()
        return Response(status=status.HTTP_204_NO_CONTENT)


class ResourceViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]):
    """Lists, retrieves and partially updates resources. Subclasses call the services that change them."""

    permission_classes = [IsAuthenticated, RoleAllowsChange]
    lookup_value_regex = PRIMARY_KEY
    change_serializer_class: type[BaseSerializer[Any]]

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return self.change_serializer_class if self.action == "partial_update" else super().get_serializer_class()

    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        serializer = self.get_serializer(self.get_object(), data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        self.perform_change(serializer.instance, serializer.validated_data)
        return Response(serializer.data)

    def perform_change(self, instance: Any, values: dict[str, Any]) -> None:
        """Call the service that changes the resource."""
        raise NotImplementedError


ONLY_OPERATORS = "Only operators of this service can {}."


class AccountViewSet(mixins.CreateModelMixin, ResourceViewSet):
    """Accounts that you belong to; all accounts if you are an operator."""

    queryset = Account.objects.none()
    serializer_class = AccountSerializer
    change_serializer_class = ChangeAccountSerializer

    def get_queryset(self) -> QuerySet[Account]:
        return Account.objects.visible_to(self.request.user).annotate(messages_today=messages_today("pk"))

    @transaction.atomic
    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        """Create an account. You become its owner, unless you are an operator and name another one."""
        values = serializer.validated_data
        if "owner" in values:
            account = services.create_account(values["name"], self._find_owner(values.pop("owner")))
        else:
            account = services.create_own_account(self.request.user, values["name"])  # type: ignore[arg-type]
        self.perform_change(account, {name: value for name, value in values.items() if name != "name"})
        serializer.instance = Account.objects.annotate(messages_today=messages_today("pk")).get(pk=account.pk)

    def _find_owner(self, email: str | None) -> User | None:
        require_operator(self.request.user, "add", Account, ONLY_OPERATORS.format("choose the owner of an account"))
        if email is None:
            return None
        owner = User.objects.filter(email=email, is_active=True).first()
        if owner is None:
            raise ValidationError({"owner": ["No active user has this e-mail address."]})
        return owner

    @transaction.atomic
    def perform_change(self, instance: Account, values: dict[str, Any]) -> None:
        quotas = {name: values[name] for name in set(values) & set(default_quotas())}
        quotas = {name: value for name, value in quotas.items() if value != getattr(instance, name)}
        if quotas:
            sentence = ONLY_OPERATORS.format("set the quotas of an account")
            require_operator(self.request.user, "change", Account, sentence)
            services.set_quotas(instance, **quotas)
        if "name" in values:
            services.rename_account(instance, values["name"])
        if "sends_quota_notices" in values:
            services.set_quota_notices(instance, values["sends_quota_notices"])

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete an account with its clusters and keys, and close their connections."""
        services.delete_account(self.get_object(), suspended_too=operates(request, Account))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def suspend(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Suspend an account: close all its connections and reject new ones. Only operators can do this."""
        return self._set_suspension(services.suspend_account, "suspend an account")

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End the suspension of an account. Only operators can do this."""
        return self._set_suspension(services.resume_account, "resume an account")

    def _set_suspension(self, service: Callable[[Account], None], what: str) -> Response:
        account = get_object_or_404(self.get_queryset(), pk=self.kwargs["pk"])
        require_operator(self.request.user, "change", Account, ONLY_OPERATORS.format(what))
        service(account)
        return Response(self.get_serializer(account).data)


class AccountScopedViewSet(viewsets.GenericViewSet[Any]):
    """Serves the resources of one account, under its path."""

    permission_classes = [IsAuthenticated]
    account: Account

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Check permissions first, so that users without them learn nothing else about the request.
        super().initial(request, *args, **kwargs)
        self.account = get_object_or_404(Account.objects.visible_to(request.user), pk=kwargs["account_pk"])
        kind: Any = type(self).queryset.model  # type: ignore[union-attr]
        if not operates(request, kind, creates=True):
            if not Account.objects.of(request.user).filter(pk=self.account.pk).exists():
                raise PermissionDenied("The admin does not permit you to do this.")
            self.check_role(request)

    def check_role(self, request: Request) -> None:
        """Check that the user's role in the account allows the request."""
        if request.method not in SAFE_METHODS:
            require_role_to_change(request.user, self.account, Role.OWNER)


@extend_schema(parameters=[OpenApiParameter("account_pk", int, OpenApiParameter.PATH)])
class MemberViewSet(AccountScopedViewSet, ResourceViewSet):
    """Members of an account, including its owners. New members are invited."""

    queryset = Membership.objects.none()
    serializer_class = change_serializer_class = MemberSerializer

    def check_role(self, request: Request) -> None:
        # Everyone may leave, so whose membership it is matters.
        if request.method not in (*SAFE_METHODS, "DELETE"):
            super().check_role(request)

    def get_queryset(self) -> QuerySet[Membership]:
        return self.account.memberships.select_related("user")

    def perform_change(self, instance: Membership, values: dict[str, Any]) -> None:
        if "role" in values:
            services.set_role(instance, values["role"])

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Remove a member from the account, or leave it yourself."""
        membership = self.get_object()
        if membership.user_id != request.user.pk and not operates(request, Membership):
            require_role_to_change(request.user, self.account, Role.OWNER)
        services.remove_member(membership)
        return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema(parameters=[OpenApiParameter("account_pk", int, OpenApiParameter.PATH)])
class InvitationViewSet(mixins.ListModelMixin, mixins.CreateModelMixin, AccountScopedViewSet):
    """Pending invitations to an account. Only owners can see and change them."""

    queryset = Invitation.objects.none()
    serializer_class = InvitationSerializer
    lookup_value_regex = PRIMARY_KEY

    def check_role(self, request: Request) -> None:
        require_role(request.user, self.account, Role.OWNER)
        super().check_role(request)

    def get_queryset(self) -> QuerySet[Invitation]:
        return self.account.invitations.pending()

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        """Invite a person by their e-mail address. The answer does not tell whether the address has a user."""
        serializer.instance = services.invite(self.account, **serializer.validated_data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Revoke an invitation."""
        services.revoke_invitation(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)


class OwnInvitationViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Any]):
    """Pending invitations for your e-mail address."""

    queryset = Invitation.objects.none()
    serializer_class = OwnInvitationSerializer
    permission_classes = [IsAuthenticated]
    lookup_value_regex = PRIMARY_KEY

    def get_queryset(self) -> QuerySet[Invitation]:
        return Invitation.objects.for_user(self.request.user).select_related("account")

    @extend_schema(request=None, responses={201: AcceptedInvitationSerializer})
    @action(detail=True, methods=["post"])
    def accept(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Accept an invitation and become a member of the account."""
        membership = services.accept_invitation(self.get_object(), request.user)  # type: ignore[arg-type]
        return Response(AcceptedInvitationSerializer(membership).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses={204: None})
    @action(detail=True, methods=["post"])
    def decline(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Decline an invitation."""
        services.decline_invitation(self.get_object(), request.user)  # type: ignore[arg-type]
        return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema(parameters=[OpenApiParameter("account_pk", int, OpenApiParameter.PATH)])
class AuditViewSet(mixins.ListModelMixin, AccountScopedViewSet):
    """The audit log of an account, newest entry first."""

    queryset = AuditEntry.objects.none()
    serializer_class = AuditEntrySerializer

    def get_queryset(self) -> QuerySet[AuditEntry]:
        return AuditEntry.objects.filter(account_pk=self.account.pk)


class WholeAuditViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Any]):
    """The audit log of all accounts, newest entry first, also of deleted accounts. Only operators can read it."""

    queryset = AuditEntry.objects.all()
    serializer_class = OperatorAuditEntrySerializer
    permission_classes = [IsAuthenticated]

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        if request.method in SAFE_METHODS:  # all other methods are answered with 405
            sentence = ONLY_OPERATORS.format("read the audit log of all accounts")
            require_operator(request.user, "view", AuditEntry, sentence)


@extend_schema_view(
    list=extend_schema(
        parameters=[OpenApiParameter("account", int, description="Only clusters of the account with this ID.")]
    )
)
class ClusterViewSet(mixins.CreateModelMixin, ResourceViewSet):
    """Clusters of your accounts; all clusters if you are an operator."""

    queryset = Cluster.objects.none()
    serializer_class = ClusterSerializer
    change_serializer_class = ChangeClusterSerializer

    def get_queryset(self) -> QuerySet[Cluster]:
        clusters = Cluster.objects.visible_to(self.request.user).select_related("account")
        account = self.request.query_params.get("account")
        if self.action != "list" or account is None:
            return clusters
        if not re.fullmatch(PRIMARY_KEY, account):
            raise ValidationError({"account": ["Enter the ID of an account, a whole number."]})
        return clusters.filter(account=int(account))

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        values = serializer.validated_data
        if not operates(self.request, Cluster, creates=True):
            require_role_to_change(self.request.user, values["account"], *DEVELOPERS)
        serializer.instance = services.create_cluster(**values)

    def perform_change(self, instance: Cluster, values: dict[str, Any]) -> None:
        if "enabled" in values:
            services.update_cluster(instance, enabled=values["enabled"])

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete a cluster with its keys, and close their connections. Only owners can do this."""
        services.delete_cluster(self.get_object(), suspended_too=operates(request, Cluster))
        return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema_view(
    list=extend_schema(
        parameters=[OpenApiParameter("cluster", str, description="Only keys of the cluster with this ID.")]
    )
)
class KeyViewSet(mixins.CreateModelMixin, ResourceViewSet):
    """API keys of your clusters; all API keys if you are an operator."""

    queryset = ApiKey.objects.none()
    serializer_class = KeySerializer
    change_serializer_class = ChangeKeySerializer
    lookup_field = "public_key"
    lookup_value_regex = "[A-Za-z0-9_-]{60}"

    def get_queryset(self) -> QuerySet[ApiKey]:
        keys = ApiKey.objects.visible_to(self.request.user).select_related("cluster__account")
        cluster_id = self.request.query_params.get("cluster")
        if self.action != "list" or cluster_id is None:
            return keys
        # PostgreSQL rejects queries with NUL, but no other character.
        return keys.filter(cluster__cluster_id=cluster_id.replace("\0", ""))

    @extend_schema(responses={201: IssuedKeySerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Issue a key. Its secret is shown only in this response."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        if not operates(request, ApiKey, creates=True):
            require_role_to_change(request.user, serializer.validated_data["cluster"].account, *DEVELOPERS)
        issued = services.issue_key(**serializer.validated_data)
        return self._with_secret(issued.key, issued.secret, status.HTTP_201_CREATED)

    def perform_change(self, instance: ApiKey, values: dict[str, Any]) -> None:
        services.update_key(instance, **values)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Revoke a key and close its connections. The key stays in the list as revoked."""
        services.revoke_key(self.get_object(), suspended_too=operates(request, ApiKey))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=RotationSerializer, responses=IssuedKeySerializer)
    @action(detail=True, methods=["post"], url_path="rotate-secret")
    def rotate_secret(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Replace the secret of a key, immediately or with an overlap. Only this response shows the new secret."""
        key = self.get_object()
        rotation = RotationSerializer(data=request.data)
        rotation.is_valid(raise_exception=True)
        overlap = timedelta(seconds=rotation.validated_data["overlap_seconds"])
        return self._with_secret(key, services.rotate_secret(key, overlap), status.HTTP_200_OK)

    @sensitive_variables()
    def _with_secret(self, key: ApiKey, secret: str, code: int) -> Response:
        data = {**self.get_serializer(key).data, "secret": secret}
        return Response(data, status=code, headers=NO_STORE)


@extend_schema(exclude=True)
class NotFoundView(APIView):
    """Responds with a 404 in JSON to every path that is not part of the API."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound

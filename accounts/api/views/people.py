"""The views of the members of accounts, and of invitations."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from accounts import services
from accounts.models import Invitation, Membership, Role

from ..permissions import operates, require_role, require_role_to_change
from ..serializers import AcceptedInvitationSerializer, InvitationSerializer, MemberSerializer, OwnInvitationSerializer
from .base import PRIMARY_KEY, AccountScopedViewSet, ResourceViewSet


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
        services.revoke_invitation(self.get_object(), suspended_too=operates(request, Invitation))
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

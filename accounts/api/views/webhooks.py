"""The views of webhooks and their deliveries."""

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.views.decorators.debug import sensitive_variables
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import services
from accounts.models import Account, DeliveryState, UserOrAnonymous, Webhook, WebhookDelivery
from accounts.users import may_operate

from ..permissions import DEVELOPERS, RoleAllowsChange, operates, require_role_to_change
from ..webhook_serializers import (
    ChangeWebhookSerializer,
    CreatedWebhookSerializer,
    DeliverySerializer,
    RedeliveredSerializer,
    RedeliverySerializer,
    WebhookRotationSerializer,
    WebhookSerializer,
    WholeDeliverySerializer,
)
from .base import NO_STORE, ResourceViewSet


def visible_webhooks(user: UserOrAnonymous) -> QuerySet[Webhook]:
    """Return the webhooks of the accounts that a user belongs to, or all if an operator may see them."""
    webhooks = Webhook.objects.select_related("cluster__account")
    return (
        webhooks
        if may_operate(user, "view", Webhook)
        else webhooks.filter(cluster__account__in=Account.objects.of(user))
    )


@extend_schema_view(
    list=extend_schema(
        parameters=[OpenApiParameter("cluster", str, description="Only webhooks of the cluster with this ID.")]
    )
)
class WebhookViewSet(mixins.CreateModelMixin, ResourceViewSet):
    """Webhooks of your clusters; all webhooks if you are an operator."""

    queryset = Webhook.objects.none()
    serializer_class = WebhookSerializer
    change_serializer_class = ChangeWebhookSerializer

    def get_queryset(self) -> QuerySet[Webhook]:
        webhooks = visible_webhooks(self.request.user)
        cluster_id = self.request.query_params.get("cluster")
        if self.action != "list" or cluster_id is None:
            return webhooks
        # PostgreSQL rejects queries with NUL, but no other character.
        return webhooks.filter(cluster__cluster_id=cluster_id.replace("\0", ""))

    @sensitive_variables()
    @extend_schema(responses={201: CreatedWebhookSerializer})
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Create a webhook. Its signing secret is shown only in this response."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        if not operates(request, Webhook, creates=True):
            require_role_to_change(request.user, serializer.validated_data["cluster"].account, *DEVELOPERS)
        created = services.create_webhook(**serializer.validated_data)
        return self._with_secret(created.webhook, created.secret, status.HTTP_201_CREATED)

    @sensitive_variables()
    def perform_change(self, instance: Webhook, values: dict[str, Any]) -> None:
        services.update_webhook(instance, **values)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete a webhook with its log."""
        services.delete_webhook(self.get_object(), suspended_too=operates(request, Webhook))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=WebhookRotationSerializer, responses=CreatedWebhookSerializer)
    @action(detail=True, methods=["post"], url_path="rotate-secret")
    def rotate_secret(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Replace the signing secret of a webhook, immediately or with an overlap. Only this response shows it."""
        webhook = self.get_object()
        rotation = WebhookRotationSerializer(data=request.data)
        rotation.is_valid(raise_exception=True)
        overlap = timedelta(seconds=rotation.validated_data["overlap_seconds"])
        return self._with_secret(webhook, services.rotate_webhook_secret(webhook, overlap), status.HTTP_200_OK)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"], url_path="end-old-secret")
    def end_old_secret(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End the overlap of a rotation: requests are signed only with the new secret."""
        webhook = self.get_object()
        services.end_old_webhook_secret(webhook)
        return Response(self.get_serializer(webhook).data)

    @extend_schema(request=None, responses={202: DeliverySerializer})
    @action(detail=True, methods=["post"], url_path="test")
    def send_test_event(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Send an event with the name `test`. Read the delivery to learn what your server has answered."""
        delivery = services.send_test_event(self.get_object())
        return Response(DeliverySerializer(delivery).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=RedeliverySerializer, responses={202: RedeliveredSerializer})
    @action(detail=True, methods=["post"])
    def redeliver(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Send all deliveries again that have failed or were dropped, oldest first, each with its ID."""
        webhook = self.get_object()
        chosen = RedeliverySerializer(data=request.data)
        chosen.is_valid(raise_exception=True)
        number = services.redeliver_failed(webhook, chosen.validated_data["since"])
        return Response(RedeliveredSerializer({"deliveries": number}).data, status=status.HTTP_202_ACCEPTED)

    @sensitive_variables()
    def _with_secret(self, webhook: Webhook, secret: str, code: int) -> Response:
        data = {**self.get_serializer(webhook).data, "secret": secret}
        return Response(data, status=code, headers=NO_STORE)


@extend_schema(parameters=[OpenApiParameter("webhook_pk", int, OpenApiParameter.PATH)])
class DeliveryViewSet(viewsets.GenericViewSet[WebhookDelivery]):
    """The log of a webhook: its deliveries of the last 7 days, at most 10,000."""

    queryset = WebhookDelivery.objects.none()
    serializer_class = DeliverySerializer
    permission_classes = [IsAuthenticated]
    lookup_field = "message_id"
    lookup_value_regex = "msg_[A-Za-z0-9_-]{1,36}"
    webhook: Webhook

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.webhook = get_object_or_404(visible_webhooks(request.user), pk=kwargs["webhook_pk"])
        RoleAllowsChange().has_object_permission(request, self, self.webhook)

    def get_queryset(self) -> QuerySet[WebhookDelivery]:
        return self.webhook.deliveries.all()

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "shows_bodies": self._shows_bodies()}

    def _shows_bodies(self) -> bool:
        """Return whether the user may see what clients have sent, as on the live pages."""
        user, account = self.request.user, self.webhook.cluster.account
        members = account.memberships.filter(user=user.pk, role__in=DEVELOPERS)
        return may_operate(user, "view", WebhookDelivery) or members.exists()

    @extend_schema(
        parameters=[OpenApiParameter("state", str, enum=DeliveryState.values, description="Only those in this state.")],
        responses=DeliverySerializer(many=True),
    )
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the deliveries of a webhook, newest first, without their events."""
        deliveries = self.get_queryset().defer("events")
        state = request.query_params.get("state")
        if state is not None:
            if state not in DeliveryState.values:
                raise ValidationError({"state": [f"Choose from {', '.join(DeliveryState.values)}."]})
            deliveries = deliveries.filter(state=state)
        page: Any = self.paginate_queryset(deliveries)
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(responses=WholeDeliverySerializer)
    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Read a delivery with its events and its attempts."""
        return Response(self._whole(self.get_object()))

    @extend_schema(request=None, responses={202: WholeDeliverySerializer})
    @action(detail=True, methods=["post"])
    def redeliver(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Send a finished delivery again, or send one now that waits for a later time, with the same ID."""
        delivery = self.get_object()
        services.redeliver(delivery)
        return Response(self._whole(delivery), status=status.HTTP_202_ACCEPTED)

    def _whole(self, delivery: WebhookDelivery) -> Any:
        return WholeDeliverySerializer(delivery, context=self.get_serializer_context()).data

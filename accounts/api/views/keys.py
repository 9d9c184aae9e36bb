"""The views of API keys."""

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.views.decorators.debug import sensitive_variables
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import services
from accounts.models import ApiKey

from ..permissions import DEVELOPERS, operates, require_role_to_change
from ..serializers import ChangeKeySerializer, IssuedKeySerializer, KeySerializer, RotationSerializer
from .base import NO_STORE, ResourceViewSet


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

    @extend_schema(request=None)
    @action(detail=True, methods=["post"], url_path="end-old-secret")
    def end_old_secret(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End the overlap of a rotation: the old secret stops working, and its connections are closed."""
        key = self.get_object()
        services.end_old_secret(key, suspended_too=operates(request, ApiKey))
        return Response(self.get_serializer(key).data)

    @sensitive_variables()
    def _with_secret(self, key: ApiKey, secret: str, code: int) -> Response:
        data = {**self.get_serializer(key).data, "secret": secret}
        return Response(data, status=code, headers=NO_STORE)

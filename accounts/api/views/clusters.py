"""The views of clusters."""

import re
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from accounts import services
from accounts.models import Cluster

from ..permissions import DEVELOPERS, operates, require_role_to_change
from ..serializers import ChangeClusterSerializer, ClusterSerializer
from .base import PRIMARY_KEY, ResourceViewSet


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
        services.update_cluster(instance, **values)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete a cluster with its keys, and close their connections. Only owners can do this."""
        services.delete_cluster(self.get_object(), suspended_too=operates(request, Cluster))
        return Response(status=status.HTTP_204_NO_CONTENT)

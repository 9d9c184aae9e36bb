"""The views of refusals."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Refusal
from accounts.refusals import reasons_of, refusals_of, show

from ..serializers import ReasonSerializer, RefusalSerializer
from .base import AccountScopedViewSet

MAX_REASONS = 200


@extend_schema(parameters=[OpenApiParameter("account_pk", int, OpenApiParameter.PATH)])
class RefusalViewSet(AccountScopedViewSet):
    """Clients that could not connect in the last 24 hours, newest first. The last 100 of each key are kept."""

    queryset = Refusal.objects.none()
    serializer_class = RefusalSerializer

    def get_queryset(self) -> QuerySet[Refusal]:
        search, key, reason = (self.request.query_params.get(name, "") for name in ("q", "key", "reason"))
        return refusals_of(self.account, search=search, public_key=key, reason=reason)

    @extend_schema(
        parameters=[
            OpenApiParameter("q", str, description="A part of the address, the origin, the user or the channel."),
            OpenApiParameter("key", str, description="Only refusals of the API key with this public part."),
            OpenApiParameter("reason", str, description="Only refusals for this reason, such as `bad_jwt`."),
        ],
        responses=RefusalSerializer(many=True),
    )
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the refusals that are kept, newest first."""
        page: Any = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(show(self.account, page), many=True).data)

    @extend_schema(filters=False, responses=ReasonSerializer(many=True))
    @action(detail=False, pagination_class=None, serializer_class=ReasonSerializer)
    def reasons(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the reasons of the last 24 hours by API key, the most frequent first, with all refusals counted."""
        return Response(self.get_serializer(reasons_of(self.account, MAX_REASONS), many=True).data)

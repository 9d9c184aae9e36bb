"""The views of the audit log."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, viewsets
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.request import Request

from accounts.models import AuditEntry

from ..permissions import require_operator
from ..serializers import AuditEntrySerializer, OperatorAuditEntrySerializer
from .base import ONLY_OPERATORS, AccountScopedViewSet


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

"""What several views of the management API share."""

from typing import Any

from django.shortcuts import get_object_or_404
from django.views.decorators.debug import sensitive_variables
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, viewsets
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from accounts.models import Account, Role

from ..permissions import RoleAllowsChange, operates, require_role_to_change

NO_STORE = {"Cache-Control": "no-store"}
PRIMARY_KEY = "[0-9]{1,18}"
ONLY_OPERATORS = "Only operators of this service can {}."


class ResourceViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]):
    """Lists, retrieves and partially updates resources. Subclasses call the services that change them."""

    permission_classes = [IsAuthenticated, RoleAllowsChange]
    lookup_value_regex = PRIMARY_KEY
    change_serializer_class: type[BaseSerializer[Any]]

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return self.change_serializer_class if self.action == "partial_update" else super().get_serializer_class()

    @sensitive_variables()
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        serializer = self.get_serializer(self.get_object(), data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        self.perform_change(serializer.instance, serializer.validated_data)
        return Response(serializer.data)

    def perform_change(self, instance: Any, values: dict[str, Any]) -> None:
        """Call the service that changes the resource."""
        raise NotImplementedError


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


@extend_schema(exclude=True)
class NotFoundView(APIView):
    """Responds with a 404 in JSON to every path that is not part of the API."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound

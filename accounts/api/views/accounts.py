"""The views of accounts."""

from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from accounts import services
from accounts.models import Account
from accounts.quotas import default_quotas
from accounts.usage import messages_today
from accounts.users import User

from ..permissions import operates, require_operator
from ..serializers import AccountSerializer, ChangeAccountSerializer
from ..usage_serializers import UsageOverTimeSerializer, UsageQuerySerializer, usage_over_time
from .base import ONLY_OPERATORS, ResourceViewSet


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

    @extend_schema(parameters=[UsageQuerySerializer], responses=UsageOverTimeSerializer)
    @action(detail=True, pagination_class=None)
    def usage(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Read the usage of an account by hour or by day."""
        account = self.get_object()
        query = UsageQuerySerializer(data=request.query_params, context={"account": account})
        query.is_valid(raise_exception=True)
        found = usage_over_time(account, query.validated_data["span"], query.validated_data["key"])
        return Response(UsageOverTimeSerializer(found).data)

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

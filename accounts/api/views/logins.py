"""The views in which people log in and out, see and end their own logins, and change their password."""

from typing import Any

from allauth.usersessions.models import UserSession
from django.contrib.auth import update_session_auth_hash
from django.db.models import QuerySet
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from accounts import logins
from accounts.models import ApiToken
from accounts.second_factors import ONLY_IN_CONSOLE, has_second_factor, must_have_second_factor
from accounts.sessions import sessions_of
from accounts.tokens import LoginOutdated, create_token, valid_tokens

from ..serializers import (
    ChangePasswordSerializer,
    LoginSerializer,
    StoredTokenSerializer,
    TokenSerializer,
    UserSessionSerializer,
)
from ..throttling import LoginThrottle, OwnPasswordThrottle
from .base import NO_STORE, PRIMARY_KEY


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
        """Obtain a token with an e-mail address and a password. With a second factor, create it in the console."""
        login = LoginSerializer(data=request.data, context={"request": request})
        login.is_valid(raise_exception=True)
        user = login.validated_data["user"]
        if has_second_factor(user) or must_have_second_factor(user):
            raise PermissionDenied(ONLY_IN_CONSOLE)
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


@method_decorator(sensitive_post_parameters(), name="dispatch")
class PasswordView(APIView):
    """Your password."""

    def get_throttles(self) -> list[Any]:
        return [*super().get_throttles(), OwnPasswordThrottle()]

    @sensitive_variables()
    @extend_schema(request=ChangePasswordSerializer, responses={204: None})
    def post(self, request: Request) -> Response:
        """Change your password. This ends all your tokens, and all your sessions except the current one."""
        passwords = ChangePasswordSerializer(data=request.data, context={"request": request})
        passwords.is_valid(raise_exception=True)
        user: Any = request.user
        user.set_password(passwords.validated_data["new_password"])
        user.save(update_fields=["password"])
        if request.auth is None:
            update_session_auth_hash(request._request, user)
        return Response(status=status.HTTP_204_NO_CONTENT)


class StoredTokenViewSet(mixins.ListModelMixin, mixins.DestroyModelMixin, viewsets.GenericViewSet[Any]):
    """Your tokens for this API, newest first."""

    queryset = ApiToken.objects.none()
    serializer_class = StoredTokenSerializer
    lookup_field = "token_key"
    lookup_url_kwarg = "id"
    lookup_value_regex = "[0-9a-f]{15}"

    def get_queryset(self) -> QuerySet[ApiToken]:
        return valid_tokens().filter(user=self.request.user.pk).order_by("-created")


class UserSessionViewSet(mixins.ListModelMixin, mixins.DestroyModelMixin, viewsets.GenericViewSet[Any]):
    """Your sessions in browsers, newest first."""

    queryset = UserSession.objects.none()
    serializer_class = UserSessionSerializer
    lookup_value_regex = PRIMARY_KEY

    def get_queryset(self) -> QuerySet[UserSession]:
        return sessions_of(self.request.user)  # type: ignore[arg-type]

    def perform_destroy(self, instance: UserSession) -> None:
        instance.end()

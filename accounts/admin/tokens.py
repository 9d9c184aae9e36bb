"""The admin's page of API tokens, which lists the tokens of all users and revokes them, but creates none."""

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from ..models import ApiToken
from ..tokens import revoke_token
from .base import Unchangeable

# The libraries' own pages would change these without the services.
admin.site.unregister([EmailAddress, Authenticator, UserSession])


@admin.register(ApiToken)
class TokenAdmin(Unchangeable):
    show_full_result_count = False
    list_per_page = 50
    list_display = ["user", "created", "expiry"]
    list_display_links = None
    list_select_related = ["user"]
    search_fields = ["user__email", "user__name"]
    ordering = ["-created"]
    fields = ["user", "created", "expiry"]

    def delete_model(self, request: HttpRequest, obj: ApiToken) -> None:
        revoke_token(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        for token in queryset.select_related("user"):
            revoke_token(token)

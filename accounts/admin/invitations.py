"""The pages of pending invitations, which operators can read and revoke. Only owners invite people."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.formats import date_format

from .. import services
from ..models import Invitation
from .base import ServiceAdmin
from .lists import change_link


@admin.register(Invitation)
class InvitationAdmin(ServiceAdmin):
    list_display = ["email", "account_link", "role", "created_at", "expires_at"]
    list_filter = ["role", "created_at"]
    list_select_related = ["account"]
    search_fields = ["email", "account__name"]
    ordering = ["-created_at"]
    fields = ["account_link", "email", "role", "created_at", "expires_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Invitation]:
        invitations: Any = super().get_queryset(request)
        pending: QuerySet[Invitation] = invitations.pending()
        return pending

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def delete_object(self, obj: Invitation) -> None:
        services.revoke_invitation(obj, suspended_too=True)

    @admin.display(description="account", ordering="account__name")
    def account_link(self, invitation: Invitation) -> str:
        return change_link(invitation.account)

    @admin.display(description="expires", ordering="created_at")
    def expires_at(self, invitation: Invitation) -> str:
        return date_format(invitation.expires_at, "DATETIME_FORMAT")

"""The pages of users and groups."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as BaseGroupAdmin
from django.contrib.auth.admin import UserAdmin as BaseUserAdmin
from django.contrib.auth.forms import BaseUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect

from .. import services
from ..locks import Refused, sentence
from ..users import User
from .base import CheckedRequests


class UserForm(UserChangeForm):
    """A user. Deactivating the only owner of an account is refused."""

    def clean(self) -> dict[str, Any] | None:
        values = super().clean()
        if values is not None and values.get("is_active") is False:
            self.instance.is_active = False
            services.check_deactivation(self.instance)
        return values


@admin.register(User)
class UserAdmin(CheckedRequests, BaseUserAdmin):
    """Users. Only superusers can give them rights, and change or delete users who have rights."""

    form = UserForm
    add_form = BaseUserCreationForm
    show_full_result_count = False
    list_per_page = 50
    list_display = ["email", "name", "is_staff", "is_superuser", "is_active", "last_login"]
    list_filter = ["is_staff", "is_superuser", "is_active", "groups"]
    search_fields = ["email", "name"]
    ordering = ["email"]
    fieldsets = [
        (None, {"fields": ["email", "password", "name"]}),
        ("Permissions", {"fields": ["is_active", "is_staff", "is_superuser", "groups", "user_permissions"]}),
        ("Audit", {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [(None, {"classes": ["wide"], "fields": ["email", "name", "password1", "password2"]})]
    readonly_fields = ["last_login", "date_joined"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return self.readonly_fields if request.user.is_superuser else [*self.readonly_fields, *RIGHTS]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and has_no_more_rights(obj, request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and has_no_more_rights(obj, request.user)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        try:
            return super().delete_view(request, object_id, extra_context)
        except (ValidationError, Refused) as error:
            self.message_user(request, sentence(error), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        services.delete_user(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            try:
                services.delete_user(user)
            except (ValidationError, Refused) as error:
                self.message_user(request, f"{user}: {sentence(error)}", messages.ERROR)


RIGHTS = ["is_staff", "is_superuser", "groups", "user_permissions"]


def has_no_more_rights(user: User | None, other: Any) -> bool:
    """Return whether `other` may take over the login of a user: anyone's as a superuser, else one without rights."""
    if user is None or other.is_superuser:
        return True
    return not (user.is_staff or user.is_superuser or user.groups.exists() or user.user_permissions.exists())


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(CheckedRequests, BaseGroupAdmin):
    """Groups. Only superusers can change them, because they give rights to their members."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

"""Permissions by role in an account. Nobody can change a suspended account."""

from typing import Any

from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import Account, ApiKey, Cluster, Role, UserOrAnonymous, account_of

DEVELOPERS = (Role.OWNER, Role.DEVELOPER)
"""The roles that may change clusters and API keys."""


def require_role(user: UserOrAnonymous, account: Account, *roles: Role) -> None:
    """Check that the user has one of these roles in the account.

    Raises:
        PermissionDenied: the user has not.
    """
    if not account.memberships.filter(user=user.pk, role__in=roles).exists():
        people = " and ".join(f"{role}s" for role in roles)
        raise PermissionDenied(f"Only {people} of the account can do this.")


def require_role_to_change(user: UserOrAnonymous, account: Account, *roles: Role) -> None:
    """Check that the user can change the account now.

    Raises:
        PermissionDenied: the user has none of these roles, or the account is suspended.
    """
    require_role(user, account, *roles)
    if account.suspended:
        raise PermissionDenied("The account is suspended and cannot be changed until it is resumed.")


def require_operator(user: UserOrAnonymous) -> None:
    """Check that the user is an operator of the service: a user who may change accounts in the admin.

    Raises:
        PermissionDenied: the user is not an operator.
    """
    if not user.has_perm("accounts.change_account"):
        raise PermissionDenied("Only operators of this service can set the quotas of an account.")


class RoleAllowsChange(BasePermission):
    """All members can read an account; owners can change it, and developers its clusters and API keys."""

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        if request.method not in SAFE_METHODS:
            roles = DEVELOPERS if isinstance(obj, Cluster | ApiKey) else (Role.OWNER,)
            require_role_to_change(request.user, account_of(obj), *roles)
        return True

"""Permissions: members can read and owners can change an account. Nobody can change a suspended account."""

from typing import Any

from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import Account, Role, UserOrAnonymous, account_of


def require_owner(user: UserOrAnonymous, account: Account) -> None:
    """Check that the user owns the account.

    Raises:
        PermissionDenied: the user does not own the account.
    """
    if not account.memberships.filter(user=user.pk, role=Role.OWNER).exists():
        raise PermissionDenied("Only owners of the account can do this.")


def require_owner_to_change(user: UserOrAnonymous, account: Account) -> None:
    """Check that the user can change the account now.

    Raises:
        PermissionDenied: the user does not own the account, or the account is suspended.
    """
    require_owner(user, account)
    if account.suspended:
        raise PermissionDenied("The account is suspended and cannot be changed until it is resumed.")


def require_operator(user: UserOrAnonymous) -> None:
    """Check that the user is an operator of the service: a user who may change accounts in the admin.

    Raises:
        PermissionDenied: the user is not an operator.
    """
    if not user.has_perm("accounts.change_account"):
        raise PermissionDenied("Only operators of this service can set the quotas of an account.")


class IsOwnerOrReadOnly(BasePermission):
    """Members can read and owners can change the resources of an account."""

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        if request.method not in SAFE_METHODS:
            require_owner_to_change(request.user, account_of(obj))
        return True

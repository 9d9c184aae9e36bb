"""Who may do what: a member reads, an owner changes, and nobody changes what belongs to a suspended account."""

from typing import Any

from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import Account, Role, UserOrAnonymous, account_of


def require_owner(user: UserOrAnonymous, account: Account) -> None:
    """
    Raises:
        PermissionDenied: the person does not own the account.
    """
    if not account.memberships.filter(user=user.pk, role=Role.OWNER).exists():
        raise PermissionDenied("Only an owner of the account can do this.")


def require_owner_to_change(user: UserOrAnonymous, account: Account) -> None:
    """
    Raises:
        PermissionDenied: the person may not change the account, or nobody may now.
    """
    require_owner(user, account)
    if account.suspended:
        raise PermissionDenied("The account is suspended; until it is resumed, it can only be read.")


def require_operator(user: UserOrAnonymous) -> None:
    """
    Raises:
        PermissionDenied: the person is none of those who run the service: who may change accounts in the admin.
    """
    if not user.has_perm("accounts.change_account"):
        raise PermissionDenied("Only an operator of this service can set the quotas of an account.")


class IsOwnerOrReadOnly(BasePermission):
    """Members can read and owners can change the resources of an account."""

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        if request.method not in SAFE_METHODS:
            require_owner_to_change(request.user, account_of(obj))
        return True

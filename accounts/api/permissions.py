"""Permissions by role in an account. Members cannot change a suspended account.

Operators can do in every account what the admin permits them.
"""

from typing import Any

from django.db.models import Model
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.models import Account, ApiKey, Cluster, Role, UserOrAnonymous, Webhook, account_of
from accounts.users import may_operate

DEVELOPERS = (Role.OWNER, Role.DEVELOPER)
"""The roles that may change clusters, API keys and webhooks."""
_ACTIONS = {"POST": "add", "DELETE": "delete"}


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


def require_operator(user: UserOrAnonymous, action: str, kind: type[Model], sentence: str) -> None:
    """Check that the user is an operator of the service who may do this in the admin.

    Args:
        user: the user.
        action: "view", "add", "change" or "delete".
        kind: the model of what the action concerns.
        sentence: tells everyone else that only operators can do this.

    Raises:
        PermissionDenied: the user is not such an operator.
    """
    if not may_operate(user, action, kind):
        raise PermissionDenied(sentence)


def operates(request: Request, kind: type[Model], *, creates: bool = False) -> bool:
    """Return whether the user may make this request as an operator.

    Args:
        request: the request.
        kind: the model of what it concerns.
        creates: whether a POST creates something; otherwise it changes what its URL names.
    """
    if request.method in SAFE_METHODS:
        action = "view"
    elif (request.method == "POST" and not creates) or (kind is ApiKey and request.method == "DELETE"):
        action = "change"  # such as rotating a secret, or revoking a key, which the admin does not call deleting
    else:
        action = _ACTIONS.get(str(request.method), "change")
    return may_operate(request.user, action, kind)


class RoleAllowsChange(BasePermission):
    """All members can read an account; owners can change it, and developers its clusters, API keys and webhooks.

    Only owners can delete a cluster. Operators can do everything that the admin permits them.
    """

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        if request.method not in SAFE_METHODS and not operates(request, type(obj)):
            deletes_cluster = isinstance(obj, Cluster) and request.method == "DELETE"
            is_developers = isinstance(obj, Cluster | ApiKey | Webhook) and not deletes_cluster
            roles = DEVELOPERS if is_developers else (Role.OWNER,)
            require_role_to_change(request.user, account_of(obj), *roles)
        return True

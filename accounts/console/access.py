"""Who may open which page: people see the accounts that they belong to, and change what their role permits."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse

from accounts.models import Account, Role

from .frame import Frame, memberships_of, render_page

DEVELOPERS = (Role.OWNER, Role.DEVELOPER)
OWNERS = (Role.OWNER,)

# The session has the account that was used last under this name.
_LAST_USED = "account"
# Databases cannot look up a larger number.
_MAX_NUMBER = 2**63 - 1

View = Callable[..., HttpResponse]


class AccountRequest(HttpRequest):
    """A request for a page of an account."""

    frame: Frame
    """The account and the role in which the user sees it."""


def account_page(
    *roles: Role, changes: bool = False, what: str = "do this", acts: str = "do this"
) -> Callable[[View], View]:
    """Return a decorator for the views of an account's pages: it replaces the account's number with the account.

    Strangers get 404, as if the account did not exist. Members without the role get 403 and a page that says who can
    do it. In a suspended account, pages that change something get 403.

    Args:
        roles: the roles that may open the page; by default, all.
        changes: whether the page changes something, or asks whether to.
        what: completes "You cannot … in this account".
        acts: completes "Owners can …", or whoever else has the role.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        @login_required
        def checked(request: Any, account: int, **arguments: Any) -> HttpResponse:
            if any(isinstance(value, int) and value > _MAX_NUMBER for value in (account, *arguments.values())):
                raise Http404
            membership = memberships_of(request).filter(account=account).first()
            if membership is None:
                raise Http404
            request.frame = Frame(membership.account, Role(membership.role))
            _remember(request, membership.account)
            if roles and membership.role not in roles:
                return _forbidden(request, what, acts, roles)
            if changes and membership.account.suspended:
                return render_page(request, "console/suspended.html", status=403)
            return view(request, membership.account, **arguments)

        return checked

    return decorate


def last_used_account(request: HttpRequest) -> Any:
    """Return the primary key of the account whose page this session has opened last; None if it has opened none."""
    return request.session.get(_LAST_USED)


def _remember(request: HttpRequest, account: Account) -> None:
    if last_used_account(request) != account.pk:  # each change of a session is saved
        request.session[_LAST_USED] = account.pk


def _forbidden(request: AccountRequest, what: str, acts: str, roles: tuple[Role, ...]) -> HttpResponse:
    who = " and ".join(f"{role}s" for role in roles).capitalize()
    context = {
        "heading": f"You cannot {what} in this account",
        "sentence": f"Your role is {request.frame.role}. {who} can {acts}.",
    }
    return render_page(request, "console/forbidden.html", context, status=403)

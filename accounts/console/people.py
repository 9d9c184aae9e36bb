"""Pages of the people of an account: who has access, with which role, and who is invited."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from django.apps import apps
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Case, Value, When
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST, require_safe

from accounts import services, shown_once
from accounts.locks import Refused
from accounts.models import Account, Invitation, Membership, Role

from .access import OWNERS, AccountRequest, account_page
from .acts import act
from .frame import render_page
from .limits import exhausted
from .member_forms import InvitationForm, RoleForm

PER_PAGE = 50
_MFA = "allauth.mfa"
_ORDER = Case(*(When(role=role, then=Value(rank)) for rank, role in enumerate(Role.values)))
_owners_page = partial(account_page, *OWNERS, what="change people", acts="invite and remove people")


@require_safe
@account_page()
def people(request: AccountRequest, account: Account) -> HttpResponse:
    """List the members of an account, and for owners the open invitations."""
    members = account.memberships.select_related("user").order_by(_ORDER, "user__email")
    page = Paginator(members, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "members": page,
        "protected": _with_second_factor(member.user_id for member in page),
        "invitations": account.invitations.pending() if request.frame.role == Role.OWNER else None,
    }
    return render_page(request, "console/people.html", context, page="people")


@_owners_page(changes=True)
def invite(request: AccountRequest, account: Account) -> HttpResponse:
    """Invite a person by their e-mail address."""
    form = InvitationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        invitation = _invite(account, form)
        if invitation is not None:
            return _after_inviting(request, account, invitation)
    return render_page(request, "console/invite.html", {"form": form}, page="people")


def _invite(account: Account, form: InvitationForm) -> Invitation | None:
    try:
        return services.invite(account, **form.cleaned_data)
    except services.QuotaReached:
        form.reject(exhausted(account, "max_members"))
    except (Refused, ValidationError) as error:
        form.reject(error)
    return None


@sensitive_variables()
def _after_inviting(request: AccountRequest, account: Account, invitation: Invitation) -> HttpResponse:
    if invitation.link is None:
        messages.success(request, "If the address is right, an invitation is on its way.")
        return redirect("console:people", account=account.pk)
    shown_once.keep(request.session, _name_of(invitation), invitation.link)
    return redirect("console:invitation_link", account=account.pk, pk=invitation.pk)


@sensitive_variables()
@require_safe
@_owners_page()
def invitation_link(request: AccountRequest, account: Account, pk: int) -> HttpResponse:
    """Show the link of a new invitation once, if this service sends no mail."""
    invitation = get_object_or_404(account.invitations.pending(), pk=pk)
    context = {"invitation": invitation, "link": shown_once.take(request.session, _name_of(invitation))}
    return render_page(request, "console/invitation_link.html", context, page="people")


@require_POST
@_owners_page(changes=True)
def revoke_invitation(request: AccountRequest, account: Account, pk: int) -> HttpResponse:
    """Revoke an invitation."""
    invitation = get_object_or_404(account.invitations, pk=pk)
    act(request, "Invitation revoked.", services.revoke_invitation, invitation)
    return redirect("console:people", account=account.pk)


@_owners_page(changes=True)
def member(request: AccountRequest, account: Account, pk: int) -> HttpResponse:
    """Show a member, and change the role."""
    membership = _find(account, pk)
    form = RoleForm(request.POST or None, initial={"role": membership.role})
    if request.method == "POST" and form.is_valid() and _set_role(membership, form):
        messages.success(request, "Role changed.")
        return redirect("console:people", account=account.pk)
    context = {"member": membership, "form": form, "is_self": membership.user_id == request.user.pk}
    return render_page(request, "console/member.html", context, page="people")


def _set_role(membership: Membership, form: RoleForm) -> bool:
    try:
        services.set_role(membership, form.cleaned_data["role"])
    except (Refused, ValidationError) as error:
        form.reject(error)
        return False
    return True


@_owners_page(changes=True)
def remove(request: AccountRequest, account: Account, pk: int) -> HttpResponse:
    """Ask whether to remove a member, and do it."""
    membership = _find(account, pk)
    if request.method == "POST":
        act(request, "Person removed.", services.remove_member, membership)
        return redirect("console:people", account=account.pk)
    return render_page(request, "console/member_remove.html", {"member": membership}, page="people")


@account_page(changes=True)
def leave(request: AccountRequest, account: Account) -> HttpResponse:
    """Ask whether to leave the account, and do it."""
    membership = get_object_or_404(account.memberships, user=request.user.pk)
    if request.method == "POST":
        if act(request, f"You have left {account}.", services.remove_member, membership):
            return redirect("console:home")
        return redirect("console:people", account=account.pk)
    others = Membership.objects.active_owners([account.pk]).exclude(pk=membership.pk)
    is_last_owner = membership.role == Role.OWNER and not others.exists()
    return render_page(request, "console/leave.html", {"is_last_owner": is_last_owner}, page="people")


def _find(account: Account, pk: int) -> Membership:
    return get_object_or_404(account.memberships.select_related("user"), pk=pk)


def _name_of(invitation: Invitation) -> str:
    return f"invitation-{invitation.pk}"


def _with_second_factor(users: Iterable[int]) -> set[int] | None:
    """Return which of these users have a second factor, by primary key; None if this service offers none."""
    if not apps.is_installed(_MFA):
        return None
    kinds: Any = apps.get_app_config("mfa").get_model("Authenticator")
    own = kinds.objects.filter(user__in=list(users)).exclude(type=kinds.Type.RECOVERY_CODES)
    return set(own.values_list("user", flat=True))

"""What surrounds the content of every page: the navigation, the switch between accounts, and the banners."""

from collections.abc import Callable
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from accounts.models import Account, Membership, Role


class Frame(NamedTuple):
    """The account that a page is about, and the role in which the user sees it."""

    account: Account
    role: Role

    @property
    def develops(self) -> bool:
        """Whether the user may change clusters and API keys now."""
        return self.role in (Role.OWNER, Role.DEVELOPER) and not self.account.suspended

    @property
    def owns(self) -> bool:
        """Whether the user may change the account and its people now."""
        return self.role == Role.OWNER and not self.account.suspended


class Banner(NamedTuple):
    """A sentence above the heading of every page of an account."""

    tone: str
    """"wait", "bad" or "good"."""
    text: str
    url: str = ""
    """Where the link beside the sentence leads; empty for no link."""
    link: str = ""


class Page(NamedTuple):
    """A page in the navigation."""

    name: str
    label: str
    roles: tuple[Role, ...] = ()
    """The roles that see it; by default, all."""

    def is_for(self, role: Role) -> bool:
        """Return whether people in this role see it."""
        return not self.roles or role in self.roles


class Link(NamedTuple):
    """A link in the navigation."""

    url: str
    label: str
    current: bool
    note: str = ""


PAGES = (
    Page("overview", "Overview"),
    Page("clusters", "Clusters and keys"),
    Page("live", "Live", (Role.OWNER, Role.DEVELOPER)),
    Page("refusals", "Refusals"),
    Page("usage", "Usage"),
    Page("webhooks", "Webhooks"),
)
ACCOUNT_PAGES = (
    Page("people", "People"),
    Page("activity", "Activity"),
    Page("settings", "Account settings", (Role.OWNER,)),
)
# How many accounts the switch lists.
MAX_SWITCHED = 20

banner_sources: list[Callable[[Account], list[Banner]]] = []
"""Functions that return the banners of an account."""


def memberships_of(request: HttpRequest) -> Any:
    """Return the memberships of the user, with their accounts, by the account's name."""
    own = Membership.objects.filter(user=request.user.pk).select_related("account")
    return own.order_by("account__name", "account")


def render_page(
    request: HttpRequest, template: str, context: dict[str, Any] | None = None, *, page: str = "", status: int = 200
) -> HttpResponse:
    """Return a page of the console.

    Args:
        request: the request; on pages of an account, it has the attribute `frame`.
        template: the name of the template.
        context: what the template shows.
        page: the name of the page in the navigation that is current.
        status: the status code.
    """
    frame: Frame | None = getattr(request, "frame", None)
    values = {
        "frame": frame,
        "account": frame.account if frame else None,
        "switch": _switch(request, frame, page) if frame else [],
        "navigation": _links(PAGES, frame, page) if frame else [],
        "account_navigation": _links(ACCOUNT_PAGES, frame, page) if frame else [],
        "page": page,
        "banners": [banner for source in banner_sources for banner in source(frame.account)] if frame else [],
    }
    return render(request, template, {**values, **(context or {})}, status=status)


def _links(pages: tuple[Page, ...], frame: Frame, current: str) -> list[Link]:
    return [
        Link(reverse(f"console:{page.name}", args=[frame.account.pk]), page.label, page.name == current)
        for page in pages
        if page.is_for(frame.role)
    ]


def _switch(request: HttpRequest, frame: Frame, current: str) -> list[Link]:
    """Return links to the same kind of page in the user's accounts; none if this is the only one."""
    memberships = list(memberships_of(request)[: MAX_SWITCHED + 1])
    if len(memberships) == 1:
        return []
    page = next((page for page in (*PAGES, *ACCOUNT_PAGES) if page.name == current), PAGES[0])
    links = []
    for membership in memberships[:MAX_SWITCHED]:
        role, account = Role(membership.role), membership.account
        name = page.name if page.is_for(role) else PAGES[0].name
        url = reverse(f"console:{name}", args=[account.pk])
        links.append(Link(url, str(account), account == frame.account, role.label))
    return links

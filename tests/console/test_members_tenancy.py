"""The pages of people, activity, settings, tokens and accounts, opened by every role and with hostile values."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import pytest
from allauth.mfa.models import Authenticator
from django.test import Client

from accounts import services
from accounts.models import Account, ApiToken, AuditEntry, Invitation, Membership
from accounts.tokens import create_token
from accounts.users import User
from tests.console.conftest import As
from tests.console.tenants import Tenants, make_tenants

pytestmark = pytest.mark.django_db

ROLES = (None, "stranger", "viewer", "developer", "owner")
"""Nobody, somebody of another account, and the roles in the account."""


class Case(NamedTuple):
    """A method of a page, and the status of its answer for each role."""

    method: str
    path: str
    form: dict[str, str]
    statuses: tuple[int, int, int, int, int]
    """In the order of ROLES."""


READ, OWNERS_READ = (302, 404, 200, 200, 200), (302, 404, 403, 403, 200)
OWNERS_CHANGE = (302, 404, 403, 403, 302)

CASES = [
    Case("get", "{account}/people/", {}, READ),
    Case("get", "{account}/people/leave/", {}, READ),
    Case("post", "{account}/people/leave/", {}, (302, 404, 302, 302, 302)),
    Case("get", "{account}/people/invite/", {}, OWNERS_READ),
    Case("post", "{account}/people/invite/", {"email": "x@y.example", "role": "viewer"}, OWNERS_CHANGE),
    Case("get", "{account}/people/invitations/{invitation}/", {}, OWNERS_READ),
    Case("post", "{account}/people/invitations/{invitation}/revoke/", {}, OWNERS_CHANGE),
    Case("get", "{account}/people/{member}/", {}, OWNERS_READ),
    Case("post", "{account}/people/{member}/", {"role": "owner"}, OWNERS_CHANGE),
    Case("get", "{account}/people/{member}/remove/", {}, OWNERS_READ),
    Case("post", "{account}/people/{member}/remove/", {}, OWNERS_CHANGE),
    Case("get", "{account}/activity/", {}, READ),
    Case("get", "{account}/settings/", {}, OWNERS_READ),
    Case("post", "{account}/settings/", {"name": "New"}, OWNERS_CHANGE),
    Case("get", "{account}/settings/export/", {}, OWNERS_READ),
    Case("get", "{account}/settings/delete/", {}, OWNERS_READ),
    Case("post", "{account}/settings/delete/", {"name": "Example Shop"}, OWNERS_CHANGE),
    # The token is the owner's.
    Case("get", "you/tokens/{token}/", {}, (302, 404, 404, 404, 200)),
    Case("post", "you/tokens/{token}/revoke/", {}, (302, 404, 404, 404, 302)),
    # Outside an account, everybody sees what is theirs.
    Case("get", "you/tokens/", {}, (302, 200, 200, 200, 200)),
    Case("get", "you/tokens/new/", {}, (302, 200, 200, 200, 200)),
    Case("post", "you/tokens/new/", {"name": "New"}, (302, 302, 302, 302, 302)),
    Case("get", "accounts/", {}, (302, 200, 200, 200, 200)),
    Case("get", "accounts/new/", {}, (302, 200, 200, 200, 200)),
    Case("post", "accounts/new/", {"name": "New"}, (302, 302, 302, 302, 302)),
    Case("get", "", {}, (302, 302, 302, 302, 302)),
]


@pytest.fixture(scope="module")
def shops(module_data: Callable[[], AbstractContextManager[None]]) -> Tenants:
    with module_data():
        return make_tenants()


@pytest.fixture
def paths(shops: Tenants) -> dict[str, Any]:
    """The parts of the paths of the shop."""
    account = Account.objects.get(pk=shops.shop.account)
    invitation = services.invite(account, "invited@shop.example")
    member = services.add_member(account, User.objects.create(email="fourth@shop.example"))
    services.add_member(account, User.objects.create(email="fifth@shop.example"), "owner")
    token, _ = create_token(User.objects.get(pk=shops.people["owner"]), "Backup")
    return {"account": account.pk, "invitation": invitation.pk, "member": member.pk, "token": token.token_key}


def state() -> list[Any]:
    models = (Account, Membership, Invitation, AuditEntry, ApiToken, User, Authenticator)
    return [list(model.objects.order_by("pk").values()) for model in models]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("case", CASES, ids=[f"{case.method} {case.path}" for case in CASES])
def test_every_role_gets_its_status_and_nothing_of_other_accounts(
    as_: As, paths: dict[str, Any], case: Case, role: str | None
) -> None:
    client, before = as_(role), state()
    answer = getattr(client, case.method)(f"/console/{case.path.format(**paths)}", case.form)
    assert answer.status_code == case.statuses[ROLES.index(role)]
    if role is None:
        assert answer.headers["Location"].startswith("/console/you/login/?next=")
    is_allowed = role is not None and answer.status_code < 400
    assert (state() != before) == (case.method == "post" and is_allowed)
    page = "" if answer.streaming else answer.content.decode()
    for name in ("Other Company",) if role != "stranger" else ("Example Shop", "shop.example</th"):
        assert name not in page


@pytest.mark.parametrize("path", sorted({case.path for case in CASES}))
def test_other_methods_change_nothing(as_: As, paths: dict[str, Any], path: str) -> None:
    known = {case.method for case in CASES if case.path == path}
    client, before = as_("owner"), state()
    for method in {"get", "post", "put", "patch", "delete"} - known:
        answer = getattr(client, method)(f"/console/{path.format(**paths)}")
        assert answer.status_code in (200, 405)
    assert state() == before


@pytest.mark.parametrize("path", ["people/", "activity/", "settings/", "people/1/", "people/invitations/1/"])
@pytest.mark.parametrize("number", ["0", "99999999999999999999999", "-1", "x"])
def test_numbers_of_accounts_that_do_not_exist_get_404(as_: As, path: str, number: str) -> None:
    assert as_("owner").get(f"/console/{number}/{path}").status_code == 404


SURROGATE: Any = "\ud800".encode("utf-8", "surrogatepass")
HOSTILE = ["\0", "<script>alert(1)</script>", SURROGATE, "x" * 10_000, "’; --", "\u202e"]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("case", [case for case in CASES if case.form], ids=lambda case: case.path)
def test_hostile_values_in_forms_cause_no_failure_and_are_shown_as_text(
    as_: As, paths: dict[str, Any], case: Case, value: str
) -> None:
    for name in case.form:
        form = {**case.form, name: value}
        answer = as_("owner").post(f"/console/{case.path.format(**paths)}", form, follow=True)
        assert answer.status_code in (200, 403)
        assert "<script>alert(1)" not in answer.content.decode()


@pytest.mark.parametrize("value", [*HOSTILE[:2], *HOSTILE[3:]], ids=range(5))
@pytest.mark.parametrize("name", ["page", "person", "thing", "before"])
def test_hostile_values_in_queries_cause_no_failure(as_: As, paths: dict[str, Any], name: str, value: str) -> None:
    client: Client = as_("owner")
    for path in ("{account}/people/", "{account}/activity/", "accounts/"):
        answer = client.get(f"/console/{path.format(**paths)}", {name: value})
        assert answer.status_code == 200
        assert "<script>alert(1)" not in answer.content.decode()

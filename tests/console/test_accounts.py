"""The way into the console: the last used account, all accounts, the switch between them, and a new one."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts import services
from accounts.models import Account, Membership, RefusalCount, Role
from accounts.users import User
from tests.console.conftest import As
from tests.console.tenants import Tenants
from tests.control.conftest import data_plane

pytestmark = pytest.mark.django_db

HOME, LIST, NEW = "/console/", "/console/accounts/", "/console/accounts/new/"


@pytest.fixture
def second(shops: Tenants) -> Account:
    """Another account of the shop's developer, who is a viewer there."""
    account = services.create_account("Labs")
    services.add_member(account, User.objects.get(pk=shops.people["owner"]), Role.OWNER)
    services.add_member(account, User.objects.get(pk=shops.people["developer"]), Role.VIEWER)
    return account


def test_home_leads_to_the_only_account(as_: As, account: Account) -> None:
    assert as_("viewer").get(HOME).headers["Location"] == f"/console/{account.pk}/"


def test_home_leads_to_the_last_used_of_several(as_: As, account: Account, second: Account) -> None:
    client = as_("developer")
    assert client.get(HOME).headers["Location"] == LIST
    for last in (second, account, second):
        client.get(f"/console/{last.pk}/people/")
        assert client.get(HOME).headers["Location"] == f"/console/{last.pk}/"
    services.remove_member(Membership.objects.get(account=second, user__email="developer@shop.example"))
    assert client.get(HOME).headers["Location"] == f"/console/{account.pk}/"


def test_a_page_that_does_not_exist_for_a_person_is_not_remembered(
    as_: As, shops: Tenants, account: Account, second: Account
) -> None:
    client = as_("developer")
    client.get(f"/console/{account.pk}/people/")
    assert client.get(f"/console/{shops.other.account}/people/").status_code == 404
    assert client.get(HOME).headers["Location"] == f"/console/{account.pk}/"


def test_nobody_gets_in_without_logging_in(as_: As, account: Account) -> None:
    for path in (HOME, LIST, NEW, f"/console/{account.pk}/people/", "/console/you/tokens/"):
        answer = as_(None).get(path)
        assert answer.status_code == 302
        assert answer.headers["Location"].endswith(f"?next={path}")


def switch_of(page: str) -> list[tuple[str, str]]:
    inside = page.partition('<details class="switch">')[2].partition("</details>")[0]
    return [
        (url, " ".join(re.sub("<[^>]+>", "", text).split()))
        for url, text in re.findall(r'href="([^"]+)"[^>]*>(.*?)</a>', inside)
    ]


def test_the_switch_leads_to_the_same_kind_of_page_if_the_role_may_open_it(
    as_: As, account: Account, second: Account
) -> None:
    page = as_("developer").get(f"/console/{account.pk}/activity/").content.decode()
    assert switch_of(page) == [
        (f"/console/{account.pk}/activity/", "Example Shop Developer"),
        (f"/console/{second.pk}/activity/", "Labs Viewer"),
        (LIST, "All accounts"),
    ]
    services.set_role(Membership.objects.get(account=account, user__email="developer@shop.example"), Role.OWNER)
    page = as_("developer").get(f"/console/{account.pk}/settings/").content.decode()
    assert switch_of(page)[1][0] == f"/console/{second.pk}/"
    page = as_("developer").get(f"/console/{account.pk}/people/invite/").content.decode()
    assert switch_of(page)[1][0] == f"/console/{second.pk}/people/"


def test_people_with_one_account_see_its_name_as_text(as_: As, account: Account) -> None:
    page = as_("viewer").get(f"/console/{account.pk}/people/").content.decode()
    assert '<span class="only">Example Shop</span>' in page
    assert "All accounts" not in page


def test_all_accounts_have_role_connections_messages_and_problems(as_: As, account: Account, second: Account) -> None:
    services.suspend_account(second)
    services.set_quotas(account, max_connections=500)
    cause = {"account_pk": account.pk, "cluster_pk": 1, "code": 4003, "reason": "bad_origin"}
    RefusalCount.objects.create(**cause, hour=timezone.now(), refusals=1_024)
    RefusalCount.objects.create(**cause, hour=timezone.now() - timedelta(days=2), refusals=5)
    client = as_("developer")
    with data_plane(
        lambda account_ids, public_keys, cluster_pks: [412 if pk == account.pk else 0 for pk in account_ids]
    ):
        page = client.get(LIST).content.decode()
    rows = [" ".join(re.sub("<[^>]+>", " ", row).split()) for row in page.partition("<tbody")[2].split("</tr>")[:2]]
    assert rows[0].endswith("Example Shop Developer 412 0 82 % of connections 1,024 refusals")
    assert f"/console/{account.pk}/refusals/" in page
    assert rows[1] == "Labs Viewer 0 0 Suspended"
    assert "Other Company" not in page


def test_connections_that_cannot_be_counted_are_a_dash_with_a_sentence(as_: As, account: Account) -> None:
    with data_plane(lambda **names: None):  # type: ignore[arg-type,return-value]
        page = as_("viewer").get(LIST).content.decode()
    assert "The connections cannot be counted now." in page
    assert 'data-label="Connections">–<' in page


def test_someone_without_an_account_reads_what_to_do(db: None, settings: Settings) -> None:
    client = Client()
    client.force_login(User.objects.create_user("new@shop.example"))
    assert client.get(HOME).headers["Location"] == LIST
    sentence = "You do not belong to an account yet. Ask an owner to invite new@shop.example"
    page = client.get(LIST).content.decode()
    assert f"{sentence}, or create an account." in page
    assert NEW in page
    settings.ACCOUNTS_PER_PERSON = 0
    page = client.get(LIST).content.decode()
    assert f"{sentence}." in page
    assert NEW not in page


def test_people_create_as_many_accounts_as_they_may(db: None) -> None:
    client = Client()
    client.force_login(User.objects.create_user("new@shop.example"))
    assert "Enter a name." in client.post(NEW, {"name": ""}).content.decode()
    answer = client.post(NEW, {"name": "Shop"})
    account = Account.objects.get()
    assert answer.headers["Location"] == f"/console/{account.pk}/start/"
    assert [(member.user.email, member.role) for member in account.memberships.all()] == [("new@shop.example", "owner")]
    for answer in (client.get(NEW), client.post(NEW, {"name": "Second"})):
        assert answer.status_code == 403
        assert "You have created as many accounts as you may, which is 1." in answer.content.decode()
    assert Account.objects.count() == 1
    assert "Create account" not in client.get(LIST).content.decode()

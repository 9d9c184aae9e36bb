"""What operators see of usage in the admin: that of each account, the busiest accounts, and the last refusals."""

import re
from collections import Counter

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from accounts import services
from accounts.models import Account, ApiKey
from accounts.usage_counts import Counts, UsedBy
from accounts.usage_history import record_usage
from accounts.users import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def busy(account: Account, key: ApiKey, foreign_key: ApiKey) -> Account:
    """An account that sends more than another one, which receives more."""
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    other = foreign_key.cluster.account_id
    record_usage(
        "a",
        1,
        {
            (hour, UsedBy(account.pk, key.public_key)): Counts(messages=182_402, refusals=Counter(bad_origin=24)),
            (hour, UsedBy(other, foreign_key.public_key)): Counts(messages=7),
            (hour, UsedBy(other)): Counts(deliveries=5_000_000),
        },
    )
    return account


def body(client: Client, path: str) -> str:
    response = client.get(f"/admin/{path}")
    assert response.status_code == 200
    return response.content.decode()


def test_operators_see_the_usage_of_every_account(admin_client: Client, busy: Account) -> None:
    path = f"accounts/account/{busy.pk}/"
    assert f'href="/admin/{path}usage/">Usage</a>' in body(admin_client, f"{path}change/")
    html = body(admin_client, f"{path}usage/")
    assert "182,402" in html
    assert 'role="img"' in html
    assert "Origin not allowed" in html
    assert "style=" not in html
    assert body(admin_client, f"{path}usage/?period=7-days&measure=connections&all=1").count('<th scope="row">') > 168


def test_the_busiest_accounts_come_first(admin_client: Client, busy: Account) -> None:
    def names(query: str = "") -> list[str]:
        return re.findall(r'usage/">([^<]*)</a></th>', body(admin_client, f"accounts/account/busiest/{query}"))

    assert names() == ["Acme", "Other"]
    assert names("?measure=deliveries&period=7-days") == ["Other", "Acme"]
    assert names("?measure=x&period=x") == ["Acme", "Other"]
    services.delete_account(busy)
    assert names() == ["Other"]


def test_the_first_page_has_the_last_refusals(admin_client: Client, busy: Account) -> None:
    html = body(admin_client, "")
    assert "Last refusals" in html
    assert f'href="/admin/accounts/account/{busy.pk}/usage/?measure=refusals&amp;period=7-days">Acme</a>' in html
    assert "Origin not allowed" in html


def test_without_the_permission_to_see_accounts_nothing_of_them_is_shown(client: Client, busy: Account) -> None:
    staff = User.objects.create_user("staff@example.com", is_staff=True)
    client.force_login(staff)
    assert "Acme" not in body(client, "")
    for path in (f"{busy.pk}/usage/", "busiest/"):
        assert client.get(f"/admin/accounts/account/{path}").status_code == 403
    staff.user_permissions.add(Permission.objects.get(codename="view_account"))
    assert "Acme" in body(client, "")
    for path in (f"{busy.pk}/usage/", "busiest/"):
        assert client.get(f"/admin/accounts/account/{path}").status_code == 200


def test_the_usage_of_an_account_that_does_not_exist_leads_back(admin_client: Client) -> None:
    for pk in (99, 10**30):
        assert admin_client.get(f"/admin/accounts/account/{pk}/usage/").status_code == 302

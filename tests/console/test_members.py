"""The pages of people, activity, account settings and tokens, and those outside an account."""

import pytest
from django.test import Client

from accounts import services
from accounts.models import Account, ApiToken, AuditEntry, Invitation, Membership, Role
from accounts.users import User
from tests.console.conftest import As
from tests.console.tenants import Tenants

pytestmark = pytest.mark.django_db


def test_smoke(as_: As, account: Account) -> None:
    services.invite(account, "new@shop.example")
    pk = Membership.objects.get(account=account, role="viewer").pk
    client = as_("owner")
    for path in ["people/", "people/invite/", "people/leave/", f"people/{pk}/", f"people/{pk}/remove/", "activity/", "settings/", "settings/delete/", "settings/export/", "../you/tokens/", "../you/tokens/new/", "../accounts/", "../accounts/new/", ".."]:
        from urllib.parse import urljoin
        url = urljoin(f"/console/{account.pk}/", path)
        answer = client.get(url)
        print(url, answer.status_code)
        assert answer.status_code in (200, 403, 302), answer.content

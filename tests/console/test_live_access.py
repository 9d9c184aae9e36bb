"""Who may watch a cluster live."""

import pytest
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from pytest_django import Settings

from accounts.live_access import MayNotWatch, check_watcher
from accounts.users import User
from tests.console.conftest import As
from tests.console.tenants import Tenants

pytestmark = pytest.mark.django_db


def test_staff_who_must_have_a_second_factor_watch_nothing_without_one(
    shops: Tenants, as_: As, settings: Settings
) -> None:
    User.objects.filter(pk=shops.people["owner"]).update(is_staff=True)
    browser = as_("owner")
    watch = (str(browser.session.session_key), shops.shop.account, shops.shop.cluster)
    assert check_watcher(*watch).cluster_id == shops.shop.cluster
    settings.STAFF_NEED_SECOND_FACTOR = True
    with pytest.raises(MayNotWatch, match="second factor"):
        check_watcher(*watch)
    TOTP.activate(User.objects.get(pk=shops.people["owner"]), generate_totp_secret())
    assert check_watcher(*watch).cluster_id == shops.shop.cluster

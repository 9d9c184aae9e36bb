"""Banners for quotas that are nearly or wholly used."""

from django.urls import reverse
from django.utils.html import format_html

from accounts.models import Account
from accounts.quota_notices import REACHED, messages_of, warnings_of

from .figures import Connections
from .frame import Banner, banner_sources


def quota_banners(account: Account) -> list[Banner]:
    """Return the banners of an account's quotas, as they are used now."""
    messages, connections = messages_of(account), Connections([account]).of(account) or 0
    return [
        Banner(
            "bad" if warning.level == REACHED else "wait",
            format_html("<strong>{}</strong> {}", warning.headline, warning.consequence),
            reverse("console:usage", args=[account.pk]),
            "Usage",
        )
        for warning in warnings_of(account, messages=messages, connections=connections)
    ]


banner_sources.append(quota_banners)

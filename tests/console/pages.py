"""Pages of the console, through the test client of Django, as their readers see them."""

import html
from typing import Any

from django.test import Client

from accounts.models import Account


def page(client: Client, account: Account, path: str) -> str:
    """Return a page of an account, with characters instead of entities."""
    response = client.get(f"/console/{account.pk}/{path}")
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def send(client: Client, account: Account, path: str, **values: Any) -> str:
    """Send a form, and return the page that follows."""
    response = client.post(f"/console/{account.pk}/{path}", values, follow=True)
    assert response.status_code == 200
    return html.unescape(response.content.decode())

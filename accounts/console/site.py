"""What all templates know of this service."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, Any]:
    """Return the name and the links that the operator has set; a context processor."""
    return {
        "site_name": settings.SITE_NAME,
        "support_url": settings.SUPPORT_URL,
        "terms_url": settings.TERMS_URL,
        "sends_mail": settings.SENDS_MAIL,
        "sign_up_is_open": settings.SIGN_UP == "open",
    }

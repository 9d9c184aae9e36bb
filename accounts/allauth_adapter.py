"""How django-allauth behaves in this project, whose `usersessions` app records the sessions of users."""

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest

from .logins import client_address
from .networks import address_of


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Lets nobody sign up, and trusts the same proxies as the REST API."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        # The field for the address cannot be empty. "::" is the unspecified address (RFC 4291).
        return address_of(client_address(request)) or "::"

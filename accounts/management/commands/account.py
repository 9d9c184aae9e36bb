"""`manage.py account`: manage the accounts of the service."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import transaction

from accounts import services
from accounts.management.subcommands import (
    CommandWithSubcommands,
    account_values,
    add_account,
    add_quotas,
    find_account,
    given_quotas,
)
from accounts.models import Account
from accounts.quotas import default_quotas
from accounts.users import User

QUOTAS = tuple(default_quotas())


def _list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--search", default="", help="only accounts whose name contains this text")


def _create_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument("--owner", help="e-mail address of an existing user, who becomes the owner", metavar="EMAIL")
    add_quotas(parser, QUOTAS)


def _limit_arguments(parser: ArgumentParser) -> None:
    add_account(parser)
    add_quotas(parser, QUOTAS)


class Command(CommandWithSubcommands):
    help = "Manage accounts: list, create, limit, suspend and resume them."
    subcommands = {
        "list": _list_arguments,
        "create": _create_arguments,
        "limit": _limit_arguments,
        "suspend": add_account,
        "resume": add_account,
    }

    def list(self, search: str, **_: Any) -> Any:
        """List all accounts with their quotas; a quota that is not set has the default."""
        return [account_values(account) for account in Account.objects.filter(name__icontains=search)]

    @transaction.atomic
    def create(self, name: str, owner: str | None, **options: Any) -> Any:
        """Create an account."""
        user = User.objects.filter(email=owner, is_active=True).first() if owner else None
        if owner and user is None:
            raise CommandError(f"No active user has the e-mail address {owner}. Create the user first.")
        account = services.create_account(name, user)
        services.set_quotas(account, **given_quotas(options, QUOTAS))
        return account_values(account)

    def limit(self, account: int, **options: Any) -> Any:
        """Set quotas of an account."""
        quotas = given_quotas(options, QUOTAS)
        if not quotas:
            raise CommandError("Set at least one quota, for example --max-connections 1000.")
        changed = find_account(account)
        services.set_quotas(changed, **quotas)
        return account_values(changed)

    def suspend(self, account: int, **_: Any) -> Any:
        """Suspend an account: close all its connections and reject new ones."""
        suspended = find_account(account)
        services.suspend_account(suspended)
        return account_values(suspended)

    def resume(self, account: int, **_: Any) -> Any:
        """End the suspension of an account."""
        resumed = find_account(account)
        services.resume_account(resumed)
        return account_values(resumed)

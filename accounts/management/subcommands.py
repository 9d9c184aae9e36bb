"""The base class of commands that have subcommands, such as `manage.py account create`."""

import contextlib
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.core.management.base import BaseCommand, CommandError
from redis.exceptions import RedisError

from accounts import usage
from accounts.locks import Refused
from accounts.management.command_line import add_json_option, format_rows, format_values
from accounts.models import Account, ApiKey, Cluster
from accounts.quotas import default_quotas

Arguments = Callable[[ArgumentParser], object]
Values = Mapping[str, Any]
_DEFAULT = "default"


class CommandWithSubcommands(BaseCommand):
    """Runs the method that has the name of the subcommand, and prints what it returns.

    The first line of the method's docstring is the subcommand's help.
    """

    subcommands: ClassVar[dict[str, Arguments]]
    """By name, what adds the arguments of the subcommand."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
        for name, add_arguments in self.subcommands.items():
            text = str(self._method(name).__doc__).partition("\n")[0]
            subparser = subparsers.add_parser(name, help=text, description=text)
            add_arguments(subparser)
            add_json_option(subparser)

    def handle(self, *args: Any, **options: Any) -> None:
        with _reported():
            result: Values | Sequence[Values] = self._method(options["subcommand"])(**options)
        formatted = (
            format_values(result, as_json=options["json"])
            if isinstance(result, Mapping)
            else format_rows(result, as_json=options["json"])
        )
        self.stdout.write(formatted)

    def _method(self, subcommand: str) -> Callable[..., Values | Sequence[Values]]:
        method: Callable[..., Values | Sequence[Values]] = getattr(self, subcommand.replace("-", "_"))
        return method


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        messages = error.message_dict.items() if hasattr(error, "error_dict") else [(NON_FIELD_ERRORS, error.messages)]
        sentences = [
            sentence if name == NON_FIELD_ERRORS else f"{name}: {sentence}"
            for name, found in messages
            for sentence in found
        ]
        raise CommandError(" ".join(sentences)) from None
    except Refused as error:
        raise CommandError(str(error)) from None
    except RedisError:
        raise CommandError("Redis is unreachable. Check REDIS_URL.") from None


def add_account(parser: ArgumentParser) -> None:
    """Add the account as an argument."""
    parser.add_argument("account", type=int, help="ID of the account, which `manage.py account list` prints")


def add_undecryptable(parser: ArgumentParser) -> None:
    """Add an option for what has a secret that can no longer be decrypted."""
    parser.add_argument(
        "--undecryptable",
        action="store_true",
        dest="only_undecryptable",
        help="only those with a secret that no key in ENCRYPTION_KEYS decrypts",
    )


def add_quotas(parser: ArgumentParser, names: Sequence[str]) -> None:
    """Add an option for each of these quotas."""
    for name in names:
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=_quota, help='a whole number, or "default"', metavar="NUMBER"
        )


def given_quotas(options: Values, names: Sequence[str]) -> dict[str, int | None]:
    """Return the quotas that the options set; None for the default."""
    given = {name: options[name] for name in names if options[name] is not None}
    return {name: None if value == _DEFAULT else value for name, value in given.items()}


def _quota(text: str) -> int | str:
    if text == _DEFAULT or text.isdecimal():
        return text if text == _DEFAULT else int(text)
    raise ArgumentTypeError(f'{text!r} is neither a whole number nor "{_DEFAULT}"')


def find_account(primary_key: int) -> Account:
    """Return an account.

    Raises:
        CommandError: it does not exist.
    """
    account = Account.objects.filter(pk=primary_key).first()
    if account is None:
        raise CommandError(f"There is no account with the ID {primary_key}.")
    return account


def find_cluster(cluster_id: str) -> Cluster:
    """Return a cluster.

    Raises:
        CommandError: it does not exist.
    """
    cluster = Cluster.objects.select_related("account").filter(cluster_id=cluster_id).first()
    if cluster is None:
        raise CommandError(f"There is no cluster {cluster_id!r}.")
    return cluster


def find_key(public_key: str) -> ApiKey:
    """Return an API key.

    Raises:
        CommandError: it does not exist.
    """
    key = ApiKey.objects.select_related("cluster__account").filter(public_key=public_key).first()
    if key is None:
        raise CommandError("There is no API key with this public part.")
    return key


def connections_of(accounts: Sequence[Account]) -> Mapping[Any, int | None]:
    """Return how many connections of each account are open; None without Redis, since only the server then knows."""
    return usage.connections_of(accounts) if settings.REDIS_URLS else dict.fromkeys(accounts)


def account_values(account: Account) -> dict[str, Any]:
    """Return what commands print about an account."""
    return {
        "id": account.pk,
        "name": account.name,
        "suspended": account.suspended,
        "created_at": account.created_at,
        **{name: getattr(account, name) for name in default_quotas()},
    }

"""`manage.py usage`: print how much accounts use the service."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import F, OuterRef, Subquery, Sum
from django.db.models.functions import Coalesce
from redis.exceptions import RedisError

from accounts.management.command_line import add_json_option, format_rows
from accounts.management.subcommands import connections_of
from accounts.models import Account, DailyUsage
from accounts.usage import today


class Command(BaseCommand):
    help = (
        "Print the open connections of each account, and the messages that it has sent, busiest first. Without Redis, "
        "only the running server knows the connections."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("account", type=int, nargs="?", help="ID of an account (default: all accounts)")
        parser.add_argument(
            "--days", type=int, default=1, help="count the messages of this many days in UTC (default: today)"
        )
        add_json_option(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["days"] <= 36_500:
            raise CommandError("--days must be from 1 to 36500.")
        accounts = Account.objects.all()
        if options["account"] is not None:
            accounts = accounts.filter(pk=options["account"])
            if not accounts.exists():
                raise CommandError(f"There is no account with the ID {options['account']}.")
        counted = DailyUsage.objects.filter(
            account_pk=OuterRef("pk"), day__gt=today() - timedelta(days=options["days"])
        ).order_by()
        sent = counted.values("account_pk").annotate(total=Sum("messages")).values("total")
        rows = list(accounts.annotate(messages=Coalesce(Subquery(sent), 0)).order_by(F("messages").desc(), "pk"))
        try:
            connections = connections_of(rows)
            values = [
                {
                    "account": account.pk,
                    "name": account.name,
                    "suspended": account.suspended,
                    "connections": connections[account],
                    "messages": account.messages,
                }
                for account in rows
            ]
        except RedisError:
            raise CommandError("Redis is unreachable. Check REDIS_URL.") from None
        self.stdout.write(format_rows(values, as_json=options["json"]))

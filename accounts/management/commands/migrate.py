"""`manage.py migrate`: Django's command, which several machines may run at the same time."""

from typing import Any

from django.core.management.commands.migrate import Command as DjangoCommand

from accounts.management.migrations import migration_lock


class Command(DjangoCommand):
    def handle(self, *args: Any, **options: Any) -> None:
        with migration_lock(options["database"]):
            super().handle(*args, **options)

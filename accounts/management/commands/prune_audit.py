"""`manage.py prune_audit`: delete audit entries that are no longer needed."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.models import AuditEntry


class Command(BaseCommand):
    help = "Delete audit entries older than a number of days. Audit entries are never deleted otherwise."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, required=True, help="number of days for which entries are kept")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["days"] <= 36_500:
            raise CommandError("--days must be from 1 to 36500.")
        oldest = timezone.now() - timedelta(days=options["days"])
        deleted, _ = AuditEntry.objects.filter(at__lt=oldest).delete()
        self.stdout.write(f"{deleted} audit entries deleted.")

"""`manage.py reencrypt_secrets`: the second step of rotating ENCRYPTION_KEYS."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts import crypto
from accounts.models import ApiKey

BATCH = 500
FIELDS = ("secret_ciphertext", "old_secret_ciphertext")


class Command(BaseCommand):
    help = (
        "Encrypt the secrets of all API keys with the first key in ENCRYPTION_KEYS. Afterwards the other keys can be "
        "removed. The service can keep running, and the command can be interrupted and run again."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        ApiKey.objects.filter(old_secret_ends_at__lte=timezone.now()).update(
            old_secret_ciphertext="", old_secret_ends_at=None
        )
        total = ApiKey.objects.count()
        done = failed = 0
        last_pk = 0
        while rows := list(ApiKey.objects.order_by("pk").filter(pk__gt=last_pk)[:BATCH]):
            for key in rows:
                before = {name: getattr(key, name) for name in FIELDS}
                try:
                    after = {name: text and crypto.reencrypt(text) for name, text in before.items()}
                except crypto.DecryptionFailed:
                    failed += 1
                    self.stderr.write(f"The secret of {key} cannot be decrypted and is left unchanged.")
                    continue
                # The condition keeps secrets that were rotated in the meantime.
                ApiKey.objects.filter(pk=key.pk, **before).update(**after)
                done += 1
            last_pk = rows[-1].pk
            self.stdout.write(f"{done + failed} of {total}")
        if failed:
            raise CommandError(f"{failed} of {total} secrets cannot be decrypted with any key in ENCRYPTION_KEYS.")
        self.stdout.write(f"{done} secrets are encrypted with the first key.")

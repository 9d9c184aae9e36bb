"""`manage.py reencrypt_secrets`: the second step of rotating ENCRYPTION_KEYS."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts import crypto
from accounts.models import ApiKey

BATCH = 500


class Command(BaseCommand):
    help = (
        "Encrypt the secrets of all API keys with the first key in ENCRYPTION_KEYS. Afterwards the other keys can be "
        "removed. The service can keep running, and the command can be interrupted and run again."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        total = ApiKey.objects.count()
        done = failed = 0
        last_pk = 0
        while rows := list(ApiKey.objects.order_by("pk").filter(pk__gt=last_pk)[:BATCH]):
            for key in rows:
                try:
                    ciphertext = crypto.reencrypt(key.secret_ciphertext)
                except crypto.DecryptionFailed:
                    failed += 1
                    self.stderr.write(f"The secret of {key} cannot be decrypted and is left unchanged.")
                    continue
                # The condition keeps a secret that was rotated in the meantime.
                ApiKey.objects.filter(pk=key.pk, secret_ciphertext=key.secret_ciphertext).update(
                    secret_ciphertext=ciphertext
                )
                done += 1
            last_pk = rows[-1].pk
            self.stdout.write(f"{done + failed} of {total}")
        if failed:
            raise CommandError(f"{failed} of {total} secrets cannot be decrypted with any key in ENCRYPTION_KEYS.")
        self.stdout.write(f"{done} secrets are encrypted with the first key.")

"""`manage.py reencrypt_secrets`: the second step of rotating ENCRYPTION_KEYS."""

from typing import Any

from allauth.mfa.models import Authenticator
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from accounts import crypto
from accounts.models import ApiKey

BATCH = 500
FIELDS = ("secret_ciphertext", "old_secret_ciphertext")
# Where allauth stores what our adapter has encrypted.
FACTOR_FIELDS = {Authenticator.Type.TOTP: "secret", Authenticator.Type.RECOVERY_CODES: "seed"}


class Command(BaseCommand):
    help = (
        "Encrypt the secrets of all API keys and second factors with the first key in ENCRYPTION_KEYS. Afterwards the "
        "other keys can be removed. The service can keep running, and the command can be interrupted and run again."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        ApiKey.objects.filter(old_secret_ends_at__lte=timezone.now()).update(
            old_secret_ciphertext="", old_secret_ends_at=None
        )
        factors = Authenticator.objects.filter(type__in=FACTOR_FIELDS)
        total = ApiKey.objects.count() + factors.count()
        done = failed = 0
        for model, rows, reencrypt in ((ApiKey, ApiKey.objects.all(), _of_key), (Authenticator, factors, _of_factor)):
            last_pk = 0
            while pks := list(rows.filter(pk__gt=last_pk).order_by("pk").values_list("pk", flat=True)[:BATCH]):
                for pk in pks:
                    try:
                        reencrypt(pk)
                        done += 1
                    except crypto.DecryptionFailed:
                        failed += 1
                        row = model.objects.get(pk=pk)
                        self.stderr.write(f"The secret of {row} cannot be decrypted and is left unchanged.")
                last_pk = pks[-1]
                self.stdout.write(f"{done + failed} of {total}")
        if failed:
            raise CommandError(f"{failed} of {total} secrets cannot be decrypted with any key in ENCRYPTION_KEYS.")
        self.stdout.write(f"{done} secrets are encrypted with the first key.")


def _of_key(pk: int) -> None:
    before = ApiKey.objects.filter(pk=pk).values(*FIELDS).first() or {}
    after = {name: text and crypto.reencrypt(text) for name, text in before.items()}
    # The condition keeps secrets that were rotated in the meantime.
    ApiKey.objects.filter(pk=pk, **before).update(**after)


@transaction.atomic
def _of_factor(pk: int) -> None:
    factor = Authenticator.objects.select_for_update().filter(pk=pk).first()
    if factor is not None:
        name = FACTOR_FIELDS[factor.type]
        factor.data[name] = crypto.reencrypt(factor.data[name])
        factor.save(update_fields=["data"])

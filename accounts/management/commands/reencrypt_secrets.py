"""`manage.py reencrypt_secrets`: the second step of rotating ENCRYPTION_KEYS."""

from functools import partial
from typing import Any

from allauth.mfa.models import Authenticator
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from accounts import crypto
from accounts.models import ApiKey, Webhook
from accounts.stored_secrets import SECRET_FIELDS

BATCH = 500
# Where allauth stores what our adapter has encrypted.
FACTOR_FIELDS = {Authenticator.Type.TOTP: "secret", Authenticator.Type.RECOVERY_CODES: "seed"}


class Command(BaseCommand):
    help = (
        "Encrypt the secrets of all API keys, webhooks and second factors with the first key in ENCRYPTION_KEYS. "
        "Afterwards the other keys can be removed. The service can keep running, and the command can be interrupted "
        "and run again."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        for model in SECRET_FIELDS:
            ended = model._default_manager.filter(old_secret_ends_at__lte=timezone.now())
            ended.update(old_secret_ciphertext="", old_secret_ends_at=None)
        factors = Authenticator.objects.filter(type__in=FACTOR_FIELDS)
        kinds: list[tuple[Any, Any, Any]] = [
            (model, model._default_manager.all(), partial(_of_row, model)) for model in SECRET_FIELDS
        ]
        kinds.append((Authenticator, factors, _of_factor))
        total = sum(rows.count() for _, rows, _ in kinds)
        done = failed = 0
        for model, rows, reencrypt in kinds:
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


def _of_row(model: type[ApiKey | Webhook], pk: int) -> None:
    before = model._default_manager.filter(pk=pk).values(*SECRET_FIELDS[model]).first() or {}
    after = {name: text and crypto.reencrypt(text) for name, text in before.items()}
    # The condition keeps secrets that were rotated in the meantime.
    model._default_manager.filter(pk=pk, **before).update(**after)


@transaction.atomic
def _of_factor(pk: int) -> None:
    factor = Authenticator.objects.select_for_update().filter(pk=pk).first()
    if factor is not None:
        name = FACTOR_FIELDS[factor.type]
        factor.data[name] = crypto.reencrypt(factor.data[name])
        factor.save(update_fields=["data"])

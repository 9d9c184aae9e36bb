"""Where encrypted secrets are stored, and which of them can no longer be decrypted."""

from typing import Any

from django.db.models import QuerySet

from . import crypto
from .models import ApiKey, Webhook

SECRET_FIELDS: dict[type[ApiKey | Webhook], tuple[str, ...]] = {
    ApiKey: ("secret_ciphertext", "old_secret_ciphertext"),
    Webhook: ("secret_ciphertext", "old_secret_ciphertext", "headers_ciphertext"),
}


def undecryptable(rows: QuerySet[Any], name: str = "pk") -> list[Any]:
    """Return a column of those API keys or webhooks that have a secret which no key in the settings decrypts.

    Args:
        rows: the API keys or webhooks.
        name: the column.
    """
    lost = []
    for shown, *ciphertexts in rows.order_by("pk").values_list(name, *SECRET_FIELDS[rows.model]).iterator():
        try:
            for ciphertext in filter(None, ciphertexts):
                crypto.decrypt(ciphertext)
        except crypto.DecryptionFailed:
            lost.append(shown)
    return lost

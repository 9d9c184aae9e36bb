"""Encryption of secrets at rest, those of API keys above all: a stolen database does not reveal them.

The first key in `settings.ENCRYPTION_KEYS` encrypts, and every key decrypts. To rotate keys, put a new key first, run
`manage.py reencrypt_secrets`, and remove the old key.
"""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.views.decorators.debug import sensitive_variables

MIN_KEY_LENGTH = 32
_PURPOSE = b"secrets of API keys"


class DecryptionFailed(Exception):
    """The key that encrypted a secret is not in the settings."""

    def __init__(self) -> None:
        super().__init__(
            "A secret cannot be decrypted with the keys in ENCRYPTION_KEYS (or SECRET_KEY, if that list is empty). "
            "Add the key that encrypted the secret, or rotate the secret."
        )


@sensitive_variables()
def encrypt(secret: str) -> str:
    """Encrypt a secret with the first key."""
    return _cipher().encrypt(secret.encode()).decode()


@sensitive_variables()
def decrypt(ciphertext: str) -> str:
    """Decrypt a secret.

    Raises:
        DecryptionFailed: none of the keys can decrypt it.
    """
    try:
        return _cipher().decrypt(ciphertext.encode()).decode()
    except InvalidToken:
        raise DecryptionFailed from None


@sensitive_variables()
def reencrypt(ciphertext: str) -> str:
    """Decrypt a secret with any of the keys, and encrypt it with the first.

    Raises:
        DecryptionFailed: none of the keys can decrypt it.
    """
    try:
        return _cipher().rotate(ciphertext.encode()).decode()
    except InvalidToken:
        raise DecryptionFailed from None


def _cipher() -> MultiFernet:
    keys = settings.ENCRYPTION_KEYS or [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return _cipher_for(tuple(keys))


@lru_cache(maxsize=4)
def _cipher_for(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(_derive(key)) for key in keys])


def _derive(key: str) -> bytes:
    # RFC 5869. The keys are random, so neither a salt nor a slow hash is needed.
    kdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE)
    return base64.urlsafe_b64encode(kdf.derive(key.encode()))

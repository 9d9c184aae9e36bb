"""A password hasher that counts what takes time."""

from django.contrib.auth.hashers import MD5PasswordHasher


class CountingHasher(MD5PasswordHasher):
    """Counts the passwords that were hashed, since that takes nearly all the time of a log-in or sign-up."""

    algorithm = "counted"
    hashed = 0

    def encode(self, password: str, salt: str) -> str:
        type(self).hashed += 1
        return super().encode(password, salt)

"""The tokens of the REST API."""

from django.db import models
from knox.models import AbstractAuthToken


class ApiToken(AbstractAuthToken):  # type: ignore[misc]
    """A token of the REST API, which can do what its user can do. Only its hash is stored."""

    name = models.CharField(
        max_length=100, blank=True, help_text="A name that tells its user what uses this token; empty after a log-in."
    )
    last_used_at = models.DateTimeField("last used", null=True, blank=True, editable=False)

    class Meta:
        verbose_name = "API token"

    def __str__(self) -> str:
        # The library's own text contains the hash, and the admin shows and stores this text.
        return f"API token of {self.user}"

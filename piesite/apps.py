"""The Django app of the project itself, which checks the settings that belong to no other app."""

from django.apps import AppConfig


class PiesiteConfig(AppConfig):
    name = "piesite"

    def ready(self) -> None:
        from . import checks  # noqa: F401  (the import registers the checks)

"""The data plane: what a connection does."""

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "realtime"

    def ready(self) -> None:
        from accounts.signals import access_changed
        from accounts.usage import count_connections_with

        from . import checks, control  # noqa: F401  (each registers itself)

        count_connections_with(control.count_connections)
        access_changed.connect(control.on_access_changed, dispatch_uid="realtime")

"""The Django app of the data plane."""

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "realtime"

    def ready(self) -> None:
        from accounts.signals import access_changed, webhooks_due
        from accounts.usage import use_data_plane

        from . import checks  # noqa: F401  (the import registers the checks)
        from .metrics import exposition
        from .node import control_plane, running

        use_data_plane(control_plane)
        access_changed.connect(control_plane.on_access_changed, dispatch_uid="realtime")
        webhooks_due.connect(control_plane.on_webhooks_due, dispatch_uid="realtime")
        running.on_start.append(exposition.share_numbers)

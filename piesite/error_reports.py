"""The filter for settings, requests and variables in error pages and e-mails."""

import re
from typing import Any

from django.views.debug import SafeExceptionReporterFilter


class ErrorReportFilter(SafeExceptionReporterFilter):
    """Removes secrets from every report, also from the error pages that DEBUG shows to clients."""

    # In addition to Django's: the header with a client's JWT, and settings that may contain a password for Redis.
    hidden_settings = re.compile(
        f"{SafeExceptionReporterFilter.hidden_settings.pattern}|JWT|REDIS_URL|CHANNEL_LAYERS|LOCATION", re.IGNORECASE
    )

    def is_active(self, request: Any) -> bool:
        return True

    def get_traceback_frame_variables(self, request: Any, tb_frame: Any) -> Any:
        # Libraries do not mark all their variables as sensitive, such as those that contain a whole form.
        variables = super().get_traceback_frame_variables(request, tb_frame)
        return [(name, self.cleanse_setting(name, value)) for name, value in variables]

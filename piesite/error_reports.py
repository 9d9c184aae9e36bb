"""What error pages and mails show of settings, requests and variables."""

import re
from typing import Any

from django.views.debug import SafeExceptionReporterFilter


class ErrorReportFilter(SafeExceptionReporterFilter):
    """Keeps secrets out of every report, also where DEBUG shows it to whoever asked."""

    # Besides Django's: the header of sockets, and what may hold the password of a Redis.
    hidden_settings = re.compile(
        f"{SafeExceptionReporterFilter.hidden_settings.pattern}|JWT|REDIS_URL|CHANNEL_LAYERS|LOCATION", re.IGNORECASE
    )

    def is_active(self, request: Any) -> bool:
        return True

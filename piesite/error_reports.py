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

"""The application with little time for a request to arrive."""

from realtime import intake

HASTY_SECONDS = 2
intake.HEAD_SECONDS = intake.REQUEST_SECONDS = HASTY_SECONDS

from piesite.asgi import application as application  # noqa: E402, PLC0414  (to be found here)

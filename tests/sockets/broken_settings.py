"""The project's settings, with an ASGI application that does not exist."""

from piesite.settings import *  # noqa: F403

ASGI_APPLICATION = "piesite.nothing.application"

"""The application with the front door shut: Twisted, Daphne and Autobahn read every request."""

import os

from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "piesite.settings")
settings.REALTIME["FRONT_DOOR"] = False

from piesite.asgi import application as application  # noqa: E402, PLC0414  (Daphne imports it from here)

"""A web site with the receiver of accounts/WEBHOOKS.md for Django, the module `receiver`. Its argument is the port."""

import os
import sys
from wsgiref.simple_server import make_server

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of-the-site",
    WEBHOOK_SECRET=os.environ["WEBHOOK_SECRET"],
)

from receiver import receive  # type: ignore[import-not-found]  # noqa: E402

urlpatterns = [path("webhooks", receive)]

make_server("127.0.0.1", int(sys.argv[1]), get_wsgi_application()).serve_forever()

"""HTTP routes of realtime."""

from django.urls import path, re_path

from realtime.http import pages

urlpatterns = [
    path("", pages.index, name="index"),
    re_path(r"^(v[34])/?$", pages.no_channel),
    re_path(r"^v[34]/.+", pages.upgrade_required),
]

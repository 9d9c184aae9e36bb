"""HTTP routes of the console."""

from django.urls import path

from . import overview, quota_banners, usage  # noqa: F401  (the banners register themselves)

app_name = "console"

urlpatterns = [
    path("", overview.home, name="home"),
    path("<int:account>/", overview.overview, name="overview"),
    path("<int:account>/usage/", usage.usage, name="usage"),
    path("<int:account>/usage.csv", usage.usage_csv, name="usage_csv"),
]

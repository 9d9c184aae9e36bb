"""HTTP routes of the console."""

from django.urls import path

from . import overview, usage

app_name = "console"

urlpatterns = [
    path("", overview.home, name="home"),
    path("<int:account>/", overview.overview, name="overview"),
    path("<int:account>/usage/", usage.usage, name="usage"),
    path("<int:account>/usage.csv", usage.usage_csv, name="usage_csv"),
]

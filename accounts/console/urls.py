"""HTTP routes of the console."""

from django.urls import path

from . import overview

app_name = "console"

urlpatterns = [
    path("", overview.home, name="home"),
    path("<int:account>/", overview.overview, name="overview"),
]

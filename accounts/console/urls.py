"""HTTP routes of the console."""

from django.urls import path

from . import live, overview, refusals

app_name = "console"

urlpatterns = [
    path("", overview.home, name="home"),
    path("<int:account>/", overview.overview, name="overview"),
    path("<int:account>/live/", live.latest, name="live"),
    path("<int:account>/live/<slug:cluster_id>/", live.live, name="live"),
    path("<int:account>/live/<slug:cluster_id>/send/", live.send, name="live_send"),
    path("<int:account>/live/<slug:cluster_id>/channels/", live.channels, name="live_channels"),
    path("<int:account>/live/<slug:cluster_id>/disconnect/", live.disconnect, name="live_disconnect"),
    path("<int:account>/refusals/", refusals.refusals, name="refusals"),
]

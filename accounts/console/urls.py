"""HTTP routes of the console."""

from django.urls import path

from . import clusters, keys, live, overview, quota_banners, refusals, start, usage  # noqa: F401  (banners register themselves)

app_name = "console"

urlpatterns = [
    path("", overview.home, name="home"),
    path("<int:account>/", overview.overview, name="overview"),
    path("<int:account>/start/", start.start, name="start"),
    path("<int:account>/start/connection/", start.connection, name="start_connection"),
    path("<int:account>/start/send/", start.send, name="start_send"),
    path("<int:account>/start/hide/", start.hide, name="start_hide"),
    path("<int:account>/clusters/", clusters.index, name="clusters"),
    # Not below clusters/, where a cluster may have the ID "new".
    path("<int:account>/new-cluster/", clusters.new, name="new_cluster"),
    path("<int:account>/clusters/<slug:cluster_id>/", clusters.detail, name="cluster"),
    path("<int:account>/clusters/<slug:cluster_id>/keys/new/", keys.new, name="cluster_new_key"),
    path("<int:account>/clusters/<slug:cluster_id>/off/", clusters.off, name="cluster_off"),
    path("<int:account>/clusters/<slug:cluster_id>/on/", clusters.on, name="cluster_on"),
    path("<int:account>/clusters/<slug:cluster_id>/delete/", clusters.delete, name="cluster_delete"),
    path("<int:account>/keys/new/", keys.new, name="new_key"),
    path("<int:account>/keys/<int:pk>/", keys.detail, name="key"),
    path("<int:account>/keys/<int:pk>/secret/", keys.secret, name="secret"),
    path("<int:account>/keys/<int:pk>/rotate/", keys.rotate, name="key_rotate"),
    path("<int:account>/keys/<int:pk>/end-old-secret/", keys.end_old_secret, name="key_end_old_secret"),
    path("<int:account>/keys/<int:pk>/revoke/", keys.revoke, name="key_revoke"),
    path("<int:account>/live/", live.latest, name="live"),
    path("<int:account>/live/<slug:cluster_id>/", live.live, name="live"),
    path("<int:account>/live/<slug:cluster_id>/send/", live.send, name="live_send"),
    path("<int:account>/live/<slug:cluster_id>/channels/", live.channels, name="live_channels"),
    path("<int:account>/live/<slug:cluster_id>/disconnect/", live.disconnect, name="live_disconnect"),
    path("<int:account>/refusals/", refusals.refusals, name="refusals"),
    path("<int:account>/usage/", usage.usage, name="usage"),
    path("<int:account>/usage.csv", usage.usage_csv, name="usage_csv"),
]

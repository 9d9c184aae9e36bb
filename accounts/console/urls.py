"""HTTP routes of the console."""

from django.urls import path

from . import account_settings, accounts, activity, clusters, keys, overview, people, security, start, tokens

app_name = "console"

urlpatterns = [
    path("", accounts.home, name="home"),
    path("accounts/", accounts.accounts, name="accounts"),
    path("accounts/new/", accounts.new, name="new_account"),
    path("you/tokens/", tokens.tokens, name="tokens"),
    path("you/tokens/new/", tokens.new, name="create_token"),
    path("you/tokens/<slug:token_key>/", tokens.show, name="new_token"),
    path("you/tokens/<slug:token_key>/revoke/", tokens.revoke, name="revoke_token"),
    path("you/security/", security.security, name="security"),
    path("you/sessions/<int:pk>/end/", security.end_session, name="end_session"),
    path("you/sessions/end-others/", security.end_other_sessions, name="end_other_sessions"),
    path("<int:account>/", overview.overview, name="overview"),
    path("<int:account>/start/", start.start, name="start"),
    path("<int:account>/start/connection/", start.connection, name="start_connection"),
    path("<int:account>/start/send/", start.send, name="start_send"),
    path("<int:account>/start/hide/", start.hide, name="start_hide"),
    path("<int:account>/clusters/", clusters.index, name="clusters"),
    path("<int:account>/clusters/new/", clusters.new, name="new_cluster"),
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
    path("<int:account>/people/", people.people, name="people"),
    path("<int:account>/people/invite/", people.invite, name="invite"),
    path("<int:account>/people/invitations/<int:pk>/", people.invitation_link, name="invitation_link"),
    path("<int:account>/people/invitations/<int:pk>/revoke/", people.revoke_invitation, name="revoke_invitation"),
    path("<int:account>/people/leave/", people.leave, name="leave"),
    path("<int:account>/people/<int:pk>/", people.member, name="member"),
    path("<int:account>/people/<int:pk>/remove/", people.remove, name="remove_member"),
    path("<int:account>/activity/", activity.activity, name="activity"),
    path("<int:account>/settings/", account_settings.settings, name="settings"),
    path("<int:account>/settings/export/", account_settings.export_account, name="export"),
    path("<int:account>/settings/delete/", account_settings.delete, name="delete_account"),
]

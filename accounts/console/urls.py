"""HTTP routes of the console."""

from django.urls import path

from . import account_settings, accounts, activity, overview, people, tokens

app_name = "console"

urlpatterns = [
    path("", accounts.home, name="home"),
    path("accounts/", accounts.accounts, name="accounts"),
    path("accounts/new/", accounts.new, name="new_account"),
    path("you/tokens/", tokens.tokens, name="tokens"),
    path("you/tokens/new/", tokens.new, name="create_token"),
    path("you/tokens/<slug:token_key>/", tokens.show, name="new_token"),
    path("you/tokens/<slug:token_key>/revoke/", tokens.revoke, name="revoke_token"),
    path("<int:account>/", overview.overview, name="overview"),
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

"""HTTP routes of the console."""

from django.urls import path

from . import demo, invitations, overview, security

app_name = "console"

urlpatterns = [
    path("", overview.home, name="home"),
    path("demo/<str:token>/", demo.log_in, name="demo"),
    path("invitations/<str:token>/", invitations.invitation, name="invitation"),
    path("you/security/", security.security, name="security"),
    path("you/sessions/<int:pk>/end/", security.end_session, name="end_session"),
    path("you/sessions/end-others/", security.end_other_sessions, name="end_other_sessions"),
    path("<int:account>/", overview.overview, name="overview"),
]

"""HTTP routes of the project."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    # Before the admin's own page, which would have no limit.
    path("admin/password_change/", RedirectView.as_view(pattern_name="account_change_password")),
    path("admin/", admin.site.urls),
    path("console/you/", include("accounts.console.own_urls")),
    path("console/", include("accounts.console.urls")),
    path("api/v1/", include("accounts.api.urls")),
    path("", include("realtime.urls")),
]

handler400 = "accounts.console.errors.bad_request"
handler403 = "accounts.console.errors.permission_denied"
handler404 = "accounts.console.errors.not_found"
handler500 = "accounts.console.errors.server_error"

"""HTTP routes of the project."""

from django.contrib import admin
from django.urls import include, path

from accounts.own_password import password_change

urlpatterns = [
    # Before the admin's own page, which would have no limit.
    path("admin/password_change/", admin.site.admin_view(password_change)),
    path("admin/", admin.site.urls),
    path("console/", include("accounts.console.urls")),
    path("api/v1/", include("accounts.api.urls")),
    path("", include("realtime.urls")),
]

"""HTTP routes of the project."""

from django.contrib import admin
from django.urls import include, path

admin.site.site_header = "WebSocket service"
admin.site.site_title = "WebSocket service"
admin.site.index_title = "Tenants"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/", include("accounts.api.urls")),
    path("", include("realtime.urls")),
]

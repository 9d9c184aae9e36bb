"""The admin site: its names, and its first page, which begins with the state of the service."""

from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest
from django.template.response import TemplateResponse

# What operators work with every day comes first.
MODEL_ORDER = ["Account", "Cluster", "ApiKey", "User", "Invitation", "AuditEntry"]


class ServiceAdminConfig(AdminConfig):
    """Makes `ServiceAdminSite` the admin site of the project."""

    default_site = "accounts.admin_site.ServiceAdminSite"

    def ready(self) -> None:
        apps.get_app_config("auth").verbose_name = "Permissions"  # only its groups are in the admin
        super().ready()


class ServiceAdminSite(AdminSite):
    """The admin, in which operators manage the tenants."""

    site_header = "WebSocket service"
    site_title = "WebSocket service"
    index_title = "Overview"
    index_template = "accounts/index.html"
    # Lists need the width: with it, they do not fit a screen of 1280 pixels.
    enable_nav_sidebar = False

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from .usage import overview  # the models are not loaded when this module is

        return super().index(request, {**(extra_context or {}), "overview": overview()})

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        found = sorted(super().get_app_list(request, app_label), key=lambda app: app["app_label"] != "accounts")
        for app in found:
            app["models"].sort(key=lambda model: _rank(model["object_name"]))
        return found


def _rank(model: str) -> int:
    return MODEL_ORDER.index(model) if model in MODEL_ORDER else len(MODEL_ORDER)

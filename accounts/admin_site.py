"""The admin site: its names, and its first page, which begins with the state of the service."""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode

# What operators work with every day comes first.
MODEL_ORDER = ["Account", "Cluster", "ApiKey", "Webhook", "WebhookDelivery", "User", "Invitation", "AuditEntry"]


class ServiceAdminConfig(AdminConfig):
    """Makes `ServiceAdminSite` the admin site of the project."""

    default_site = "accounts.admin_site.ServiceAdminSite"

    def ready(self) -> None:
        apps.get_app_config("auth").verbose_name = "Permissions"  # only its groups are in the admin
        super().ready()


class ServiceAdminSite(AdminSite):
    """The admin, in which operators manage the tenants."""

    index_title = "Overview"
    index_template = "accounts/index.html"
    # Lists need the width: with it, they do not fit a screen of 1280 pixels.
    enable_nav_sidebar = False

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), "site_header": settings.SITE_NAME, "site_title": settings.SITE_NAME}

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        # The models are not loaded when this module is.
        from .admin.usage import last_refusals
        from .models import Account
        from .usage import overview
        from .users import may_operate

        refusals = last_refusals() if may_operate(request.user, "view", Account) else None
        return super().index(request, {**(extra_context or {}), "overview": overview(), "refusals": refusals})

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Lead to the log-in of the console, which checks second factors too."""
        target = request.GET.get("next", "")
        if not url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure()):
            target = reverse("admin:index")
        if self.has_permission(request):
            return redirect(target)
        if request.user.is_authenticated:
            return render(request, "console/no_staff.html", status=403)
        return redirect(f"{reverse('account_login')}?{urlencode({'next': target})}")

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        found = sorted(super().get_app_list(request, app_label), key=lambda app: app["app_label"] != "accounts")
        for app in found:
            app["models"].sort(key=lambda model: _rank(model["object_name"]))
        return found


def _rank(model: str) -> int:
    return MODEL_ORDER.index(model) if model in MODEL_ORDER else len(MODEL_ORDER)

"""Routes of the management API."""

from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from .schema_view import SchemaView
from .views.accounts import AccountViewSet
from .views.audit import AuditViewSet, WholeAuditViewSet
from .views.base import PRIMARY_KEY, NotFoundView
from .views.clusters import ClusterViewSet
from .views.keys import KeyViewSet
from .views.logins import PasswordView, StoredTokenViewSet, TokenView, UserSessionViewSet
from .views.people import InvitationViewSet, MemberViewSet, OwnInvitationViewSet
from .views.refusals import RefusalViewSet
from .views.webhooks import DeliveryViewSet, WebhookViewSet

router = SimpleRouter()
router.register("accounts", AccountViewSet)
router.register("clusters", ClusterViewSet)
router.register("keys", KeyViewSet)
router.register("webhooks", WebhookViewSet)
router.register("invitations", OwnInvitationViewSet, basename="own-invitation")
router.register("audit", WholeAuditViewSet, basename="whole-audit")
router.register("tokens", StoredTokenViewSet)
router.register("sessions", UserSessionViewSet)
account_router = SimpleRouter()
account_router.register("members", MemberViewSet)
account_router.register("invitations", InvitationViewSet)
account_router.register("audit", AuditViewSet)
account_router.register("refusals", RefusalViewSet)
webhook_router = SimpleRouter()
webhook_router.register("deliveries", DeliveryViewSet)

urlpatterns = [
    path("token/", TokenView.as_view(), name="token"),
    path("password/", PasswordView.as_view(), name="password"),
    path("schema/", SchemaView.as_view(), name="schema"),
    path(
        "docs/",
        # Without a template for it, OPTIONS would fail.
        SpectacularSwaggerSplitView.as_view(template_name="accounts/docs.html", http_method_names=["get", "head"]),
        name="docs",
    ),
    path("", include(router.urls)),
    re_path(f"accounts/(?P<account_pk>{PRIMARY_KEY})/", include(account_router.urls)),
    re_path(f"webhooks/(?P<webhook_pk>{PRIMARY_KEY})/", include(webhook_router.urls)),
    re_path("", NotFoundView.as_view()),
]

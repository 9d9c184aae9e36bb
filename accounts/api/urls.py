"""Routes of the management API."""

from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from .login_views import PasswordView, StoredTokenViewSet, UserSessionViewSet
from .views import (
    PRIMARY_KEY,
    AccountViewSet,
    AuditViewSet,
    ClusterViewSet,
    KeyViewSet,
    MemberViewSet,
    NotFoundView,
    TokenView,
    WholeAuditViewSet,
)

router = SimpleRouter()
router.register("accounts", AccountViewSet)
router.register("clusters", ClusterViewSet)
router.register("keys", KeyViewSet)
router.register("audit", WholeAuditViewSet, basename="whole-audit")
router.register("tokens", StoredTokenViewSet)
router.register("sessions", UserSessionViewSet)
account_router = SimpleRouter()
account_router.register("members", MemberViewSet)
account_router.register("audit", AuditViewSet)

urlpatterns = [
    path("token/", TokenView.as_view(), name="token"),
    path("password/", PasswordView.as_view(), name="password"),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", SpectacularSwaggerSplitView.as_view(template_name="accounts/docs.html"), name="docs"),
    path("", include(router.urls)),
    re_path(f"accounts/(?P<account_pk>{PRIMARY_KEY})/", include(account_router.urls)),
    # Matches only paths that end with a slash, so that APPEND_SLASH still redirects the others.
    re_path(r"([\s\S]*/)?$", NotFoundView.as_view()),
]

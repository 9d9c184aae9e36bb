"""Routes of the management API."""

from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from .views import (
    PRIMARY_KEY,
    AccountViewSet,
    AuditViewSet,
    ClusterViewSet,
    KeyViewSet,
    MemberViewSet,
    NoRoute,
    TokenView,
)

router = SimpleRouter()
router.register("accounts", AccountViewSet)
router.register("clusters", ClusterViewSet)
router.register("keys", KeyViewSet)
of_an_account = SimpleRouter()
of_an_account.register("members", MemberViewSet)
of_an_account.register("audit", AuditViewSet)

urlpatterns = [
    path("token/", TokenView.as_view(), name="token"),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", SpectacularSwaggerSplitView.as_view(template_name="accounts/docs.html"), name="docs"),
    path("", include(router.urls)),
    re_path(f"accounts/(?P<account_pk>{PRIMARY_KEY})/", include(of_an_account.urls)),
    # With a slash, so that one that is missing is still added.
    re_path(r"([\s\S]*/)?$", NoRoute.as_view()),
]

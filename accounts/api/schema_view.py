"""The OpenAPI schema of the management API, which each process builds once."""

from threading import Lock
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.utils.encoding import force_bytes
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.permissions import AllowAny
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView


class SchemaView(APIView):
    """The OpenAPI schema, as YAML or JSON. It is the same for everyone."""

    renderer_classes = SpectacularAPIView.renderer_classes
    permission_classes = [AllowAny]
    authentication_classes: list[Any] = []

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """Return the schema in the format that the client accepts."""
        renderer: Any = request.accepted_renderer
        filename = f"{settings.SPECTACULAR_SETTINGS['TITLE']}.{renderer.format}"
        return HttpResponse(
            _documents.get(renderer),
            content_type=renderer.media_type,
            headers={"Content-Disposition": f'inline; filename="{filename}"'},
        )


class _Documents:
    """The schema in each format. Building it takes hundreds of milliseconds, and two threads cannot do so at once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._built: dict[type[BaseRenderer], bytes] = {}

    def get(self, renderer: BaseRenderer) -> bytes:
        """Return the schema in the format of a renderer."""
        with self._lock:
            built = self._built.get(type(renderer))
            if built is None:
                schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
                built = self._built[type(renderer)] = force_bytes(renderer.render(schema, renderer_context={}))
            return built


_documents = _Documents()

"""The comparison for `POST /api/publish`: a typical view of Django REST framework that does the same."""

# ruff: noqa: E402  (Django must be set up before some imports)

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "piesite.settings")

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter
from django.conf import settings
from django.core.asgi import get_asgi_application

settings.ROOT_URLCONF = __name__
http_application = get_asgi_application()

from django.urls import path
from django.utils.crypto import constant_time_compare
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import crypto
from accounts.models import ApiKey
from realtime.protocols.channels import group_name, message_event
from realtime.routing import websocket_application


class PublishSerializer(serializers.Serializer[Any]):
    key = serializers.CharField()
    secret = serializers.CharField()
    channelId = serializers.RegexField(r"^[A-Za-z0-9_-]{1,128}$")
    message = serializers.JSONField()


class PublishView(APIView):
    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    throttle_classes: list[Any] = []

    def post(self, request: Request) -> Response:
        serializer = PublishSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        values = serializer.validated_data
        key = ApiKey.objects.select_related("cluster__account").filter(public_key=values["key"]).first()
        if key is None or not constant_time_compare(crypto.decrypt(key.secret_ciphertext), values["secret"]):
            raise AuthenticationFailed
        group = group_name(key.cluster.cluster_id, values["channelId"])
        async_to_sync(get_channel_layer().group_send)(group, message_event(group, str(values["message"])))
        return Response({"success": True})


urlpatterns = [path("api/publish", PublishView.as_view())]
application = ProtocolTypeRouter({"http": http_application, "websocket": websocket_application})

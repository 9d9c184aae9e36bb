"""The auth endpoints in realtime/README.md: their JWT opens a private channel to those who may enter it."""

import asyncio
import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import django.test
import flask
import httpx
import pytest
from django.urls import path
from pytest_django import Settings

from accounts.users import User
from tests.clients import channel_path, open_client
from tests.documentation import code_blocks
from tests.servers import LiveServer

pytestmark = pytest.mark.django_db
URL = "/broadcasting/auth"
USER = "7"
Ask = Callable[[str, str | None], tuple[int, dict[str, Any]]]


def shown_for(package: str) -> ModuleType:
    """Return the endpoint that imports from a package, as a module."""
    (code,) = (block for block in code_blocks("realtime/README.md", "python") if f"from {package}" in block)
    module = ModuleType(package)
    exec(code, module.__dict__)
    return module


urlpatterns = [path(URL[1:], shown_for("django").channel_token)]


@pytest.fixture
def django_endpoint(settings: Settings, secret: str) -> Ask:
    settings.ROOT_URLCONF = __name__
    settings.CHANNELS_SECRET = secret

    def ask(channel: str, user: str | None) -> tuple[int, dict[str, Any]]:
        client = django.test.Client(enforce_csrf_checks=True)
        if user:
            client.force_login(User.objects.create_user("ada@example.com", id=user))
        answer = client.post(URL, {"channel_name": channel})
        return answer.status_code, answer.json()

    return ask


@pytest.fixture
def flask_endpoint(monkeypatch: pytest.MonkeyPatch, secret: str) -> Ask:
    monkeypatch.setenv("CHANNELS_SECRET", secret)
    app = flask.Flask(__name__)
    app.secret_key = "of-the-sessions"
    app.register_blueprint(shown_for("flask").auth)

    def ask(channel: str, user: str | None) -> tuple[int, dict[str, Any]]:
        client = app.test_client()
        if user:
            with client.session_transaction() as session:
                session["user_id"] = user
        answer = client.post(URL, data={"channel_name": channel}, content_type="multipart/form-data")
        return answer.status_code, answer.get_json()

    return ask


@pytest.fixture
def express_endpoint(site: str) -> Ask:
    def ask(channel: str, user: str | None) -> tuple[int, dict[str, Any]]:
        cookies = {"cookie": f"user={user}"} if user else {}
        answer = httpx.post(site + URL, files={"channel_name": (None, channel)}, headers=cookies)
        return answer.status_code, answer.json()

    return ask


@pytest.fixture(params=["django", "flask", "express"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Post the SDK's form for a channel as a user or as nobody; return the status and the JSON of the answer."""
    endpoint: Ask = request.getfixturevalue(f"{request.param}_endpoint")
    return endpoint


def first_frame(server: LiveServer, path: str) -> dict[str, Any]:
    """Return the first frame that a connection receives."""

    async def read() -> str | bytes:
        async with open_client(server, path) as client:
            return await client.receive()

    return dict(json.loads(asyncio.run(read())))


def test_the_jwt_opens_the_channel_and_identifies_the_user(
    request: pytest.FixtureRequest, ask: Ask, server: LiveServer, keys: dict[str, str]
) -> None:
    channel = f"private-user-{USER}"
    status, answer = ask(channel, USER)
    assert (status, [*answer]) == (200, ["auth"])
    member_list = first_frame(server, channel_path(channel, keys["demo"], "presence", uuid="u", jwt=answer["auth"]))
    name = {"django": "ada@example.com", "flask": USER, "express": "Ada"}[request.node.callspec.params["ask"]]
    assert member_list == {"event": "system:member_list", "data": {"members": [{"uuid": "u", "user": name}]}}


def test_the_jwt_opens_no_other_channel(ask: Ask, server: LiveServer, keys: dict[str, str]) -> None:
    token = ask(f"private-user-{USER}", USER)[1]["auth"]
    frame = first_frame(server, channel_path("private-user-8", keys["demo"], jwt=token))
    assert frame == {"error": "Authentication failed, provide valid jwt token."}


@pytest.mark.parametrize(("channel", "user"), [("private-user-8", USER), ("", USER), (f"private-user-{USER}", None)])
def test_users_without_permission_get_403_and_no_jwt(ask: Ask, channel: str, user: str | None) -> None:
    assert ask(channel, user) == (403, {"error": "This channel is not for you."})

"""`manage.py token`."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts import services
from accounts.models import ApiKey
from realtime.management.running import announced
from tests.control.conftest import secret_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_running_server(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path


def run_token(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    call_command("token", *arguments, "--json")
    return dict(json.loads(capsys.readouterr().out))


def test_it_prints_a_jwt_and_a_url_that_connects_with_it(key: ApiKey, capsys: pytest.CaptureFixture[str]) -> None:
    output = run_token(capsys, "space/private-1", "--key", key.public_key, "--user", "Ann", "--ttl", "60")
    claims = jwt.decode(output["jwt"], str(secret_of(key)), algorithms=["HS256"])
    assert claims == {"sub": "space/private-1", "iat": claims["iat"], "exp": claims["iat"] + 60, "user": "Ann"}
    url = urlsplit(output["url"])
    assert (url.scheme, url.netloc, url.path) == ("ws", "localhost:8000", "/v3/space/private-1")
    assert parse_qs(url.query) == {"api_key": [key.public_key], "jwt": [output["jwt"]]}


def test_behind_tls_the_url_has_the_host_of_the_cluster(
    key: ApiKey, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.CLUSTER_DOMAINS, settings.HTTPS = ["ws.example.com"], True
    output = run_token(capsys, "1", "--key", key.public_key)
    assert output["url"].startswith("wss://acme.ws.example.com/v3/1?api_key=")
    output = run_token(capsys, "1", "--key", key.public_key, "--port", "8443")
    assert output["url"].startswith("wss://acme.ws.example.com:8443/v3/1?api_key=")


def test_the_url_has_the_port_of_the_running_server_unless_another_is_given(
    key: ApiKey, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ("1", "--key", key.public_key)
    with announced(tmp_path, 9001):
        assert urlsplit(run_token(capsys, *arguments)["url"]).port == 9001
        assert urlsplit(run_token(capsys, *arguments, "--port", "9002")["url"]).port == 9002


def test_the_default_is_the_demo_key(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("demo", "--json")
    secret = json.loads(capsys.readouterr().out)["secret"]
    call_command("token", "1")
    first, second = capsys.readouterr().out.splitlines()
    token = first.removeprefix("jwt: ")
    assert jwt.decode(token, secret, algorithms=["HS256"])["sub"] == "1"
    assert second.endswith(token)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a b"], "A channel ID consists of"),
        (["a/b/c"], "A channel ID consists of"),
        (["1", "--ttl", "0"], "--ttl"),
        (["1", "--key", "unknown"], "does not exist"),
        (["1"], "does not exist"),
    ],
)
def test_invalid_arguments_are_reported(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("token", *arguments)


def test_a_revoked_key_signs_nothing(key: ApiKey) -> None:
    services.revoke_key(key)
    with pytest.raises(CommandError, match="revoked"):
        call_command("token", "1", "--key", key.public_key)


def test_a_secret_that_cannot_be_decrypted_is_reported(key: ApiKey, settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = ["x" * 40]
    with pytest.raises(CommandError, match="ENCRYPTION_KEYS"):
        call_command("token", "1", "--key", key.public_key)

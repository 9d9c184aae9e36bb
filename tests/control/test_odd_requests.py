"""Requests that no browser sends, with wrong hosts, charsets, paths and query strings. None makes the server fail."""

import logging
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.models import Account, ApiKey
from accounts.users import User
from piesite.log_filters import LogLimit
from tests.control.conftest import As

pytestmark = pytest.mark.django_db

HUGE = "99999999999999999999999"
PATHS = [
    "/",
    "/admin/",
    "/admin/login/",
    "/console/you/login/",
    "/api/v1/docs/",
    "/api/v1/schema/",
    "/api/v1/accounts/",
    "/v3/1",
    "/none",
]
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("port", ["65536", HUGE, "0" * 5000 + "80"])
@pytest.mark.parametrize("path", PATHS)
def test_a_port_that_does_not_exist_gets_400(client: Client, path: str, port: str) -> None:
    assert client.get(path, headers={"Host": f"localhost:{port}"}).status_code == 400
    assert client.get(path, headers={"Host": "localhost:65535"}).status_code < 500


@pytest.mark.parametrize(
    "charset", ["utf-16", "latin-1", "zip", "hex", "idna", "undefined", "punycode", "none", "x" * 99]
)
@pytest.mark.parametrize("content_type", [FORM, "multipart/form-data; boundary=x", "application/json"])
@pytest.mark.parametrize("path", ["/", "/console/you/login/", "/admin/accounts/account/add/", "/api/v1/token/"])
def test_a_body_that_is_not_utf_8_gets_400(admin_client: Client, path: str, content_type: str, charset: str) -> None:
    for body in ("username=a", '--x\r\nContent-Disposition: form-data; name="username"\r\n\r\na\r\n--x--\r\n'):
        answer = admin_client.generic("POST", path, body, f"{content_type}; charset={charset}")
        assert (answer.status_code, answer.json()) == (400, {"detail": "The body must be encoded in UTF-8."})


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"'])
def test_utf_8_may_be_named(client: Client, admin_user: User, charset: str) -> None:
    form = "login=admin@example.com&password=password"
    answer = client.post("/console/you/login/?next=/admin/", form, content_type=f"{FORM}; charset={charset}")
    assert answer.status_code == 302


@pytest.mark.parametrize("path", ["accounts", "token", "schema", "docs", "none", ""])
@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
def test_the_rest_api_gives_the_same_answer_without_the_last_slash(
    as_: As, owner: User, account: Account, settings: Settings, method: str, path: str
) -> None:
    settings.DEBUG = True  # in which Django refuses to redirect
    ask = getattr(as_(owner), method)
    with_slash, without = ask(f"/api/v1/{path}/".replace("//", "/"), {}), ask(f"/api/v1/{path}".rstrip("/"), {})
    assert (without.status_code, without.content) == (with_slash.status_code, with_slash.content)
    assert without.status_code < 500


def test_a_post_without_the_last_slash_creates_an_account(as_: As, owner: User) -> None:
    answer = as_(owner).post("/api/v1/accounts?x=1", {"name": "Mine"})
    assert (answer.status_code, answer.json()["name"]) == (201, "Mine")


def test_only_requests_without_a_body_are_redirected_to_the_path_with_a_slash(
    admin_client: Client, settings: Settings
) -> None:
    settings.DEBUG = True
    assert admin_client.get("/admin").headers["Location"] == "/admin/"
    assert admin_client.post("/admin").status_code == 404


@pytest.mark.parametrize("model", ["account", "cluster", "apikey", "auditentry", "user"])
@pytest.mark.parametrize("value", [HUGE, f"1,{HUGE}", "x", "", "\0", "[", "10000-01-01"])
def test_the_lists_of_the_admin_find_nothing_with_invalid_filters(
    admin_client: Client, key: ApiKey, model: str, value: str
) -> None:
    for lookup in (
        "id",
        "id__in",
        "id__range",
        "id__exact",
        "id__regex",
        "name",
        "email",
        "account",
        "cluster__in",
        "q",
    ):
        answer = admin_client.get(f"/admin/accounts/{model}/", {lookup: value})
        assert answer.status_code in (200, 302, 400)
    answer = admin_client.get("/admin/accounts/apitoken/", {"digest": value, "user": value})
    assert answer.status_code in (200, 302, 400)
    answer = admin_client.get("/admin/auth/group/", {"id__in": value, "name": value})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "page", ["accounts/account", "accounts/apikey", "accounts/user", "auth/group", "accounts/apitoken"]
)
@pytest.mark.parametrize("value", [HUGE, "x", "", "\0"])
def test_invalid_ids_of_objects_are_not_found_and_cannot_be_selected(
    admin_client: Client, key: ApiKey, page: str, value: str
) -> None:
    for view in ("change", "delete", "history"):
        assert admin_client.get(f"/admin/{page}/{quote(value)}/{view}/").status_code in (302, 404)
    for action in ("suspend", "revoke", "delete_selected"):
        answer = admin_client.post(f"/admin/{page}/", {"action": action, "_selected_action": [value]})
        assert answer.status_code in (200, 302, 400)


@pytest.mark.parametrize("model", ["account", "cluster", "apikey"])
def test_the_pages_that_add_objects_show_no_usage_yet(admin_client: Client, model: str) -> None:
    assert admin_client.get(f"/admin/accounts/{model}/add/").status_code == 200


@pytest.fixture
def limited() -> Iterator[tuple[logging.Logger, list[str]]]:
    """A logger with the limit, and the lines that it writes."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Lines()
    handler.addFilter(LogLimit())
    logger = logging.getLogger("tests.limited")
    logger.propagate = False
    logger.addHandler(handler)
    yield logger, lines
    logger.removeHandler(handler)


def test_lines_that_any_client_can_cause_are_limited_to_one_a_second(
    limited: tuple[logging.Logger, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, lines = limited
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    try:
        raise ValueError
    except ValueError:
        for number in range(10):
            logger.exception("Invalid host %s", number)
    now += 1
    logger.error("x" * 1000)
    now += 1
    logger.error("again")
    assert lines == ["Invalid host 0", "x" * 300 + "… (9 similar lines were left out.)", "again"]

"""Logging in and out, resetting a password, hostile input, and the pages of one's own log-in."""

import io
import json
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django import Settings

from accounts.console.browsers import browser_name
from accounts.models import AuditEntry
from accounts.users import User
from tests.console.conftest import As
from tests.console.hashers import CountingHasher
from tests.console.second_factors import totp
from tests.console.test_sign_up import PASSWORD, link_in, user_of
from tests.servers import free_port

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("shops")]

LOGIN, RESET = "/console/you/login/", "/console/you/password/forgotten/"
OWNER = {"login": "owner@shop.example", "password": "owner-password"}
EVIL = ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "https://shop.localhost/"]
PAGES = [
    "login/",
    "login/code/",
    "login/passkey/",
    "logout/",
    "sign-up/",
    "sign-up/sent/",
    "sign-up/x:y:z/",
    "again/",
    "again/code/",
    "again/passkey/",
    "password/",
    "password/set/",
    "password/forgotten/",
    "password/forgotten/sent/",
    "password/forgotten/done/",
    "password/forgotten/zzzzzzzzzzzzz-set-password/",
    "password/forgotten/1-x/",
    "app/",
    "app/remove/",
    "recovery-codes/",
    "recovery-codes/new/",
    "passkeys/add/",
    "passkeys/1/",
    "passkeys/99999999999999999999999/remove/",
    "security/",
]


def owner() -> User:
    return User.objects.get(email="owner@shop.example")


def confirm(client: Client) -> None:
    """Enter the password again."""
    assert client.post("/console/you/again/?next=/console/", {"password": "owner-password"}).status_code == 302


def add_app(client: Client) -> tuple[str, list[str]]:
    """Set up an authenticator app, and return its key and the recovery codes."""
    confirm(client)
    secret = client.get("/console/you/app/").context["form"].secret
    assert client.post("/console/you/app/", {"code": totp(secret)}).status_code == 302
    return secret, client.get("/console/you/recovery-codes/").context["unused_codes"]


class TestLogin:
    def test_the_right_password_leads_into_the_console(self, client: Client) -> None:
        answer = client.post(LOGIN, OWNER)
        assert (answer.status_code, answer.headers["Location"]) == (302, "/console/")
        assert user_of(client) == owner()

    def test_pages_ask_for_a_log_in_and_continue_after_it(self, client: Client) -> None:
        assert client.get("/console/you/security/").headers["Location"] == f"{LOGIN}?next=/console/you/security/"
        answer = client.post(LOGIN, {**OWNER, "next": "/console/you/security/"})
        assert answer.headers["Location"] == "/console/you/security/"

    @pytest.mark.parametrize("target", EVIL)
    def test_it_never_leads_to_another_host(self, client: Client, target: str) -> None:
        for path in (LOGIN, f"{LOGIN}?next={target}"):
            client.logout()
            assert client.post(path, {**OWNER, "next": target}).headers["Location"] == "/console/"
        assert client.get(f"{LOGIN}?next={target}").headers["Location"] == "/console/"  # already logged in
        assert "evil" not in client.post("/console/you/logout/", {"next": target}).headers["Location"]

    def test_only_a_post_logs_out(self, client: Client) -> None:
        client.post(LOGIN, OWNER)
        assert client.get("/console/you/logout/").status_code == 200
        assert user_of(client) is not None
        assert client.post("/console/you/logout/").headers["Location"] == LOGIN
        assert user_of(client) is None

    @pytest.mark.parametrize(
        "form",
        [
            {"login": "owner@shop.example", "password": "wrong"},
            {"login": "nobody@shop.example", "password": "wrong"},
        ],
    )
    def test_known_and_unknown_addresses_get_the_same_answer(self, client: Client, form: dict[str, str]) -> None:
        answer = client.post(LOGIN, form)
        assert answer.status_code == 200
        assert "The e-mail address or the password is wrong." in answer.content.decode()

    def test_known_and_unknown_addresses_take_the_same_time(self, settings: Settings) -> None:
        settings.PASSWORD_HASHERS = ["tests.console.hashers.CountingHasher"]
        User.objects.create_user("known@example.com", PASSWORD)
        counts = []
        for email in ("known@example.com", "nobody@example.com"):
            before = CountingHasher.hashed
            Client().post(LOGIN, {"login": email, "password": "wrong"})
            counts.append(CountingHasher.hashed - before)
        assert counts == [1, 1]

    def test_the_eleventh_attempt_waits(self, client: Client) -> None:
        for _ in range(10):
            client.post(LOGIN, {**OWNER, "password": "wrong"})
        assert "Too many attempts. Try again in 60 seconds." in client.post(LOGIN, OWNER).content.decode()
        assert user_of(client) is None


@pytest.mark.parametrize("forwarded", ["", ",", "x", "198.51.100.7", "198.51.100.7, 198.51.100.8"])
@pytest.mark.parametrize("proxies", [0, 1, 3])
def test_any_header_with_client_addresses_is_understood(
    client: Client, settings: Settings, forwarded: str, proxies: int
) -> None:
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    headers = {"X-Forwarded-For": forwarded, "User-Agent": "a\0b"}
    assert client.post(LOGIN, OWNER, headers=headers).status_code == 302
    assert client.get("/console/you/security/", headers=headers).status_code == 200
    assert client.post(RESET, {"email": "owner@shop.example"}, headers=headers).status_code == 302


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("role", ["owner", None])
def test_no_page_fails_for_any_input(as_: As, role: str | None, path: str) -> None:
    client = as_(role)
    if role:
        confirm(client)
    odd = ["\0", "\ud800".encode("utf-16", "surrogatepass").decode("latin-1"), "x" * 10_000, "[]", "{}", "null", "1"]
    names = ("login", "email", "password", "password1", "code", "credential", "oldpassword", "name", "next")
    url = f"/console/you/{path}"
    for headers in ({}, {"Accept": "application/json"}):
        assert client.get(url, headers=headers).status_code < 500
    for value in odd:
        answer = client.post(url, dict.fromkeys(names, value))
        assert answer.status_code < 500
    assert client.post(url, b"\xff=\xfe", content_type="application/x-www-form-urlencoded").status_code < 500


def credentials() -> list[Any]:
    """Return answers of a passkey that no browser sends."""
    response = {"clientDataJSON": "AA", "authenticatorData": "AA", "signature": "AA", "userHandle": "AA"}
    whole = {"id": "AA", "rawId": "AA", "type": "public-key", "response": response, "clientExtensionResults": {}}
    return [
        None,
        [],
        {},
        "x",
        1,
        whole,
        {**whole, "response": None},
        {**whole, "response": []},
        {**whole, "response": {**response, "userHandle": None}},
        {**whole, "response": {**response, "userHandle": 1}},
        {**whole, "rawId": 1},
        {**whole, "response": {**response, "attestationObject": "AA", "clientDataJSON": "e30"}},
    ]


@pytest.mark.parametrize("credential", credentials(), ids=str)
@pytest.mark.parametrize("path", ["login/passkey/", "passkeys/add/", "again/passkey/"])
def test_a_forged_passkey_is_refused(as_: As, path: str, credential: Any) -> None:
    client = as_(None if path.startswith("login") else "owner")
    if path.startswith("passkeys"):
        confirm(client)
    client.get(f"/console/you/{path}", headers={"Accept": "application/json"})
    answer = client.post(f"/console/you/{path}", {"credential": json.dumps(credential), "name": "x"})
    assert answer.status_code in (200, 302)
    assert not Authenticator.objects.exists()
    if path.startswith("login"):
        assert user_of(client) is None


class TestReset:
    @pytest.fixture(autouse=True)
    def _sends_mail(self, settings: Settings) -> None:
        settings.SENDS_MAIL = settings.ACCOUNT_EMAIL_NOTIFICATIONS = True

    def test_known_and_unknown_addresses_get_the_same_answer(self, client: Client) -> None:
        answers = [client.post(RESET, {"email": email}) for email in ("owner@shop.example", "nobody@shop.example")]
        assert [(answer.status_code, answer.headers["Location"]) for answer in answers] == [(302, f"{RESET}sent/")] * 2
        assert [message.to for message in mail.outbox] == [["owner@shop.example"], ["nobody@shop.example"]]

    def test_the_link_works_once_and_ends_all_sessions(self, client: Client, as_: As) -> None:
        other = as_("owner")
        client.post(RESET, {"email": "owner@shop.example"})
        link = link_in(mail.outbox.pop())
        form = client.get(link, follow=True).redirect_chain[-1][0]
        answer = client.post(form, {"password1": PASSWORD, "password2": PASSWORD})
        assert answer.headers["Location"] == f"{RESET}done/"
        assert owner().check_password(PASSWORD)
        assert other.get("/console/you/security/").status_code == 302
        assert "not valid any more" in Client().get(link, follow=True).content.decode()
        assert [message.subject for message in mail.outbox] == ["Your password was reset."]

    def test_a_network_asks_twenty_times_an_hour_and_an_address_gets_five_mails(self, client: Client) -> None:
        for _ in range(20):
            assert client.post(RESET, {"email": "owner@shop.example"}).status_code == 302
        assert len(mail.outbox) == 5
        assert "Too many attempts." in client.post(RESET, {"email": "owner@shop.example"}).content.decode()

    def test_nothing_is_sent_while_attempts_cannot_be_counted(self, client: Client, settings: Settings) -> None:
        redis = f"redis://127.0.0.1:{free_port()}/0"
        settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis}}
        answer = client.post(RESET, {"email": "owner@shop.example"})
        assert "Redis is unavailable. Try again later." in answer.content.decode()
        assert mail.outbox == []


class TestSecondFactor:
    def test_the_code_and_each_recovery_code_work_once(self, as_: As) -> None:
        secret, codes = add_app(as_("owner"))
        for code in (totp(secret), codes[0]):
            for expected in (302, 200):
                client = Client()
                assert client.post(LOGIN, OWNER).headers["Location"] == "/console/you/login/code/"
                assert user_of(client) is None
                assert client.post("/console/you/login/code/", {"code": code}).status_code == expected
                assert (user_of(client) is not None) == (expected == 302)

    def test_codes_can_be_tried_ten_times(self, as_: As) -> None:
        secret, _ = add_app(as_("owner"))
        client = Client()
        client.post(LOGIN, OWNER)
        for _ in range(10):
            client.post("/console/you/login/code/", {"code": "000000"})
        page = client.post("/console/you/login/code/", {"code": totp(secret)}).content.decode()
        assert "Too many attempts. Try again in 15 minutes." in page
        assert user_of(client) is None

    def test_without_mail_an_unverified_address_is_no_obstacle(self, client: Client, settings: Settings) -> None:
        settings.SIGN_UP = "open"
        client.post("/console/you/sign-up/", {"email": "dev@example.com", "password1": PASSWORD})
        client.post("/console/you/again/?next=/console/", {"password": PASSWORD})
        secret = client.get("/console/you/app/").context["form"].secret
        assert client.post("/console/you/app/", {"code": totp(secret)}).status_code == 302
        assert Authenticator.objects.filter(type="totp").exists()

    def test_its_secrets_are_encrypted(self, as_: As) -> None:
        secret, codes = add_app(as_("owner"))
        stored = str(list(Authenticator.objects.values_list("data", flat=True)))
        assert not [text for text in (secret, *codes) if text in stored]

    def test_adding_and_removing_one_is_recorded(self, as_: As, django_capture_on_commit_callbacks: Any) -> None:
        client = as_("owner")
        with django_capture_on_commit_callbacks(execute=True):
            add_app(client)
        client.post("/console/you/app/remove/")
        entries = AuditEntry.objects.filter(kind="factor").order_by("pk").values_list("verb", "label")
        app, codes = "TOTP Authenticator of owner@shop.example", "Recovery codes of owner@shop.example"
        assert sorted(entries) == sorted([(verb, label) for verb in ("created", "deleted") for label in (app, codes)])
        assert not Authenticator.objects.exists()

    def test_changing_it_needs_the_password_again(self, as_: As) -> None:
        client = as_("owner")
        for path in ("app/", "passkeys/add/", "recovery-codes/new/"):
            answer = client.get(f"/console/you/{path}")
            assert answer.headers["Location"].startswith("/console/you/again/")
        assert client.post("/console/you/again/", {"password": "wrong"}).status_code == 200

    def test_the_rest_api_gives_no_token_for_a_password_alone(self, as_: As, client: Client) -> None:
        form = {"email": "owner@shop.example", "password": "owner-password"}
        assert client.post("/api/v1/token/", form, content_type="application/json").status_code == 200
        add_app(as_("owner"))
        answer = client.post("/api/v1/token/", form, content_type="application/json")
        assert answer.status_code == 403
        assert "Create a token in the console" in answer.json()["detail"]
        wrong = client.post("/api/v1/token/", {**form, "password": "x"}, content_type="application/json")
        assert wrong.status_code == 400


class TestStaff:
    @pytest.fixture
    def staff(self) -> Client:
        User.objects.create_superuser("root@shop.example", "owner-password")
        client = Client()
        answer = client.post(f"{LOGIN}?next=/admin/", {"login": "root@shop.example", "password": "owner-password"})
        assert answer.headers["Location"] == "/admin/"
        return client

    def test_the_admin_uses_the_same_log_in(self, client: Client) -> None:
        assert client.get("/admin/").headers["Location"] == "/admin/login/?next=/admin/"
        assert client.get("/admin/login/?next=/admin/").headers["Location"] == f"{LOGIN}?next=%2Fadmin%2F"
        assert client.post("/admin/login/", {"username": "owner@shop.example", "password": "x"}).status_code == 302

    @pytest.mark.parametrize("target", EVIL)
    def test_its_log_in_never_leads_to_another_host(self, client: Client, staff: Client, target: str) -> None:
        for each in (client, staff):
            location = each.get("/admin/login/", {"next": target}).headers["Location"]
            assert location in ("/admin/", f"{LOGIN}?next=%2Fadmin%2F")

    def test_others_learn_that_it_is_not_for_them(self, as_: As) -> None:
        answer = as_("owner").get("/admin/", follow=True)
        assert answer.status_code == 403
        assert "The admin is for operators" in answer.content.decode()

    def test_it_works_without_a_second_factor_unless_that_is_required(self, staff: Client) -> None:
        assert staff.get("/admin/").status_code == 200

    def test_who_must_have_a_second_factor_can_only_set_it_up(
        self, staff: Client, as_: As, settings: Settings, client: Client
    ) -> None:
        form = {"email": "root@shop.example", "password": "owner-password"}
        token = client.post("/api/v1/token/", form, content_type="application/json").json()["token"]
        settings.STAFF_NEED_SECOND_FACTOR = True
        for path in ("/admin/", "/console/"):
            assert staff.get(path).headers["Location"] == "/console/you/security/"
        assert staff.get("/api/v1/accounts/").status_code == 403
        with_token = client.get("/api/v1/accounts/", headers={"Authorization": f"Token {token}"})
        assert with_token.status_code == 401
        assert "second factor" in with_token.json()["detail"]
        assert client.post("/api/v1/token/", form, content_type="application/json").status_code == 403
        assert "You need a second factor" in staff.get("/console/you/security/").content.decode()
        assert as_("owner").get("/console/", follow=True).status_code == 200
        add_app(staff)
        for path in ("/admin/", "/api/v1/accounts/"):
            assert staff.get(path).status_code == 200
        assert client.get("/api/v1/accounts/", headers={"Authorization": f"Token {token}"}).status_code == 200


class TestSessions:
    def test_people_end_their_other_sessions_and_nobody_elses(self, as_: As) -> None:
        own, other, foreign = as_("owner"), as_("owner"), as_("stranger")
        page = own.get("/console/you/security/").context
        rows = {session.session_key: session.pk for session, _ in page["sessions"]}
        assert set(rows) == {own.session.session_key, other.session.session_key}
        current, ended = rows[own.session.session_key], rows[other.session.session_key]
        assert foreign.post(f"/console/you/sessions/{ended}/end/").status_code == 404
        assert own.post(f"/console/you/sessions/{current}/end/").status_code == 404
        assert own.get(f"/console/you/sessions/{ended}/end/").status_code == 405
        assert own.post(f"/console/you/sessions/{ended}/end/").status_code == 302
        assert other.get("/console/you/security/").status_code == 302
        assert foreign.get("/console/you/security/").status_code == 200

    def test_all_others_end_at_once(self, as_: As) -> None:
        own, others = as_("owner"), [as_("owner") for _ in range(3)]
        assert own.post("/console/you/sessions/end-others/").status_code == 302
        assert [client.get("/console/you/security/").status_code for client in (own, *others)] == [200, 302, 302, 302]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
            "Chrome on Linux",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0", "Edge on Windows"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605 Version/18.0 Safari/604",
            "Safari on iPhone",
        ),
        ("curl/8.0", "curl/8.0"),
        ("", "Unknown browser"),
    ],
)
def test_browsers_have_names(text: str, name: str) -> None:
    assert browser_name(text) == name


def test_an_operator_removes_the_second_factors_that_a_person_has_lost(as_: As, client: Client) -> None:
    add_app(as_("owner"))
    call_command("remove_second_factors", "Owner@shop.example", stdout=io.StringIO())
    assert not Authenticator.objects.exists()
    assert AuditEntry.objects.filter(kind="factor", verb="deleted", source="command").count() == 2
    assert client.post(LOGIN, OWNER).headers["Location"] == "/console/"
    with pytest.raises(CommandError, match="There is no user"):
        call_command("remove_second_factors", "nobody@shop.example")

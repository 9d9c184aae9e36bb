"""The tokens and sessions of people: who can see and end them, how many there are, and what ends them all."""

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings
from rest_framework.test import APIClient

from accounts.checks import check_tokens_per_user
from accounts.models import ApiToken
from accounts.sessions import MAX_SESSIONS
from accounts.tokens import LoginOutdated, create_token
from accounts.users import User
from tests.servers import free_port

pytestmark = pytest.mark.django_db

PASSWORD, NEW_PASSWORD = "correct-horse-battery", "staple-correct-horse"
LIST = "/api/v1/accounts/"


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_superuser("ada@example.com", PASSWORD)


def browser(user: User, **headers: str) -> Client:
    """Return a browser in which the user has logged in."""
    client = Client(headers=headers)
    form = {"login": user.email, "password": PASSWORD}
    assert client.post("/console/you/login/", form).status_code == 302
    return client


def api(token: str, **extra: Any) -> APIClient:
    """Return a client of the REST API that sends this token."""
    client = APIClient(**extra)
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    return client


def is_logged_in(client: Client | APIClient) -> bool:
    status: int = client.get(LIST).status_code
    assert status in (200, 401)
    return status == 200


def change_in_rest(client: Client, user: User) -> None:
    form = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert client.post("/api/v1/password/", form, content_type="application/json").status_code == 204


def change_in_console(client: Client, user: User) -> None:
    form = {"oldpassword": PASSWORD, "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    assert client.post("/console/you/password/", form).status_code == 302


def change_own_on_the_page_of_people(client: Client, user: User) -> None:
    form = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true", "set-password": ""}
    assert client.post(f"/admin/accounts/user/{user.pk}/password/", form).status_code == 302


def change_by_another_operator(client: Client, user: User) -> None:
    operator = Client()
    operator.force_login(User.objects.create_superuser("operator@example.com"))
    change_own_on_the_page_of_people(operator, user)
    assert is_logged_in(operator)


def remove_by_another_operator(client: Client, user: User) -> None:
    operator = Client()
    operator.force_login(User.objects.create_superuser("operator@example.com"))
    form = {"usable_password": "false", "unset-password": ""}
    assert operator.post(f"/admin/accounts/user/{user.pk}/password/", form).status_code == 302


def change_by_command(client: Client, user: User) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("getpass.getpass", lambda *_, **__: NEW_PASSWORD)
        call_command("changepassword", user.email, stdout=StringIO())


def change_in_code(client: Client, user: User) -> None:
    user.set_password(NEW_PASSWORD)
    user.save()


def remove_in_code(client: Client, user: User) -> None:
    user.set_password(None)
    user.save(update_fields=["password"])


BY_ITS_USER = [change_in_rest, change_in_console, change_own_on_the_page_of_people]
BY_OTHERS = [
    change_by_another_operator,
    remove_by_another_operator,
    change_by_command,
    change_in_code,
    remove_in_code,
]


@pytest.mark.parametrize("change", [*BY_ITS_USER, *BY_OTHERS])
def test_a_changed_password_ends_all_tokens_and_the_other_sessions(
    ada: User, stranger: User, change: Callable[[Client, User], None]
) -> None:
    own, other, token = browser(ada), browser(ada), api(create_token(ada)[1])
    bystander = api(create_token(stranger)[1])
    change(own, ada)
    assert not is_logged_in(token)
    assert not is_logged_in(other)
    assert is_logged_in(own) == (change in BY_ITS_USER)
    assert is_logged_in(bystander)
    assert not ApiToken.objects.filter(user=ada).exists()
    sessions = [session.get_decoded().get("_auth_user_id") for session in Session.objects.all()]
    assert sessions.count(str(ada.pk)) == (change in BY_ITS_USER)


@pytest.mark.parametrize("change", BY_ITS_USER)
def test_the_session_that_changed_the_password_stays_in_the_list(
    ada: User, change: Callable[[Client, User], None]
) -> None:
    client = browser(ada)
    change(client, ada)
    (session,) = client.get("/api/v1/sessions/").json()["results"]
    assert session["current"]
    assert client.delete(f"/api/v1/sessions/{session['id']}/").status_code == 204
    assert not is_logged_in(client)


def test_a_password_that_is_hashed_anew_ends_nothing(ada: User, settings: Settings) -> None:
    token = api(create_token(ada)[1])
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher", *settings.PASSWORD_HASHERS]
    assert authenticate(email="ada@example.com", password=PASSWORD) == ada
    ada.refresh_from_db()
    assert ada.password.startswith("scrypt$")
    assert is_logged_in(token)


def test_other_changes_of_a_person_end_nothing(ada: User) -> None:
    client, token = browser(ada), api(create_token(ada)[1])
    form = {"email": "ada@example.org", "name": "Ada", "is_active": "on", "is_staff": "on", "is_superuser": "on"}
    assert client.post(f"/admin/accounts/user/{ada.pk}/change/", form).status_code == 302
    assert is_logged_in(client)
    assert is_logged_in(token)


@pytest.mark.parametrize("change", [{"password": "another hash"}, {"is_active": False}])
def test_a_login_that_was_overtaken_by_a_change_gets_no_token(ada: User, change: dict[str, Any]) -> None:
    User.objects.filter(pk=ada.pk).update(**change)
    with pytest.raises(LoginOutdated):
        create_token(ada)
    assert not ApiToken.objects.exists()


class TestChangingThePassword:
    @pytest.mark.parametrize(
        ("form", "errors"),
        [
            (
                {"current_password": "x", "new_password": NEW_PASSWORD},
                {"current_password": "not your current"},
            ),
            ({"current_password": PASSWORD, "new_password": "short"}, {"new_password": "too short"}),
            ({"current_password": PASSWORD, "new_password": "ada@example.com"}, {"new_password": "too similar"}),
            ({"current_password": PASSWORD}, {"new_password": "required"}),
        ],
    )
    def test_a_wrong_or_weak_password_changes_nothing(
        self, ada: User, form: dict[str, str], errors: dict[str, str]
    ) -> None:
        token = api(create_token(ada)[1])
        answer = token.post("/api/v1/password/", form)
        assert answer.status_code == 400
        ((field, sentence),) = errors.items()
        assert list(answer.json()) == [field]
        assert sentence in answer.json()[field][0]
        assert is_logged_in(token)

    def test_the_current_password_cannot_be_guessed_faster_than_at_a_login(self, ada: User) -> None:
        token = api(create_token(ada)[1])
        form = {"current_password": "x", "new_password": NEW_PASSWORD}
        statuses = [token.post("/api/v1/password/", form).status_code for _ in range(11)]
        assert statuses == [400] * 10 + [429]

    def test_nor_in_the_console(self, ada: User) -> None:
        client = browser(ada)
        wrong = {"oldpassword": "x", "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
        for _ in range(10):
            assert "This is not your current password." in self.answer(client, wrong)
        assert "Too many attempts. Try again in 60 seconds." in self.answer(client, {**wrong, "oldpassword": PASSWORD})
        ada.refresh_from_db()
        assert ada.check_password(PASSWORD)

    def test_nor_while_attempts_cannot_be_counted(self, ada: User, settings: Settings) -> None:
        client = browser(ada)
        redis = f"redis://127.0.0.1:{free_port()}/0"
        settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": redis}}
        form = {"oldpassword": PASSWORD, "password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
        assert "Redis is unavailable. Try again later." in self.answer(client, form)
        ada.refresh_from_db()
        assert ada.check_password(PASSWORD)

    def answer(self, client: Client, form: dict[str, str]) -> str:
        return client.post("/console/you/password/", form, follow=True).content.decode()


class TestTokens:
    def test_people_see_their_own_without_the_secret(self, ada: User, stranger: User) -> None:
        create_token(stranger)
        (first, _), (second, text) = create_token(ada), create_token(ada)
        page = api(text).get("/api/v1/tokens/")
        assert [(row["id"], row["current"]) for row in page.json()["results"]] == [
            (second.token_key, True),
            (first.token_key, False),
        ]
        assert text not in page.content.decode()
        assert second.digest not in page.content.decode()

    def test_people_can_end_their_own(self, ada: User) -> None:
        (first, first_text), (_, text) = create_token(ada), create_token(ada)
        assert api(text).delete(f"/api/v1/tokens/{first.token_key}/").status_code == 204
        assert not is_logged_in(api(first_text))
        assert is_logged_in(api(text))

    def test_beyond_the_limit_the_oldest_ends(self, ada: User, stranger: User, settings: Settings) -> None:
        settings.API_TOKENS_PER_USER = 3
        other = create_token(stranger)[1]
        texts = [create_token(ada)[1] for _ in range(5)]
        assert [is_logged_in(api(text)) for text in texts] == [False, False, True, True, True]
        assert is_logged_in(api(other))

    def test_expired_tokens_take_no_place(self, ada: User, settings: Settings) -> None:
        settings.API_TOKENS_PER_USER = 2
        kept, text = create_token(ada)
        expired, expired_text = create_token(ada)
        ApiToken.objects.filter(pk=expired.pk).update(expiry=timezone.now() - timedelta(seconds=1))
        assert not is_logged_in(api(expired_text))
        assert [row["id"] for row in api(text).get("/api/v1/tokens/").json()["results"]] == [kept.token_key]
        create_token(ada)
        assert is_logged_in(api(text))

    def test_a_request_does_not_load_the_other_tokens(
        self, ada: User, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        _, text = create_token(ada)
        ApiToken.objects.bulk_create(
            [ApiToken(digest=f"{number}", token_key=f"{number}", user=ada, expiry=None) for number in range(2_000)]
        )
        with django_assert_num_queries(3):  # the token with its user, its use, and the number of accounts
            assert is_logged_in(api(text))

    def test_its_use_is_recorded_at_most_once_a_minute(
        self, ada: User, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        token, text = create_token(ada, "backup script")
        assert token.last_used_at is None
        (row,) = api(text).get("/api/v1/tokens/").json()["results"]
        assert (row["name"], row["last_used_at"] is not None) == ("backup script", True)
        with django_assert_num_queries(2):
            assert is_logged_in(api(text))
        earlier = timezone.now() - timedelta(minutes=2)
        ApiToken.objects.update(last_used_at=earlier)
        assert is_logged_in(api(text))
        token.refresh_from_db()
        assert token.last_used_at > earlier


def test_a_limit_below_one_token_is_an_error(settings: Settings) -> None:
    settings.API_TOKENS_PER_USER = 0
    (error,) = check_tokens_per_user(None)
    assert (error.id, "API_TOKENS_PER_USER is 0" in error.msg) == ("accounts.E003", True)


class TestWrongTokens:
    LIMIT = 60
    WRONG = "0" * 64

    def flood(self, address: str = "192.0.2.1") -> APIClient:
        client = api(self.WRONG, REMOTE_ADDR=address)
        assert [client.get(LIST).status_code for _ in range(self.LIMIT)] == [401] * self.LIMIT
        return client

    def test_they_are_throttled_by_address_before_a_query(
        self, ada: User, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        client = self.flood()
        with django_assert_num_queries(0):
            answer = client.get(LIST)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        _, text = create_token(ada)
        assert api(text, REMOTE_ADDR="192.0.2.1").get(LIST).status_code == 429
        assert is_logged_in(api(text, REMOTE_ADDR="192.0.2.2"))

    def test_tokens_in_use_are_accepted_from_the_same_address(self, ada: User) -> None:
        token, text = create_token(ada)
        client = api(text, REMOTE_ADDR="192.0.2.1")
        assert is_logged_in(client)
        self.flood()
        assert is_logged_in(client)
        token.delete()
        assert [client.get(LIST).status_code for _ in range(2)] == [401, 429]

    def test_addresses_in_one_ipv6_network_count_together(self, db: None) -> None:
        self.flood("2001:db8::1")
        assert api(self.WRONG, REMOTE_ADDR="2001:db8::2").get(LIST).status_code == 429
        assert api(self.WRONG, REMOTE_ADDR="2001:db8:0:1::1").get(LIST).status_code == 401

    def test_a_counter_that_another_program_has_overwritten_is_ignored(self, ada: User) -> None:
        cache.set("wrong_tokens_from_192.0.2.1", "nonsense")
        assert is_logged_in(api(create_token(ada)[1], REMOTE_ADDR="192.0.2.1"))

    @pytest.mark.parametrize("text", ["x", "\xff" * 64, "\u20ac".encode().decode("latin-1")])
    def test_text_that_cannot_be_a_token_is_wrong(self, db: None, text: str) -> None:
        assert not is_logged_in(api(text))


class TestSessions:
    def test_people_see_their_own_without_the_secret(self, ada: User, settings: Settings) -> None:
        browser(User.objects.create_superuser("bob@example.com", PASSWORD))
        browser(ada, user_agent="Netscape 4")
        client = browser(ada, user_agent="Lynx " + "x" * 1000)
        page = client.get("/api/v1/sessions/")
        rows = page.json()["results"]
        assert [(row["ip"], row["user_agent"][:5], row["current"]) for row in rows] == [
            ("127.0.0.1", "Lynx ", True),
            ("127.0.0.1", "Netsc", False),
        ]
        for session in Session.objects.all():
            assert session.session_key not in page.content.decode()

    @pytest.mark.parametrize(
        ("forwarded", "shown"),
        [("203.0.113.9, 198.51.100.7", "198.51.100.7"), ("[2001:db8::5]:4000", "2001:db8::5"), ("unknown", "::")],
    )
    def test_the_address_is_that_which_the_trusted_proxy_reports(
        self, ada: User, settings: Settings, forwarded: str, shown: str
    ) -> None:
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
        client = browser(ada, x_forwarded_for=forwarded)
        (row,) = client.get("/api/v1/sessions/").json()["results"]
        assert row["ip"] == shown

    def test_a_browser_may_describe_itself_as_anything_or_not_at_all(self, ada: User) -> None:
        for user_agent in ("", "a\0b", "\xe9" * 10_000):
            browser(ada, user_agent=user_agent)
        client = browser(ada)
        rows = client.get("/api/v1/sessions/").json()["results"]
        assert [row["user_agent"] for row in rows] == ["", "\xe9" * 200, "ab", ""]

    def test_another_person_can_log_in_in_the_same_browser(self, ada: User) -> None:
        client = browser(ada)
        client.force_login(User.objects.create_superuser("bob@example.com", PASSWORD))
        (row,) = client.get("/api/v1/sessions/").json()["results"]
        assert row["current"]
        assert Session.objects.count() == 1

    def test_people_can_end_their_own(self, ada: User) -> None:
        lost, client = browser(ada), browser(ada)
        row = client.get("/api/v1/sessions/").json()["results"][1]
        assert client.delete(f"/api/v1/sessions/{row['id']}/").status_code == 204
        assert not is_logged_in(lost)
        assert is_logged_in(client)

    def test_sessions_that_have_ended_are_not_listed(self, ada: User) -> None:
        left, expired, client = browser(ada), browser(ada), browser(ada)
        left.post("/admin/logout/")
        Session.objects.filter(session_key=expired.cookies["sessionid"].value).update(expire_date=timezone.now())
        assert [row["current"] for row in client.get("/api/v1/sessions/").json()["results"]] == [True]

    def test_beyond_the_limit_the_oldest_end(self, ada: User) -> None:
        clients = [Client() for _ in range(MAX_SESSIONS + 2)]
        for client in clients:
            client.force_login(ada)
        assert [is_logged_in(client) for client in clients] == [False] * 2 + [True] * MAX_SESSIONS
        assert Session.objects.count() == MAX_SESSIONS

    def test_a_session_can_list_tokens_and_a_token_sessions(self, ada: User) -> None:
        client, (token, text) = browser(ada), create_token(ada)
        assert [row["id"] for row in client.get("/api/v1/tokens/").json()["results"]] == [token.token_key]
        assert [row["current"] for row in api(text).get("/api/v1/sessions/").json()["results"]] == [False]

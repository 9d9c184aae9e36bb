"""Secrets, passwords and tokens stay out of logs, error pages, error mails and the text of objects."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.models import Session
from django.core import mail
from django.db.models.signals import post_save, pre_save
from django.dispatch import Signal
from django.test import Client
from django.utils.log import AdminEmailHandler
from pytest_django import Settings

from accounts import crypto, services
from accounts.access import find_access
from accounts.models import ApiKey, ApiToken, AuditEntry, Cluster, Webhook
from accounts.users import User
from tests.servers import LiveServer

PASSWORD = "correct-horse-battery"
ENCRYPTION_KEY = "encryption-key-" * 3
REDIS_PASSWORD = "redis-password"


@contextmanager
def failing(signal: Signal, sender: Any) -> Iterator[list[Any]]:
    """Raise an error whenever a sender sends the signal; yield the instances it was sent for."""
    seen: list[Any] = []

    def fail(**values: Any) -> None:
        seen.append(values.get("instance"))
        raise RuntimeError("it broke")

    signal.connect(fail, sender=sender)
    try:
        yield seen
    finally:
        signal.disconnect(fail, sender=sender)


@pytest.fixture
def report(settings: Settings) -> Iterator[Callable[[], str]]:
    """Return the error mail that Django sent to ADMINS, with the variables of all frames."""
    settings.ADMINS = [("Ops", "ops@example.com")]
    settings.ENCRYPTION_KEYS = [ENCRYPTION_KEY]
    settings.REDIS_URLS = [f"redis://:{REDIS_PASSWORD}@127.0.0.1:1/0"]
    handler = AdminEmailHandler(include_html=True)
    logger = logging.getLogger("django.request")
    logger.addHandler(handler)

    def sent_report() -> str:
        (message,) = mail.outbox
        ((html, _),) = message.alternatives  # type: ignore[attr-defined]
        assert "it broke" in html or "no_such_table" in html
        assert "REDIS_URLS" in html
        return f"{message.subject} {message.body} {html}"

    yield sent_report
    logger.removeHandler(handler)


@pytest.fixture(params=[False, True], ids=["without DEBUG", "with DEBUG"])
def client(request: pytest.FixtureRequest, settings: Settings, db: None) -> Client:
    """A client of a server that fails; with DEBUG, the client gets all details of the error."""
    settings.DEBUG = request.param
    User.objects.create_superuser("ada@example.com", password=PASSWORD)
    return Client(raise_request_exception=False)


@pytest.fixture
def ada(client: Client) -> User:
    user = User.objects.get(email="ada@example.com")
    client.force_login(user)
    return user


def contains_no_secret(text: str, *secrets: str) -> bool:
    for secret in (PASSWORD, ENCRYPTION_KEY, REDIS_PASSWORD, *secrets):
        assert secret
        assert secret not in text
    return True


class TestErrorsRevealNoSecret:
    def test_while_a_key_is_issued(self, client: Client, ada: User, report: Callable[[], str]) -> None:
        services.create_cluster(services.create_account("Acme", ada), "acme")
        with failing(post_save, ApiKey) as issued:
            answer = client.post("/api/v1/keys/", {"cluster": "acme", "label": "web"}, content_type="application/json")
        assert answer.status_code == 500
        secret = crypto.decrypt(issued[0].secret_ciphertext)
        text = report()
        assert "issue_key" in text
        assert contains_no_secret(text + answer.content.decode(), secret)

    @pytest.mark.parametrize("method", ["post", "patch"])
    def test_while_a_webhook_is_created_or_changed(
        self, client: Client, ada: User, report: Callable[[], str], method: str
    ) -> None:
        cluster = services.create_cluster(services.create_account("Acme", ada), "acme")
        settings: dict[str, Any] = {"url": "https://example.com/", "kinds": ["client_event"]}
        webhook, secret = services.create_webhook(cluster, **settings)
        path = "/api/v1/webhooks/" if method == "post" else f"/api/v1/webhooks/{webhook.pk}/"
        data = {**settings, "cluster": "acme", "headers": {"Authorization": "Bearer s3cret-of-theirs"}}
        with failing(post_save, AuditEntry):
            answer = getattr(client, method)(path, data, content_type="application/json")
        assert answer.status_code == 500
        text = report()
        assert "record_change" in text
        secrets = [secret, *(crypto.decrypt(each.secret_ciphertext) for each in Webhook.objects.all())]
        assert contains_no_secret(text + answer.content.decode(), "s3cret-of-theirs", *secrets)

    @pytest.mark.parametrize("interface", ["rest", "admin"])
    def test_while_a_secret_is_rotated(
        self, client: Client, ada: User, report: Callable[[], str], interface: str
    ) -> None:
        cluster = services.create_cluster(services.create_account("Acme", ada), "acme")
        key, secret = services.issue_key(cluster, "web")
        rotated: list[str] = []

        def record_secret(instance: AuditEntry, **_: Any) -> None:
            rotated.append(crypto.decrypt(ApiKey.objects.get().secret_ciphertext))

        pre_save.connect(record_secret, sender=AuditEntry)
        try:
            with failing(post_save, AuditEntry):
                if interface == "rest":
                    answer = client.post(
                        f"/api/v1/keys/{key.public_key}/rotate-secret/", content_type="application/json"
                    )
                else:
                    answer = client.post(f"/admin/accounts/apikey/{key.pk}/rotate/", {"overlap": 0})
        finally:
            pre_save.disconnect(record_secret, sender=AuditEntry)
        assert answer.status_code == 500
        assert rotated[0] != secret
        text = report()
        assert "rotate_secret" in text
        assert contains_no_secret(text + answer.content.decode(), secret, rotated[0])

    @pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded"])
    def test_while_a_token_is_created(self, client: Client, report: Callable[[], str], content_type: str) -> None:
        body = f'{{"email": "ada@example.com", "password": "{PASSWORD}"}}'
        if "json" not in content_type:
            body = f"email=ada%40example.com&password={PASSWORD}"
        with failing(post_save, ApiToken):
            answer = client.post("/api/v1/token/", body, content_type=content_type)
        assert answer.status_code == 500
        text = report()
        assert "create" in text
        assert contains_no_secret(text + answer.content.decode())

    def test_while_a_user_logs_in_to_the_admin(self, client: Client, report: Callable[[], str]) -> None:
        with failing(user_logged_in, None):
            answer = client.post("/console/you/login/", {"login": "ada@example.com", "password": PASSWORD})
        assert answer.status_code == 500
        assert contains_no_secret(report() + answer.content.decode())

    @pytest.mark.django_db(transaction=True)  # an error in PostgreSQL would break a transaction around the test
    def test_while_login_attempts_cannot_be_counted(
        self, client: Client, report: Callable[[], str], settings: Settings
    ) -> None:
        cache = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "no_such_table"}
        settings.CACHES = {"default": cache}
        answers = [
            client.post(
                "/api/v1/token/", {"email": "ada@example.com", "password": PASSWORD}, content_type="application/json"
            ),
            client.post("/console/you/login/", {"login": "ada@example.com", "password": PASSWORD}),
        ]
        assert [answer.status_code for answer in answers] == [500, 500]
        assert not ApiToken.objects.exists()
        assert "sessionid" not in client.cookies
        mails = [mail.outbox.pop(), mail.outbox.pop()]
        for answer, message in zip(answers, mails, strict=True):
            mail.outbox.append(message)
            assert contains_no_secret(report() + answer.content.decode())
            mail.outbox.clear()

    def test_with_a_token_in_the_request(self, client: Client, ada: User, report: Callable[[], str]) -> None:
        client.logout()
        _, token = ApiToken.objects.create(ada)
        with failing(post_save, AuditEntry):
            answer = client.post(
                "/api/v1/accounts/",
                {"name": "x"},
                headers={"Authorization": f"Token {token}", "jwt": "the.jwt.itself"},
                content_type="application/json",
            )
        assert answer.status_code == 500
        assert contains_no_secret(report() + answer.content.decode(), token, "the.jwt.itself")

    def test_with_a_session_in_the_request(self, client: Client, ada: User, report: Callable[[], str]) -> None:
        with failing(post_save, AuditEntry):
            answer = client.post("/api/v1/accounts/", {"name": "x"}, content_type="application/json")
        assert answer.status_code == 500
        assert contains_no_secret(report() + answer.content.decode(), client.cookies["sessionid"].value)


def test_the_text_of_objects_contains_no_secret(cluster: Cluster) -> None:
    issued = services.issue_key(cluster, "web")
    access = find_access(issued.key.public_key)
    assert access is not None
    assert access.secret == issued.secret
    for thing in (issued, issued.key, access, vars(issued.key)):
        assert issued.secret not in f"{thing!r} {thing}"
    assert issued.key.public_key in repr(access)


def test_secrets_of_keys_are_in_neither_the_database_nor_the_history(admin_client: Client, cluster: Cluster) -> None:
    issued = services.issue_key(cluster, "web")
    form = {"overlap": 0}
    answer = admin_client.post(f"/admin/accounts/apikey/{issued.key.pk}/rotate/", form, follow=True)
    assert answer.status_code == 200
    access = find_access(issued.key.public_key)
    assert access is not None
    kept = str([list(model.objects.values()) for model in (ApiKey, AuditEntry, LogEntry, Session)])
    assert issued.key.public_key in kept
    for secret in (issued.secret, access.secret):
        assert secret not in kept


def test_tokens_and_passwords_are_not_in_the_database(client: Client, ada: User) -> None:
    answer = client.post(
        "/api/v1/token/", {"email": "ada@example.com", "password": PASSWORD}, content_type="application/json"
    )
    token = answer.json()["token"]
    kept = f"{list(ApiToken.objects.values())} {list(User.objects.values())}"
    assert PASSWORD not in kept
    assert token not in kept
    (row,) = ApiToken.objects.all()
    assert row.expiry is not None


async def test_the_most_verbose_log_of_a_running_server_contains_no_secret(
    start: Callable[..., LiveServer], keys: dict[str, str], secrets: dict[str, str]
) -> None:
    server = start("daphne", "--access-log", "-", DEBUG="1", LOG_LEVEL="DEBUG")
    sensitive = ["owner-password", secrets["demo"]]
    async with httpx.AsyncClient(base_url=server.url("", scheme="http"), trust_env=False, timeout=30) as client:
        credentials = {"email": "owner@example.com", "password": "owner-password"}
        assert (await client.post("/console/you/login/", data=credentials)).status_code == 403
        for body in ({"json": credentials}, {"data": credentials}):
            answer = await client.post("/api/v1/token/", **body)  # type: ignore[arg-type]
            assert answer.status_code == 200
        token = answer.json()["token"]
        client.headers["Authorization"] = f"Token {token}"
        issued = (await client.post("/api/v1/keys/", json={"cluster": "demo", "label": "new"})).json()
        rotated = (await client.post(f"/api/v1/keys/{issued['public_key']}/rotate-secret/")).json()
        sensitive += [token, issued["secret"], rotated["secret"]]
        for secret in (rotated["secret"], "wrong-secret"):
            body = {"key": issued["public_key"], "secret": secret, "channelId": "1", "message": "x"}
            await client.post("/api/publish", json=body)
        assert (await client.delete("/api/v1/token/")).status_code == 204
        sensitive.append("wrong-secret")
    assert "/rotate-secret/" in server.log
    for secret in sensitive:
        assert secret not in server.log

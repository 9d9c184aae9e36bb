"""Attacks on the admin and the REST API through a browser, or with headers that a browser would not send."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client
from pytest_django import Settings

from accounts import services
from accounts.models import Account, ApiKey
from accounts.users import User
from tests.control.conftest import As
from tests.servers import PROJECT

PAGES = [
    "/",
    "/admin/",
    "/admin/login/",
    "/console/you/login/",
    "/api/v1/docs/",
    "/api/v1/schema/",
    "/api/v1/accounts/",
    "/v3/1",
    "/none/",
]
# Foreign hosts, and Host headers that are crafted to pass a careless check.
HOSTILE_HOSTS = [
    *("evil.example", "localhost.evil.example", "evillocalhost", "localhost@evil.example", "localhost:80@evil.example"),
    *("localhost/evil.example", "localhost#evil.example", "localhost, evil.example", "localhost:evil", ""),
    *("localhost\\.evil.example", "evil.example\x00.localhost", "127.0.0.1.evil.example", "[::1].evil.example"),
]
HOSTILE_NEXT = [
    *("https://evil.example/", "//evil.example/", "///evil.example/", "/\\evil.example/", "\\\\evil.example/"),
    *("http:evil.example", "https:///evil.example", "javascript:alert(1)", "data:text/html,x", "\t//evil.example/"),
    *("//localhost@evil.example/", "https://testserver.evil.example/", "ftp://testserver/", "/\t/evil.example"),
]


def test_the_shipped_settings_pass_djangos_deployment_checks(tmp_path: Path) -> None:
    for name, content in {"secret_key": os.urandom(32).hex(), "encryption_keys": os.urandom(32).hex()}.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "database_url").write_text("postgres://ws:password@127.0.0.1/ws")
    (tmp_path / "redis_url").write_text("redis://:password@127.0.0.1/0")
    shipped = (PROJECT / "piesite" / "deploy" / "ws.env").read_text().replace("/etc/ws/", f"{tmp_path}/")
    settings = dict(re.findall(r"^(\w+)=(.*)$", shipped, re.MULTILINE))
    assert settings["HTTPS"] == "1"
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path), **settings},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


class TestHeaders:
    @pytest.mark.parametrize("path", PAGES)
    @pytest.mark.django_db
    def test_every_answer_has_security_headers(self, client: Client, path: str) -> None:
        answer = client.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert not re.search(r"unsafe|https?:|\s\*[\s;]", policy)
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert "camera=()" in answer.headers["Permissions-Policy"]

    @pytest.mark.parametrize("path", PAGES)
    @pytest.mark.django_db
    def test_no_page_may_be_cached(self, client: Client, path: str) -> None:
        assert "no-store" in client.get(path).headers["Cache-Control"]

    @pytest.mark.django_db
    def test_static_files_may_be_cached_but_neither_sniffed_nor_framed(self, client: Client) -> None:
        with contextlib.closing(client.get("/static/realtime/tester.js")) as answer:
            assert answer.headers["Cache-Control"] == "max-age=60, public"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]

    @pytest.mark.django_db
    def test_the_answer_to_a_rejected_host_has_a_policy_too(self, client: Client) -> None:
        answer = client.get("/", headers={"Host": "evil.example"})
        assert (answer.status_code, "Content-Security-Policy" in answer.headers) == (400, True)

    @pytest.mark.django_db
    def test_pages_contain_nothing_inline(self, admin_client: Client, key: ApiKey) -> None:
        """test_pages.py checks the same in a browser."""
        for path in (
            "/",
            "/api/v1/docs/",
            "/admin/",
            f"/admin/accounts/apikey/{key.pk}/change/",
            "/console/you/login/",
        ):
            page = admin_client.get(path, follow=True).content.decode()
            assert not re.search(
                r"<script(?![^>]*\b(src|type=\"application/json\")[^>]*)|<style|\sstyle=|\son\w+=", page
            )


class TestBehindTls:
    @pytest.fixture(autouse=True)
    def _https(self, settings: Settings) -> None:
        # The settings that HTTPS=1 implies.
        settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
        settings.SECURE_SSL_REDIRECT = settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
        settings.SECURE_HSTS_SECONDS = 365 * 86400

    @pytest.mark.django_db
    def test_cookies_are_sent_only_over_tls_and_not_from_other_sites(self, client: Client, admin_user: User) -> None:
        form = {"login": "admin@example.com", "password": "password"}
        answer = client.post("/console/you/login/?next=/admin/", form, headers={"X-Forwarded-Proto": "https"})
        assert answer.status_code == 302
        assert set(answer.cookies) == {"sessionid", "csrftoken"}
        for cookie in answer.cookies.values():
            assert (cookie["secure"], cookie["samesite"], cookie["domain"]) == (True, "Lax", "")
        assert answer.cookies["sessionid"]["httponly"]

    @pytest.mark.django_db
    def test_plain_http_is_redirected_to_https_on_the_same_host(self, client: Client) -> None:
        answer = client.get("/admin/?a=b", headers={"Host": "localhost"})
        assert (answer.status_code, answer.headers["Location"]) == (301, "https://localhost/admin/?a=b")
        assert client.get("/admin/", headers={"Host": "evil.example"}).status_code == 400
        assert "Strict-Transport-Security" not in answer.headers

    @pytest.mark.django_db
    def test_hsts_lasts_a_year(self, client: Client) -> None:
        answer = client.get("/", headers={"X-Forwarded-Proto": "https"})
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


class TestCrossSiteRequests:
    """Requests that a page of another site makes through the browser of a logged-in user."""

    @pytest.fixture
    def victim(self, admin_user: User) -> Client:
        client = Client(enforce_csrf_checks=True)
        client.force_login(admin_user)
        return client

    def test_they_change_nothing_in_the_admin(self, victim: Client, account: Account) -> None:
        form = {"action": "suspend", "_selected_action": [account.pk], "confirmed": "yes"}
        assert victim.post("/admin/accounts/account/", form).status_code == 403
        assert victim.post(f"/admin/accounts/account/{account.pk}/suspend/").status_code == 403
        assert victim.post("/admin/logout/").status_code == 403
        account.refresh_from_db()
        assert not account.suspended

    def test_they_change_nothing_in_the_rest_api(self, victim: Client, account: Account) -> None:
        before = Account.objects.count()
        for content_type in ("application/x-www-form-urlencoded", "multipart/form-data", "application/json"):
            answer = victim.post("/api/v1/accounts/", '{"name": "x"}', content_type=content_type)
            assert answer.status_code == 403
        assert Account.objects.count() == before

    def test_another_site_cannot_log_a_user_in(self, admin_user: User) -> None:
        client = Client(enforce_csrf_checks=True)
        assert (
            client.post("/console/you/login/", {"login": "admin@example.com", "password": "password"}).status_code
            == 403
        )
        assert "sessionid" not in client.cookies

    @pytest.mark.parametrize("path", ["/api/v1/accounts/", "/api/v1/token/", "/admin/", "/"])
    def test_other_sites_cannot_read_answers(self, victim: Client, path: str) -> None:
        answer = victim.get(path, headers={"Origin": "https://evil.example"})
        preflight = victim.options(path, headers={"Origin": "https://evil.example"})
        assert not [
            name for response in (answer, preflight) for name in response.headers if name.startswith("Access-Control")
        ]


class TestHosts:
    @pytest.mark.parametrize("host", HOSTILE_HOSTS)
    @pytest.mark.parametrize("path", PAGES)
    @pytest.mark.django_db
    def test_foreign_hosts_are_rejected(self, client: Client, path: str, host: str) -> None:
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 400
        assert "evil" not in answer.content.decode()

    @pytest.mark.parametrize(
        "name", ["X-Forwarded-Host", "X-Forwarded-Server", "X-Original-URL", "X-Rewrite-URL", "Forwarded"]
    )
    def test_no_other_header_overrides_the_host(self, as_: As, owner: User, account: Account, name: str) -> None:
        client = as_(owner)
        for path in ("/", "/api/v1/docs/", "/api/v1/schema/", "/api/v1/accounts/?page_size=1", "/console/you/login/"):
            value = "host=evil.example" if name == "Forwarded" else "evil.example"
            answer = client.get(path, headers={name: value})
            assert answer.status_code == 200
            assert "evil" not in answer.content.decode() + str(answer.headers)

    def test_pagination_links_stay_on_the_requested_host(self, as_: As, owner: User) -> None:
        for number in range(2):
            services.create_account(str(number), owner)
        answer = as_(owner).get("/api/v1/accounts/?page_size=1", headers={"Host": "localhost:8000"})
        assert answer.json()["next"] == "http://localhost:8000/api/v1/accounts/?page=2&page_size=1"

    @pytest.mark.parametrize("path", [path for path in PAGES if "v1" in path or "admin" in path])
    @pytest.mark.parametrize(
        "host",
        ["demo.localhost", "Login.LOCALHOST:8000", "none.localhost.", "demo.ws.test", "a..localhost", "a.b.ws.test"],
    )
    def test_hosts_of_clusters_serve_neither_the_admin_nor_the_rest_api(
        self, admin_client: Client, settings: Settings, path: str, host: str
    ) -> None:
        settings.CLUSTER_DOMAINS = ["localhost", "ws.test"]
        settings.ALLOWED_HOSTS = [".localhost", ".ws.test", "localhost"]
        assert admin_client.get(path, headers={"Host": host}).status_code == 404
        assert admin_client.post(path, headers={"Host": host}).status_code == 404

    def test_hosts_of_clusters_serve_the_tester_without_links_to_either(self, admin_client: Client) -> None:
        page = admin_client.get("/", headers={"Host": "demo.localhost"}).content.decode()
        assert "WebSocket tester" in page
        assert [path for path in ("/admin/", "/api/v1/", "/console/") if path in page] == []
        page = admin_client.get("/", headers={"Host": "localhost"}).content.decode()
        assert [path for path in ("/admin/", "/api/v1/docs/", "/console/") if path not in page] == []

    @pytest.mark.parametrize("host", ["ws.test", "admin.ws.test", "192.0.2.1"])
    def test_the_bare_domain_and_exact_hosts_serve_both(
        self, admin_client: Client, settings: Settings, host: str
    ) -> None:
        settings.CLUSTER_DOMAINS = ["ws.test"]
        settings.ALLOWED_HOSTS = ["admin.ws.test", "192.0.2.1", ".ws.test"]
        assert admin_client.get("/admin/", headers={"Host": host}).status_code == 200
        assert admin_client.get("/api/v1/accounts/", headers={"Host": host}).status_code == 200


class TestRedirects:
    @pytest.mark.parametrize("target", HOSTILE_NEXT)
    def test_logging_in_redirects_only_within_this_host(self, client: Client, admin_user: User, target: str) -> None:
        form = {"login": "admin@example.com", "password": "password", "next": target}
        answer = client.post("/console/you/login/", form)
        assert answer.status_code == 302
        assert "evil" not in answer.headers["Location"]
        assert answer.headers["Location"].startswith("/console/")

    @pytest.mark.parametrize("target", HOSTILE_NEXT)
    def test_logging_out_redirects_only_within_this_host(self, admin_client: Client, target: str) -> None:
        answer = admin_client.post("/admin/logout/", {"next": target})
        assert answer.status_code in (200, 302)
        assert "evil" not in answer.headers.get("Location", "")
        assert "evil" not in re.sub(r"[?&]next=[^\"]*", "", answer.content.decode())

    @pytest.mark.parametrize(
        "path", ["//evil.example/admin", "//evil.example", "/\\evil.example/admin", "/admin//evil.example"]
    )
    def test_a_missing_slash_is_added_on_the_same_host(self, admin_client: Client, path: str) -> None:
        answer = admin_client.get(path)
        assert not re.match(r"(https?:)?[/\\]{2}", answer.headers.get("Location", ""))

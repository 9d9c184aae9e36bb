"""Owners and operators who change tenants without a pause, and what they know of them."""

import contextlib
import itertools
import random
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import ANY

import httpx

from tests.servers import LiveServer

AT_ONCE = 4
QUOTA = 7

ADA = """
from django.contrib.auth import get_user_model
get_user_model().objects.create_superuser("ada@example.com", password="ada-password")
"""
# Prints every account as it is, by its name. Fails if a row is not valid or a secret cannot be decrypted.
LOOK = """
import json
from django.apps import apps
from django.db import connection
from accounts import crypto
from accounts.models import Account

if connection.vendor == "sqlite":
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        # FULL: what is committed is on disk, for the kill that no test can do, that of the machine.
        assert cursor.execute("PRAGMA synchronous").fetchall() == [(2,)]
connection.check_constraints()
for model in apps.get_app_config("accounts").get_models():
    for row in model._default_manager.all():
        row.full_clean()

def keys(cluster):
    return {
        key.label: [key.public_key, crypto.decrypt(key.secret_ciphertext), key.revoked] for key in cluster.keys.all()
    }

def picture(account):
    return {
        "owners": [membership.user.email for membership in account.memberships.filter(role="owner")],
        "quota": account.max_connections,
        "suspended": account.suspended,
        "clusters": {cluster.cluster_id: keys(cluster) for cluster in account.clusters.all()},
    }

print(json.dumps({account.name: picture(account) for account in Account.objects.all()}))
"""

Picture = dict[str, Any] | None
"""What LOOK prints of an account; None where there is none."""


class Tenant:
    """An account as its owner knows it by the answers, and as it is if a request that got no answer was carried out."""

    def __init__(self, http: httpx.Client, name: str) -> None:
        self._http = http
        self.name = name
        self.answered: Picture = None
        self.possible: Picture = None

    def live(self) -> None:
        """Make what there is to make, change it and delete it, one request after the other.

        Raises:
            httpx.TransportError: a request got no answer.
        """
        fresh = {"owners": ["ada@example.com"], "quota": QUOTA, "suspended": False, "clusters": {}}

        def with_keys(**keys: list[Any]) -> Picture:
            return {**fresh, "clusters": {self.name: keys}}

        def key(said: dict[str, Any], *, revoked: bool = False) -> list[Any]:
            return [said["public_key"], said["secret"], revoked]

        account = self._post("accounts/", {"name": self.name, "max_connections": QUOTA}, lambda _: fresh)["id"]
        if random.random() < 0.5:
            return  # many accounts are made, and no two owners are in step for long
        cluster = self._post("clusters/", {"account": account, "cluster_id": self.name}, lambda _: with_keys())["id"]
        web = self._post("keys/", {"cluster": self.name, "label": "web"}, lambda said: with_keys(web=key(said)))
        path = f"keys/{web['public_key']}/"
        web = self._post(f"{path}rotate-secret/", {}, lambda said: with_keys(web=key(said)))
        self._ask("PATCH", f"/api/v1/{path}", lambda _: with_keys(old=key(web)), json={"label": "old"})
        body = {"cluster": self.name, "label": "new"}
        new = self._post("keys/", body, lambda said: with_keys(old=key(web), new=key(said)))
        both = with_keys(old=key(web, revoked=True), new=key(new))
        self._ask("DELETE", f"/api/v1/{path}", lambda _: both)
        for action, suspended in (("suspend", True), ("resume", False)):
            form = {"action": action, "_selected_action": account}
            changed = {**(both or {}), "suspended": suspended}
            self._ask("POST", "/admin/accounts/account/", lambda _, changed=changed: changed, data=form)
        # Half of them stay, to be asked for after later kills.
        if random.random() < 0.5:
            self._ask("DELETE", f"/api/v1/clusters/{cluster}/", lambda _: fresh)
            self._ask("DELETE", f"/api/v1/accounts/{account}/", lambda _: None)

    def _post(self, path: str, body: dict[str, Any], after: Callable[[dict[str, Any]], Picture]) -> dict[str, Any]:
        return self._ask("POST", f"/api/v1/{path}", after, json=body)

    def _ask(self, method: str, path: str, after: Callable[[dict[str, Any]], Picture], **body: Any) -> dict[str, Any]:
        """Send a request and return what is answered; `after` makes the new picture of it."""
        self.possible = after(defaultdict(lambda: ANY))
        answer = self._http.request(method, path, **body)
        assert answer.status_code in (200, 201, 204, 302), answer.text
        said = answer.json() if answer.headers.get("content-type") == "application/json" else {}
        self.answered = self.possible = after(said)
        return said


class Owners:
    """Some who own many accounts, and work all at once; to the service they are one person."""

    def __init__(self, server: LiveServer) -> None:
        """The server is started, and its database migrated."""
        self._server = server
        self._numbers = itertools.count()
        self.tenants: list[Tenant] = []
        server.manage("shell", "-v", "0", "-c", ADA)
        with httpx.Client(base_url=self._server.url("", scheme="http"), trust_env=False) as http:
            http.get("/admin/login/")
            form = {
                "username": "ada@example.com",
                "password": "ada-password",
                "csrfmiddlewaretoken": http.cookies["csrftoken"],
            }
            assert http.post("/admin/login/", data=form).status_code == 302
            self._cookies = dict(http.cookies)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Have them work, until the server is killed at the end."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            working = [pool.submit(self._work) for _ in range(AT_ONCE)]
            try:
                yield
            finally:
                self._server.stop(signal.SIGKILL)
        for work in working:
            work.result()

    def _work(self) -> None:
        headers = {"x-csrftoken": self._cookies["csrftoken"]}
        url = self._server.url("", scheme="http")
        with (
            httpx.Client(base_url=url, trust_env=False, cookies=self._cookies, headers=headers) as http,
            contextlib.suppress(httpx.TransportError),
        ):
            while True:
                tenant = Tenant(http, f"tenant-{next(self._numbers)}")
                self.tenants.append(tenant)
                tenant.live()

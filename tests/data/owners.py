"""Owners who change their tenants continuously, and the state that each tenant must have afterwards."""

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

CONCURRENT_OWNERS = 4
QUOTA = 7

ADA = """
from django.contrib.auth import get_user_model
get_user_model().objects.create_superuser("ada@example.com", password="ada-password")
"""
# Prints the state of every account by its name. Fails if a row is invalid or a secret cannot be decrypted.
LOOK = """
import json
from django.apps import apps
from django.db import connection
from accounts import crypto
from accounts.models import Account

if connection.vendor == "sqlite":
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        # FULL: a commit is on disk, so it also survives a power failure, which no test can cause.
        assert cursor.execute("PRAGMA synchronous").fetchall() == [(2,)]
connection.check_constraints()
for model in apps.get_app_config("accounts").get_models():
    for row in model._default_manager.all():
        row.full_clean()

def keys(cluster):
    return {
        key.label: [key.public_key, crypto.decrypt(key.secret_ciphertext), key.revoked] for key in cluster.keys.all()
    }

def state(account):
    return {
        "owners": [membership.user.email for membership in account.memberships.filter(role="owner")],
        "quota": account.max_connections,
        "suspended": account.suspended,
        "clusters": {cluster.cluster_id: keys(cluster) for cluster in account.clusters.all()},
    }

print(json.dumps({account.name: state(account) for account in Account.objects.all()}))
"""

State = dict[str, Any] | None
"""An account as LOOK prints it, or None if there is no such account."""


class Tenant:
    """An account in two states: after the last answer, and after a request that may have got no answer."""

    def __init__(self, http: httpx.Client, name: str) -> None:
        self._http = http
        self.name = name
        self.answered: State = None
        self.possible: State = None

    def live(self) -> None:
        """Create an account with everything in it, change it and delete it, one request after the other.

        Raises:
            httpx.TransportError: a request got no answer.
        """
        fresh = {"owners": ["ada@example.com"], "quota": QUOTA, "suspended": False, "clusters": {}}

        def with_keys(**keys: list[Any]) -> State:
            return {**fresh, "clusters": {self.name: keys}}

        def key(result: dict[str, Any], *, revoked: bool = False) -> list[Any]:
            return [result["public_key"], result["secret"], revoked]

        account = self._post("accounts/", {"name": self.name, "max_connections": QUOTA}, lambda _: fresh)["id"]
        if random.random() < 0.5:
            return  # this creates more accounts and keeps the owners out of step
        cluster = self._post("clusters/", {"account": account, "cluster_id": self.name}, lambda _: with_keys())["id"]
        web = self._post("keys/", {"cluster": self.name, "label": "web"}, lambda result: with_keys(web=key(result)))
        path = f"keys/{web['public_key']}/"
        web = self._post(f"{path}rotate-secret/", {}, lambda result: with_keys(web=key(result)))
        self._request("PATCH", f"/api/v1/{path}", lambda _: with_keys(old=key(web)), json={"label": "old"})
        body = {"cluster": self.name, "label": "new"}
        new = self._post("keys/", body, lambda result: with_keys(old=key(web), new=key(result)))
        both = with_keys(old=key(web, revoked=True), new=key(new))
        self._request("DELETE", f"/api/v1/{path}", lambda _: both)
        for action, suspended in (("suspend", True), ("resume", False)):
            form = {"action": action, "_selected_action": account, "confirmed": "yes"}
            changed = {**(both or {}), "suspended": suspended}
            self._request("POST", "/admin/accounts/account/", lambda _, changed=changed: changed, data=form)
        # Half of the accounts stay and are checked again after later kills.
        if random.random() < 0.5:
            self._request("DELETE", f"/api/v1/clusters/{cluster}/", lambda _: fresh)
            self._request("DELETE", f"/api/v1/accounts/{account}/", lambda _: None)

    def _post(self, path: str, body: dict[str, Any], after: Callable[[dict[str, Any]], State]) -> dict[str, Any]:
        return self._request("POST", f"/api/v1/{path}", after, json=body)

    def _request(self, method: str, path: str, after: Callable[[dict[str, Any]], State], **body: Any) -> dict[str, Any]:
        """Send a request and return the JSON of its answer, from which `after` derives the new state of the account."""
        self.possible = after(defaultdict(lambda: ANY))
        answer = self._http.request(method, path, **body)
        assert answer.status_code in (200, 201, 204, 302), answer.text
        result = answer.json() if answer.headers.get("content-type") == "application/json" else {}
        self.answered = self.possible = after(result)
        return result


class Owners:
    """Several owners who work concurrently on many accounts, all with the same login."""

    def __init__(self, server: LiveServer) -> None:
        """Log in to a running server whose database is migrated."""
        self._server = server
        self._numbers = itertools.count()
        self.tenants: list[Tenant] = []
        server.shell(ADA)
        with httpx.Client(base_url=self._server.url("", scheme="http"), trust_env=False) as http:
            http.get("/console/you/login/")
            form = {
                "login": "ada@example.com",
                "password": "ada-password",
                "csrfmiddlewaretoken": http.cookies["csrftoken"],
            }
            assert http.post("/console/you/login/", data=form).status_code == 302
            self._cookies = dict(http.cookies)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Let the owners work until the end of the context, then kill the server."""
        with ThreadPoolExecutor(CONCURRENT_OWNERS) as pool:
            working = [pool.submit(self._work) for _ in range(CONCURRENT_OWNERS)]
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

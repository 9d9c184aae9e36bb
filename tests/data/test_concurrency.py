"""Many requests at the same time, to a running service on SQLite or PostgreSQL."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.data.owners import ADA
from tests.servers import LiveServer, free_port
from tests.webhooks import SETTINGS

ROUNDS = 12
ATTEMPTS = 3
"""A busy machine may delay any single attempt."""
DELETION_SECONDS = 1.0
OTHERS_WAIT_SECONDS = 0.1
PRUNING_SECONDS = 20
MANY_KEYS = """
from accounts import crypto, services
from accounts.models import ApiKey
ciphertext = crypto.encrypt("x" * 60)
clusters = []
for name, keys in (("few", 3_000), ("many", 7_000)):
    account = account if clusters else services.create_account("Large")
    clusters.append(services.create_cluster(account, name))
    ApiKey.objects.bulk_create(
        [ApiKey(cluster=clusters[-1], label="x", secret_ciphertext=ciphertext) for _ in range(keys)]
    )
from accounts.models import Role
from accounts.users import User
services.add_member(account, User.objects.get(), Role.OWNER)
print(account.pk, clusters[0].pk)
"""
WEBHOOKS, DELIVERIES = 3, 10_000
FULL_LOGS = f"""
from django.db import connection
from django.utils import timezone
from accounts import services
from accounts.models import Role
from accounts.users import User
account = services.create_account("Large", User.objects.get())
cluster = services.create_cluster(account, "logs")
for _ in range({WEBHOOKS}):
    webhook = services.create_webhook(cluster, "https://example.com/", kinds=["client_event"], enabled=False).webhook
    with connection.cursor() as cursor:
        cursor.execute(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {DELIVERIES}) "
            "INSERT INTO accounts_webhookdelivery "
            "(webhook_id, message_id, events, size, count, in_order, state, tries, "
            "attempts, attempts_size, created_at, waiting_since, next_at, lease) "
            "SELECT %s, 'msg_' || %s || '_' || n, %s, 3000, 1, false, "
            "CASE WHEN n %% 2 = 0 THEN 'delivered' ELSE 'waiting' END, 0, '[]', 2, %s, %s, %s, '' FROM numbers",
            [webhook.pk, webhook.pk, '[{{"name":"client_event","data":"' + "x" * 2970 + '"}}]', *[timezone.now()] * 3],
        )
print(account.pk, cluster.pk, webhook.pk)
"""
LEFT_BEHIND = "from accounts.models import WebhookDelivery; print(WebhookDelivery.objects.count())"
DELETIONS = """
import json
from accounts.models import ApiKey, AuditEntry, Cluster
entries = AuditEntry.objects.filter(verb="deleted").values_list("kind", "name")
print(json.dumps([ApiKey.objects.count(), Cluster.objects.count(), list(entries)]))
"""
CONSISTENT = "from django.db import connection; connection.check_constraints(); print('consistent')"


@pytest.fixture
def server(service: Callable[..., LiveServer], tmp_path: Path) -> LiveServer:
    server = service(tmp_path, **SETTINGS)
    server.manage("migrate", "-v", "0")
    server.shell(ADA)
    return server.start()


@pytest.fixture
def api(server: LiveServer) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Token {server.token('ada@example.com')}"}
    url = server.url("/api/v1/", scheme="http")
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


def test_changes_of_something_that_is_being_deleted_never_fail(server: LiveServer, api: httpx.Client) -> None:
    """They succeed, or the answer says that it is gone."""

    def post(path: str, **body: Any) -> Any:
        return api.post(path, json=body).json()

    statuses: Counter[int] = Counter()
    for number in range(ROUNDS):
        account = post("accounts/", name="A")["id"]
        cluster = post("clusters/", account=account, cluster_id=f"c{number}")["id"]
        key = post("keys/", cluster=f"c{number}", label="x")["public_key"]
        # Nothing listens there, so the senders write down failures while everything is deleted.
        url = f"http://127.0.0.1:{free_port()}/"
        webhook = post("webhooks/", cluster=f"c{number}", url=url, kinds=["client_event"])["id"]
        for _ in range(3):
            post(f"webhooks/{webhook}/test/")
        requests: list[tuple[str, str, Any]] = [
            ("DELETE", f"accounts/{account}/" if number % 2 else f"clusters/{cluster}/", None),
            ("DELETE", f"accounts/{account}/", None),
            ("DELETE", f"clusters/{cluster}/", None),
            ("DELETE", f"keys/{key}/", None),
            ("DELETE", f"webhooks/{webhook}/", None),
            ("PATCH", f"webhooks/{webhook}/", {"batches": True}),
            ("POST", f"webhooks/{webhook}/rotate-secret/", None),
            *(("POST", f"webhooks/{webhook}/{action}/", None) for action in ("test", "test", "redeliver")),
            ("PATCH", f"accounts/{account}/", {"name": "B", "max_connections": 5}),
            ("PATCH", f"clusters/{cluster}/", {"enabled": False}),
            ("PATCH", f"keys/{key}/", {"label": "y"}),
            ("POST", f"keys/{key}/rotate-secret/", None),
            ("POST", f"accounts/{account}/invitations/", {"email": "a@example.com"}),
            *(("POST", "clusters/", {"account": account, "cluster_id": f"c{number}-{n}"}) for n in range(3)),
            *(("POST", "keys/", {"cluster": f"c{number}", "label": "y"}) for _ in range(3)),
        ]
        random.shuffle(requests)
        start = threading.Barrier(len(requests))

        def send(request: tuple[str, str, Any], start: threading.Barrier = start) -> httpx.Response:
            method, path, body = request
            start.wait()
            return api.request(method, path, json=body)

        with ThreadPoolExecutor(len(requests)) as pool:
            answers = list(pool.map(send, requests))
        for answer in answers:
            # 400: the account or the cluster that a body names does not exist. 403: nobody is the owner any more.
            assert answer.status_code in (200, 201, 202, 204, 400, 403, 404, 409), (answer.request.url, answer.text)
        statuses.update(answer.status_code for answer in answers)
    assert statuses[204] >= ROUNDS
    assert statuses[404] + statuses[400] + statuses[409] > 0
    assert server.shell(CONSISTENT) == "consistent\n"
    assert "Traceback" not in server.log
    assert "database error" not in server.log


def slowest_write_during(
    api: httpx.Client, account: int, action: Callable[[], object], quiet: float = 0.0
) -> tuple[float, float]:
    """Return how much longer than `quiet` the slowest change of an account took while `action` ran, and how long the
    action took, in seconds."""
    waits, ended = [], threading.Event()

    def write() -> None:
        while not ended.is_set():
            began = time.perf_counter()
            assert api.patch(f"accounts/{account}/", json={"name": str(began)}).status_code == 200
            waits.append(time.perf_counter() - began)

    thread = threading.Thread(target=write)
    thread.start()
    while len(waits) < 5:
        time.sleep(0.01)
    waits.clear()
    began = time.perf_counter()
    action()
    seconds = time.perf_counter() - began
    ended.set()
    thread.join()
    return max(waits) - quiet, seconds


def test_deleting_thousands_of_keys_is_fast_and_keeps_nobody_waiting(server: LiveServer, api: httpx.Client) -> None:
    other = api.post("accounts/", json={"name": "Other"}).json()["id"]
    best = {"clusters": (9.0, 9.0), "accounts": (9.0, 9.0)}
    for _ in range(ATTEMPTS):
        quiet, _ = slowest_write_during(api, other, lambda: time.sleep(1))  # other tests may have begun or ended
        account, cluster = server.shell(MANY_KEYS).split()
        for kind, pk in (("clusters", cluster), ("accounts", account)):

            def delete(path: str = f"{kind}/{pk}/") -> None:
                assert api.delete(path).status_code == 204

            best[kind] = min(best[kind], slowest_write_during(api, other, delete, quiet))
        keys, clusters, entries = json.loads(server.shell(DELETIONS))
        assert (keys, clusters) == (0, 0)
        assert [["account", account], ["cluster", "few"]] == entries[:2]
    for wait, seconds in best.values():
        assert seconds < DELETION_SECONDS, best
        assert wait < OTHERS_WAIT_SECONDS, best


def test_deleting_webhooks_with_full_logs_is_fast_and_keeps_nobody_waiting(
    server: LiveServer, api: httpx.Client
) -> None:
    """Neither does the pruning of what they leave behind, which begins when the server starts."""
    other = api.post("accounts/", json={"name": "Other"}).json()["id"]
    kinds = ("webhooks", "clusters", "accounts")
    best = dict.fromkeys((*kinds, "pruning"), (9.0, 9.0))

    def are_good() -> bool:
        waits = [wait for wait, _ in best.values()]
        return max(waits) < OTHERS_WAIT_SECONDS and all(best[kind][1] < DELETION_SECONDS for kind in kinds)

    for _ in range(ATTEMPTS):
        quiet, _ = slowest_write_during(api, other, lambda: time.sleep(1))  # other tests may have begun or ended
        account, cluster, webhook = server.shell(FULL_LOGS).split()
        for kind, pk in (("webhooks", webhook), ("clusters", cluster), ("accounts", account)):

            def delete(path: str = f"{kind}/{pk}/") -> None:
                assert api.delete(path).status_code == 204

            best[kind] = min(best[kind], slowest_write_during(api, other, delete, quiet))
        left = int(server.shell(LEFT_BEHIND))
        server.stop()
        server.start()
        best["pruning"] = min(best["pruning"], slowest_write_during(api, other, lambda: time.sleep(2), quiet))
        deadline = time.monotonic() + PRUNING_SECONDS
        while int(server.shell(LEFT_BEHIND)) >= left:
            assert time.monotonic() < deadline
        if are_good():
            break
    assert are_good(), best

"""Webhooks of a real server: independent libraries verify them, and a killed server loses none."""

import json
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pusher
import pytest
from standardwebhooks import Webhook as StandardWebhook

from tests.receivers import Received, Receiver, Reply
from tests.servers import LiveServer
from tests.webhooks import SETTINGS, Tenant

SLOW_TENANTS = """
from accounts import services
from accounts.webhooks.queue import NewDelivery, add
for tenant in range(8):
    cluster = services.create_cluster(services.create_account(f"Tenant {{tenant}}"), f"tenant-{{tenant}}")
    for _ in range(4):
        webhook = services.create_webhook(cluster, {url!r}, kinds=["client_event"]).webhook
        add([NewDelivery.of(webhook.pk, [{{"name": "client_event"}}]) for _ in range(40)])
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture(params=["serve", "daphne"])
def server(request: pytest.FixtureRequest, start: Callable[..., LiveServer]) -> LiveServer:
    return start(request.param, **SETTINGS)


def test_libraries_of_others_verify_every_attempt(
    server: LiveServer, receiver: Receiver, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    """The server has no client yet: a node sends from the moment that its process runs."""
    receiver.reply = lambda _: Reply(500 if len(receiver.requests) == 1 else 200)
    tenant = Tenant(server, receiver)
    tenant.enqueue(1)
    tenant.wait(lambda tenant: len(tenant.receiver.requests) == 2)
    first, second = receiver.requests
    for got in (first, second):
        assert StandardWebhook(tenant.secret).verify(got.body.decode(), got.headers) == json.loads(got.body)
        # PyPI's package knows one key; which one it is, the header tells.
        name = next(name for name, key in keys.items() if key == got.headers["x-pusher-key"])
        library = pusher.Pusher("1", keys[name], secrets[name])
        checked = library.validate_webhook(got.headers["x-pusher-key"], got.headers["x-pusher-signature"], got.body)
        assert checked == json.loads(got.body)
        assert got.headers["content-type"] == "application/json"
        assert got.headers["x-mine"] == "1"
    assert first.id == second.id
    assert first.headers["webhook-timestamp"] <= second.headers["webhook-timestamp"]
    assert first.headers["x-pusher-signature"] != second.headers["x-pusher-signature"]
    tenant.wait(lambda tenant: tenant.log()[0][1] == "delivered")
    [[_, _, attempts]] = tenant.log()
    assert [attempt["status"] for attempt in attempts] == [500, 200]
    assert abs((datetime.fromisoformat(attempts[0]["at"]) - datetime.now(UTC)).total_seconds()) < 100


def test_a_server_killed_in_the_middle_of_a_thousand_deliveries_loses_none(
    start: Callable[..., LiveServer], receiver: Receiver
) -> None:
    server = start("serve", **SETTINGS)
    tenant = Tenant(server, receiver)
    tenant.enqueue(1_000)
    tenant.wait(lambda tenant: len(tenant.receiver.requests) >= 300)
    server.stop(signal.SIGKILL)
    assert len(receiver.requests) < 1_000
    server.start()
    tenant.wait(lambda tenant: set(tenant.numbers()) == set(range(1_000)))
    ids: dict[int, set[str]] = {}
    for got in receiver.requests:
        ids.setdefault(got.events[0]["number"], set()).add(got.id)
    assert {len(of_event) for of_event in ids.values()} == {1}
    tenant.wait(lambda tenant: {state for _, state, _ in tenant.log()} == {"delivered"})


def test_states_arrive_in_order(server: LiveServer, receiver: Receiver) -> None:
    receiver.reply = lambda got: Reply(seconds=0.05 if got.events[0]["number"] % 2 else 0)
    tenant = Tenant(server, receiver)
    tenant.enqueue(50, in_order=True)
    tenant.wait(lambda tenant: len(tenant.receiver.requests) == 50)
    assert tenant.numbers() == list(range(50))


def test_a_dead_endpoint_of_one_webhook_does_not_delay_another(start: Callable[..., LiveServer]) -> None:
    def hang(_: Received) -> Reply:
        return Reply(seconds=30)

    with Receiver(hang) as dead, Receiver() as alive:
        server = start("serve", **SETTINGS)
        slow, quick = Tenant(server, dead), Tenant(server, alive)
        slow.enqueue(100)
        slow.wait(lambda tenant: len(tenant.receiver.requests) >= 4)
        quick.enqueue(100)
        quick.wait(lambda tenant: len(tenant.receiver.requests) == 100, seconds=20)
        assert len(dead.requests) <= 8
        server.stop(signal.SIGKILL)


@pytest.mark.parametrize("seconds", [9, 30], ids=["slow", "never"])
def test_slow_receivers_of_many_tenants_do_not_delay_another_tenant(
    start: Callable[..., LiveServer], seconds: float
) -> None:
    with Receiver(lambda _: Reply(seconds=seconds)) as slow, Receiver() as alive:
        server = start("serve", **SETTINGS)
        quick = Tenant(server, alive, "other")
        server.shell(SLOW_TENANTS.format(url=slow.url))
        quick.wait(lambda _: len(slow.requests) >= 32)
        for number in range(1, 4):
            quick.enqueue(10)
            quick.wait(lambda tenant, number=number: len(tenant.receiver.requests) == 10 * number, seconds=20)  # type: ignore[misc]
        server.stop(signal.SIGKILL)

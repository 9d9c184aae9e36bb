"""Senders of webhooks sleep while nothing is due, and start promptly when somebody asks for a delivery anywhere."""

import json
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from realtime.webhooks.sender import IDLE_SECONDS
from tests.nodes.service import Service
from tests.receivers import Receiver
from tests.webhooks import SETTINGS, Tenant

ROUNDS = 5
# Otherwise, a node would notice a delivery after half of the time on average.
PROMPT_SECONDS = ROUNDS * IDLE_SECONDS / 4
OWNER = """
from django.contrib.auth import get_user_model
from accounts import services
from accounts.models import Account
owner = get_user_model().objects.create_user("owner@example.com", password="owner-password")
services.add_member(Account.objects.get(name="acme"), owner, role="owner")
"""
# A command, whose process sends nothing itself.
REDELIVER = """
import json, time
from accounts import services
from accounts.models import WebhookDelivery
delivery, seconds = WebhookDelivery.objects.get(), 0.0

def wait():
    while WebhookDelivery.objects.get().state != "delivered":
        time.sleep(0.01)

wait()
for _ in range({rounds}):
    began = time.monotonic()
    services.redeliver(delivery)
    wait()
    seconds += time.monotonic() - began
print(json.dumps([delivery.message_id, seconds]))
"""


def test_a_redelivery_starts_promptly_wherever_it_is_asked_for(tmp_path: Path) -> None:
    with ExitStack() as services:
        service = Service(tmp_path, services, **SETTINGS)
        for node in service.nodes:
            services.callback(node.stop, signal.SIGKILL)
        receiver = services.enter_context(Receiver())
        service.issue_key("acme")
        tenant = Tenant(service.nodes[1], receiver, "acme")
        tenant.enqueue(1)
        message_id, seconds = json.loads(service.shell(REDELIVER.format(rounds=ROUNDS)))
        assert seconds < PROMPT_SECONDS
        service.shell(OWNER)
        url = service.nodes[0].url("/api/v1/", scheme="http")
        headers = {"Authorization": f"Token {service.nodes[0].token('owner@example.com')}"}
        seconds = 0.0
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as http:
            path = f"webhooks/{tenant.pk}/deliveries/{message_id}/"
            for _ in range(ROUNDS):
                began = time.monotonic()
                assert http.post(f"{path}redeliver/").status_code == 202
                while http.get(path).json()["state"] != "delivered":
                    time.sleep(0.05)
                seconds += time.monotonic() - began
        assert seconds < PROMPT_SECONDS
        assert len(receiver.requests) == 1 + 2 * ROUNDS

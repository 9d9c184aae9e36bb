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

ROUNDS = 4
OWNER = """
import json
from django.contrib.auth import get_user_model
from accounts import services
from accounts.models import Account, WebhookDelivery
delivery = WebhookDelivery.objects.get()
owner = get_user_model().objects.create_user("owner@example.com", password="owner-password")
services.add_member(Account.objects.get(name="acme"), owner, role="owner")
print(json.dumps([delivery.pk, delivery.message_id]))
"""
REDELIVER = """
from accounts import services
from accounts.models import WebhookDelivery
services.redeliver(WebhookDelivery.objects.get(pk={pk}))
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
        tenant.wait(lambda tenant: [state for _, state, _ in tenant.log()] == ["delivered"])
        pk, message_id = json.loads(service.shell(OWNER))
        url = service.nodes[0].url("/api/v1/", scheme="http")
        headers = {"Authorization": f"Token {service.nodes[0].token('owner@example.com')}"}
        waited = dict.fromkeys(("rest", "command"), 0.0)
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as http:
            for number in range(2 * ROUNDS):
                by = "rest" if number % 2 else "command"
                asked = len(receiver.requests) + 1
                if by == "rest":
                    answer = http.post(f"webhooks/{tenant.pk}/deliveries/{message_id}/redeliver/")
                    assert answer.status_code == 202, answer.text
                else:  # such a process has no sender
                    service.shell(REDELIVER.format(pk=pk))
                began = time.monotonic()
                tenant.wait(lambda tenant, asked=asked: len(tenant.receiver.requests) == asked)  # type: ignore[misc]
                waited[by] += time.monotonic() - began
                tenant.wait(lambda tenant: [state for _, state, _ in tenant.log()] == ["delivered"])
        # Otherwise, a node would notice a delivery after half of this time on average.
        assert max(waited.values()) < ROUNDS * IDLE_SECONDS / 4

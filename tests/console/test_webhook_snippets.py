"""The code with which a tenant's server verifies webhooks: it takes what this service signs, and nothing else."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from accounts.console.webhook_snippets import VERIFYING
from accounts.webhooks.signing import body_of, headers_of, new_message_id, new_secret
from tests.servers import need

KEY = ("key", "secret of the key")
EVENTS = [{"name": "channel_occupied", "channel": "orders-1"}, {"name": "client_event", "data": "Grüße"}]
CODE = {snippet.name: snippet.code for snippet in VERIFYING}
RUN_IN_NODE = """
import { eventsOf } from "./receiver.mjs";
const { body, headers } = JSON.parse(process.argv[2]);
try {
  console.log(JSON.stringify(eventsOf(body, headers)));
} catch (error) {
  console.log(JSON.stringify(error.constructor.name));
}
"""


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    secret = new_secret()
    monkeypatch.setenv("WEBHOOK_SECRET", secret)
    monkeypatch.setenv("WEBHOOK_KEY", KEY[0])
    monkeypatch.setenv("WEBHOOK_KEY_SECRET", KEY[1])
    return secret


def request(secret: str, key: tuple[str, str] = KEY) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a request."""
    body = body_of(json.dumps(EVENTS, ensure_ascii=False), int(time.time() * 1000))
    return body, dict(headers_of(body, new_message_id(), int(time.time()), [secret], key))


@pytest.mark.parametrize("name", ["python", "pusher"])
def test_python_verifies_requests(secret: str, name: str) -> None:
    code: dict[str, Any] = {}
    exec(CODE[name], code)
    body, headers = request(secret)
    assert code["events_of"](body, headers) == EVENTS
    for other in ((body + b" ", headers), request(new_secret(), ("key", "another secret"))):
        with pytest.raises(Exception, match=r"[Ss]ignature"):
            code["events_of"](*other)


def test_node_verifies_requests(secret: str, packages: Path) -> None:
    need("node")
    (packages / "receiver.mjs").write_text(CODE["node"])
    (packages / "run.mjs").write_text(RUN_IN_NODE)

    def run(body: bytes, headers: dict[str, str]) -> Any:
        sent = json.dumps({"body": body.decode(), "headers": headers})
        command = ["node", "run.mjs", sent]
        answer = subprocess.run(command, cwd=packages, check=True, timeout=60, capture_output=True, text=True)
        return json.loads(answer.stdout)

    body, headers = request(secret)
    assert run(body, headers) == EVENTS
    assert run(body + b" ", headers) == "WebhookVerificationError"
    assert run(*request(new_secret())) == "WebhookVerificationError"

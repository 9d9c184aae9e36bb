"""Every function of the WebSocket tester on the front page works in Chromium."""

import json
import shutil
import subprocess
from pathlib import Path

from tests.servers import LiveServer, need


def test_two_clients_exchange_messages_get_a_publish_and_join_a_private_channel(
    server: LiveServer, node_modules: Path, channel: str, secret: str
) -> None:
    need("chromium-headless-shell")
    arguments = {
        "executablePath": shutil.which("chromium-headless-shell"),
        "url": server.url("/", host="localhost", scheme="http"),
        "channel": channel,
        "secret": secret,
    }
    process = subprocess.run(
        ["node", "tester.mjs", json.dumps(arguments)], cwd=node_modules, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert json.loads(process.stdout) == {
        "errors": [],
        "members": [["2", "Ada", "<b>Grace</b>"], ["2", "<b>Grace</b>", "Ada"]],
        "pusherMembers": [["Ada", "<b>Grace</b>"], ["<b>Grace</b>", "Ada"]],
        "published": '200 {"success":true}',
        "remaining": ["Ada"],
        "v4Members": [["Ada", "<b>Grace</b>"], ["<b>Grace</b>", "Ada"]],
        "signed": f"Signed a token for the channel 1/private-{channel}, valid for one hour.",
    }

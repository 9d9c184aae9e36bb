"""The socket tester of the front page, in Chromium: what it says can be done there can be done."""

import json
import shutil
import subprocess
from pathlib import Path

from tests.servers import LiveServer, need


def test_two_clients_meet_are_published_to_and_enter_a_private_channel(
    server: LiveServer, node_modules: Path, channel: str, secret: str
) -> None:
    need("chromium")
    given = {
        "executablePath": shutil.which("chromium"),
        "url": server.url("/", host="localhost", scheme="http"),
        "channel": channel,
        "secret": secret,
    }
    done = subprocess.run(
        ["node", "tester.mjs", json.dumps(given)], cwd=node_modules, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == {
        "faults": [],
        "here": [["2", "Ada", "<b>Grace</b>"], ["2", "<b>Grace</b>", "Ada"]],
        "published": '200 {"success":true}',
        "left": ["Ada"],
        "signed": f"For the channel private-{channel}, for an hour.",
    }

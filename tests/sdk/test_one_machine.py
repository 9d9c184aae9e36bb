"""The page that tries piesocket-js on one machine, made and opened as realtime/README.md says."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import open_page
from tests.documentation import code_blocks
from tests.servers import PROJECT, LiveServer, environment, free_port, need


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """The server that the commands start, with the page and the certificate in `.data/sdk` of its directory."""
    need("npm", "openssl")
    port = free_port()
    (program,) = (
        block for block in code_blocks("realtime/README.md", "bash") if "npm install --prefix .data/sdk" in block
    )
    program = program.replace(":8443", f":{port}").replace("manage.py", str(PROJECT / "manage.py"))
    program = program.replace(".venv/bin/python", sys.executable).replace(
        ".venv/bin/daphne", f"{sys.executable} -m daphne"
    )
    *steps, serve = program.splitlines()
    command = ["bash", "-eu", "-c", "\n".join(steps)]
    env = {**os.environ, **environment(tmp_path)}  # npm may need more of it
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    server = LiveServer(tmp_path, serve.replace(".data/sdk", str(tmp_path / ".data" / "sdk")).split(), port)
    server.start()
    yield server
    server.stop()


async def test_the_page_publishes_and_receives(server: LiveServer) -> None:
    async with open_page() as page:
        # A person would accept the certificate in the browser.
        await page.send("Security.setIgnoreCertificateErrors", ignore=True)
        await page.open(f"file://{server.directory}/.data/sdk/page.html")
        await page.wait_for("document.body?.innerText === 'Hello!'")

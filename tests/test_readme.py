"""What the README and the changelog say is what happens."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from piesite import __version__
from tests.clients import open_client
from tests.metrics import scrape
from tests.servers import PROJECT, LiveServer

README = (PROJECT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def server(start: Callable[..., LiveServer]) -> LiveServer:
    return start("serve")


def test_the_first_message_in_python(server: LiveServer) -> None:
    program = blocks("python")[0].replace("localhost:8000", f"127.0.0.1:{server.port}")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.returncode) == ("Hello!\n", 0), done.stderr


def test_the_first_message_in_javascript(server: LiveServer) -> None:
    if not shutil.which("node"):
        pytest.skip("The browser's program runs in Node here, which is not on PATH.")
    program = blocks("js")[0].replace("demo.localhost:8000", f"127.0.0.1:{server.port}")
    command = ["node", "--experimental-websocket", "-e", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        try:
            assert node.stdout.readline() == "Hello!\n"
        finally:
            node.kill()


def test_issuing_a_key_with_curl(server: LiveServer) -> None:
    server.manage("shell", "-v", "0", "-c", MAKE_ADA)
    program = next(block for block in blocks("bash") if "api()" in block).replace(":8000", f":{server.port}")
    done = subprocess.run(["bash", "-eu", "-c", program], input="ada-password\n", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r'"cluster_id":"acme".*"cluster":"acme","label":"website".*"secret":"[\w-]{60}"', done.stdout)


def run_with_project(server: LiveServer, program: str) -> str:
    """Run a block for bash beside the server, with its database; return what it prints."""
    program = program.replace(":8000", f":{server.port}").replace(".venv/bin/python", sys.executable)
    command = ["bash", "-eu", "-c", program]
    done = subprocess.run(command, cwd=PROJECT, env=server.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_publishing_with_curl(server: LiveServer) -> None:
    assert run_with_project(server, next(block for block in blocks("bash") if "publish()" in block)) == SUCCESS


async def test_the_token_command_s_url_opens_the_private_channel(server: LiveServer) -> None:
    printed = run_with_project(server, next(block for block in blocks("bash") if " token " in block))
    url = printed.rpartition("url: ")[2].strip()
    async with open_client(server, url.partition(f"localhost:{server.port}")[2]) as client:
        await client.settle()


SUCCESS = '{"success":true}'
MAKE_ADA = """
from django.contrib.auth import get_user_model
get_user_model().objects.create_user("ada@example.com", password="ada-password")
"""


def test_every_setting_is_in_its_table() -> None:
    settings = (PROJECT / "piesite" / "settings.py").read_text()
    names = set(re.findall(r'env\.\w+\("(\w+)"', settings))
    missing = sorted(name for name in names if f"`{name}`" not in README)
    assert "DATABASE_URL" in names
    assert missing == []


def test_every_metric_is_in_its_table(server: LiveServer) -> None:
    names = re.findall(r"^# TYPE piesocket_(\w+)", scrape(server).text, re.MULTILINE)
    missing = [name for name in names if f"`{name}`" not in README]
    assert "connections" in names
    assert missing == []


def test_the_changelog_begins_with_the_current_version() -> None:
    changelog = (PROJECT / "CHANGELOG.md").read_text()
    first = re.search(r"^## \[(.*)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    assert first is not None
    assert first[1] == __version__

"""The programs on the pages of the documentation work, and their tables and the changelog are complete."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from piesite import __version__
from tests.browser import open_page
from tests.clients import channel_path, open_client
from tests.documentation import code_blocks
from tests.metrics import scrape
from tests.servers import PROJECT, LiveServer, Redis

FRONT, ACCOUNTS, REALTIME, DEPLOY = "README.md", "accounts/README.md", "realtime/README.md", "piesite/deploy/README.md"


@pytest.fixture(scope="module")
def server(start: Callable[..., LiveServer]) -> LiveServer:
    return start("serve")


def test_the_first_message_in_python(server: LiveServer) -> None:
    program = code_blocks(FRONT, "python")[0].replace("localhost:8000", f"127.0.0.1:{server.port}")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.returncode) == ("Hello!\n", 0), done.stderr


async def test_the_first_message_in_javascript(server: LiveServer) -> None:
    assert await printed_in_console(server, code_blocks(FRONT, "js")[0], 1) == ["Hello!"]


async def test_a_refusal_is_read_in_javascript(server: LiveServer) -> None:
    (program,) = (block for block in code_blocks(REALTIME, "js") if "api_key=wrong" in block)
    page = (PROJECT / REALTIME).read_text()
    sentence, code = re.findall(r"^This prints `(.*)` and `(.*)`\.$", page, re.MULTILINE)[0]
    assert await printed_in_console(server, program, 2) == [sentence, int(code)]


async def printed_in_console(server: LiveServer, program: str, count: int) -> list[object]:
    """Run a program in the console of the front page, in Chromium; return the first `count` values that it prints."""
    async with open_page() as page:
        await page.open(server.url("/", host="localhost", scheme="http"))
        await page.evaluate("window.printed = []; console.log = (value) => printed.push(value); undefined")
        await page.evaluate(program.replace(":8000", f":{server.port}") + "undefined")
        await page.wait_for(f"printed.length >= {count}")
        return list(await page.evaluate("printed"))


async def test_presence_sends_the_events_that_are_shown(server: LiveServer, keys: dict[str, str], channel: str) -> None:
    (shown,) = (block for block in code_blocks(REALTIME, "json") if "system:member_list" in block)
    ada, grace = (
        channel_path(channel, keys["demo"], "presence", uuid=uuid, user=user)
        for uuid, user in (("a", "Ada"), ("g", "Grace"))
    )
    async with open_client(server, ada) as client:
        received = [await client.receive()]
        async with open_client(server, grace):
            received.append(await client.receive())
        received.append(await client.receive())
    assert [json.loads(event) for event in received] == [json.loads(line) for line in shown.splitlines()]


def test_issuing_a_key_with_curl(server: LiveServer) -> None:
    server.manage("shell", "-v", "0", "-c", MAKE_ADA)
    blocks = (block for block in code_blocks(ACCOUNTS, "bash") if "PASSWORD=" in block or "api()" in block)
    program = "".join(blocks).replace(":8000", f":{server.port}")
    done = subprocess.run(
        ["bash", "-eu", "-c", program],
        input="ada-password\n",
        capture_output=True,
        text=True,
        start_new_session=True,  # without a terminal, the password is read from the input
    )
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
    assert (
        run_with_project(server, next(block for block in code_blocks(REALTIME, "bash") if "publish()" in block))
        == SUCCESS
    )


async def test_the_token_command_s_url_opens_the_private_channel(server: LiveServer) -> None:
    printed = run_with_project(server, next(block for block in code_blocks(REALTIME, "bash") if " token " in block))
    url = printed.rpartition("url: ")[2].strip()
    async with open_client(server, url.partition(f"localhost:{server.port}")[2]) as client:
        await client.settle()


def test_the_first_user_is_a_superuser(server: LiveServer) -> None:
    (program,) = (block for block in code_blocks(ACCOUNTS, "bash") if "createsuperuser --email" in block)
    program = program.strip().replace("ada@", "grace@")
    run_with_project(server, f"export DJANGO_SUPERUSER_PASSWORD=grace-password\n{program} --noinput")
    look = (
        "from django.contrib.auth import get_user_model as model; print(model().objects.get(is_superuser=True).email)"
    )
    assert server.manage("shell", "-v", "0", "-c", look) == "grace@example.com\n"


def test_old_audit_entries_are_removed(server: LiveServer) -> None:
    (program,) = (block for block in code_blocks(ACCOUNTS, "bash") if "prune_audit" in block)
    assert run_with_project(server, program) == "0 audit entries deleted.\n"


async def test_django_code_publishes_through_the_channel_layer(
    start: Callable[..., LiveServer], keys: dict[str, str], tmp_path: Path
) -> None:
    (program,) = (block for block in code_blocks(REALTIME, "python") if "message_event" in block)
    with Redis(tmp_path) as redis:
        server = start("serve", REDIS_URL=redis.url)
        async with open_client(server, channel_path("1", keys["demo"])) as client:
            server.manage("shell", "-v", "0", "-c", program)
            assert await client.receive() == "Hello!"
        server.stop()


SUCCESS = '{"success":true}'
MAKE_ADA = """
from django.contrib.auth import get_user_model
get_user_model().objects.create_user("ada@example.com", password="ada-password")
"""


def test_every_setting_is_in_its_table() -> None:
    settings = (PROJECT / "piesite" / "settings.py").read_text()
    names = set(re.findall(r'env\.\w+\("(\w+)"', settings))
    page = (PROJECT / DEPLOY).read_text()
    missing = sorted(name for name in names if f"`{name}`" not in page)
    assert "DATABASE_URL" in names
    assert missing == []


def test_every_metric_is_in_its_table(server: LiveServer) -> None:
    names = re.findall(r"^# TYPE piesocket_(\w+)", scrape(server).text, re.MULTILINE)
    page = (PROJECT / DEPLOY).read_text()
    missing = [name for name in names if f"`{name}`" not in page]
    assert "connections" in names
    assert missing == []


def test_the_changelog_begins_with_the_current_version() -> None:
    changelog = (PROJECT / "CHANGELOG.md").read_text()
    first = re.search(r"^## \[(.*)\] - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    assert first is not None
    assert first[1] == __version__

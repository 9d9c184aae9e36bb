"""The commands that run the service: `demo` and `serve`."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from accounts.demo import DEMO_PUBLIC_KEY
from piesite import __version__
from tests.clients import channel_path, open_client, until
from tests.servers import PROJECT, LiveServer, environment, free_port, manage, need, server_command


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path)


def fails(env: dict[str, str], *arguments: str) -> str:
    """Run a management command that must fail, and return its error output."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=PROJECT, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


async def test_one_command_starts_a_service_that_a_newcomer_can_use(tmp_path: Path) -> None:
    port = free_port()
    server = LiveServer(tmp_path, [*server_command("serve", port, tmp_path), "--demo"], port)
    server.start()
    try:
        url = re.search(r"ws://localhost(:\d+/v3/\S+)", server.log)
        assert url is not None, server.log
        path = url[1].removeprefix(f":{port}")
        async with open_client(server, path) as one, open_client(server, path) as two:
            await one.send("hello")
            assert await two.receive() == "hello"
    finally:
        assert server.stop() == 0
    assert "Traceback" not in server.log


async def test_the_commands_that_it_prints_work_where_it_was_started(tmp_path: Path, env: dict[str, str]) -> None:
    def run(command: str, **more: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=PROJECT, env={**env, **more}, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    port = free_port()
    migrate = re.search(r"Run (.* migrate)$", fails(env, "serve", "--port", str(port)), re.MULTILINE)
    assert migrate is not None
    run(migrate[1])
    with LiveServer(tmp_path, server_command("serve", port, tmp_path), port).start() as server:
        await until(lambda: "Connect to:" in server.log)
        create_user = re.search(r"create a user: (.* createsuperuser)\)$", server.log, re.MULTILINE)
        assert create_user is not None
        person = {"DJANGO_SUPERUSER_EMAIL": "ada@example.com", "DJANGO_SUPERUSER_PASSWORD": "ada-password"}
        assert "Superuser created" in run(f"{create_user[1]} --noinput", **person)


async def test_the_demo_command_knows_the_port_of_the_running_server(start: Callable[..., LiveServer]) -> None:
    server = start("serve")
    await until(lambda: "Connect to:" in server.log)
    assert f"ws://localhost:{server.port}/v3/" in server.manage("demo")
    server.stop(signal.SIGKILL)
    assert "ws://localhost:8000/v3/" in server.manage("demo")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["serve", "daphne"])
async def test_a_stopping_server_closes_with_1012_and_exits_cleanly(
    kind: str, number: int, start: Callable[..., LiveServer], keys: dict[str, str], channel: str
) -> None:
    server = start(kind)
    path = channel_path(channel, keys["demo"])
    async with open_client(server, path) as one, open_client(server, path) as two:
        await one.settle()
        server.process.send_signal(number)
        assert await one.ending() == ([], 1012)
        assert await two.ending() == ([], 1012)
    assert server.process.wait(20) == 0


def test_the_demo_has_the_same_values_on_every_run(migrated: Path) -> None:
    env = environment(migrated)
    first, second = (json.loads(manage(env, "demo", "--json")) for _ in range(2))
    assert first == second
    assert first["cluster"] == "demo"
    assert first["key"] == DEMO_PUBLIC_KEY
    assert first["url"] == f"ws://localhost:8000/v3/1?api_key={DEMO_PUBLIC_KEY}"
    assert len(first["secret"]) == 60
    assert first["secret"] in manage(env, "demo")


def test_the_demo_is_not_added_to_a_database_with_other_accounts_unless_forced(migrated: Path) -> None:
    env = environment(migrated)
    manage(
        env, "shell", "-v", "0", "-c", "from accounts import services; services.create_account(name='A', owner=None)"
    )
    assert "--force" in fails(env, "demo")
    assert "--force" in fails(env, "serve", "--demo", "--port", "0")
    assert DEMO_PUBLIC_KEY in manage({**env, "DEBUG": "1"}, "demo")
    assert DEMO_PUBLIC_KEY in manage(env, "demo", "--force")


def test_several_workers_without_redis_are_rejected_with_a_hint(env: dict[str, str]) -> None:
    assert "REDIS_URL" in fails(env, "serve", "--workers", "2")


def test_a_port_in_use_is_reported(migrated: Path, serve: LiveServer) -> None:
    said = fails(environment(migrated), "serve", "--port", str(serve.port))
    assert f"Cannot listen on 127.0.0.1 port {serve.port}" in said
    assert "--port" in said


def test_the_front_page_the_admin_and_the_documentation_are_served(serve: LiveServer) -> None:
    with httpx.Client(base_url=serve.url("", scheme="http"), follow_redirects=True, trust_env=False) as client:
        for path in ("/", "/admin/", "/api/v1/docs/", "/static/admin/css/base.css"):
            assert client.get(path).status_code == 200, path
        assert client.get("/none").status_code == 404


def test_the_front_page_runs_under_a_strict_content_security_policy(serve: LiveServer) -> None:
    page = httpx.get(serve.url("/", scheme="http"), trust_env=False).text
    assert DEMO_PUBLIC_KEY in page
    assert "ws://CLUSTER_ID.localhost" in page
    assert f"Version {__version__}" in page
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|https?://", page)


def test_a_page_requested_from_an_unknown_host_is_refused_without_a_traceback(serve: LiveServer) -> None:
    answer = httpx.get(serve.url("/admin/", scheme="http"), headers={"Host": "evil.example"}, trust_env=False)
    assert answer.status_code == 400


def test_the_listener_has_a_backlog_for_bursts_of_connections(serve: LiveServer) -> None:
    need("ss")
    listening = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout
    row = next(line.split() for line in listening.splitlines() if f":{serve.port} " in line)
    assert int(row[2]) == min(4096, int(Path("/proc/sys/net/core/somaxconn").read_text()))

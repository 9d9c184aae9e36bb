"""Commands and servers start in every reasonable situation, or say in one sentence why they cannot."""

import os
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.clients import until
from tests.servers import PROJECT, LiveServer, Postgres, Redis, environment, free_port, manage, server_command
from tests.test_settings import fails


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The project's files in another folder, without data."""
    folder = tmp_path / "clone"
    folder.mkdir()
    shutil.copy(PROJECT / "manage.py", folder)
    for package in ("accounts", "realtime", "piesite"):
        shutil.copytree(PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def environment_of(clone: Path, **env: str) -> dict[str, str]:
    return {name: value for name, value in environment(clone, **env).items() if name != "DATA_DIR" or name in env}


def run(env: dict[str, str], manage_py: Path, *arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(manage_py), *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tables(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_a_fresh_clone_with_a_secret_key_can_be_migrated(clone: Path) -> None:
    run(environment_of(clone), clone / "manage.py", "migrate", "-v", "0", folder=clone)
    assert "accounts_account" in tables(clone / ".data" / "db.sqlite3")


@pytest.mark.parametrize("env", [{"DATA_DIR": "data"}, {"DATABASE_URL": "sqlite:///data/db.sqlite3"}])
def test_relative_paths_lead_to_the_same_files_from_every_folder(
    clone: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    """Workers run in the project's folder, wherever the server was started."""
    env = environment_of(clone, **env)
    run(env, clone / "manage.py", "migrate", "-v", "0", folder=tmp_path)
    assert "accounts_account" in tables(clone / "data" / "db.sqlite3")
    assert not (tmp_path / "data").exists()
    assert "demo" in run(env, clone / "manage.py", "demo", folder=clone)


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_only_their_owner_can_read_the_files_in_the_data_directory(tmp_path: Path, umask: int) -> None:
    directory = tmp_path / "data"
    env = environment(directory, SECRET_KEY="")
    port = free_port()
    previous = os.umask(umask)
    try:
        manage(env, "migrate", "-v", "0")
        with LiveServer(tmp_path, server_command("serve", port, directory), port, **env).start():
            manage(env, "demo")  # so that there is a write-ahead log
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    finally:
        os.umask(previous)
    assert {"db.sqlite3", "secret_key", "port"} <= set(modes)
    assert {name: mode for name, mode in modes.items() if mode != 0o600} == {}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_database_that_everybody_could_read_becomes_private(tmp_path: Path) -> None:
    database = tmp_path / "db.sqlite3"
    database.touch(0o644)
    database.chmod(0o644)
    manage(environment(tmp_path), "check")
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a service with an empty database."""
    if request.param == "sqlite":
        yield environment(tmp_path)
    else:
        with Postgres() as postgres:
            yield environment(tmp_path, DATABASE_URL=postgres.url())


def test_several_machines_can_migrate_an_empty_database_at_the_same_time(empty: dict[str, str]) -> None:
    command = [sys.executable, "manage.py", "migrate", "-v", "0"]
    started = [subprocess.Popen(command, cwd=PROJECT, env=empty, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate(timeout=110)[1], process.returncode) for process in started] == [("", 0)] * 4
    assert "[ ]" not in manage(empty, "showmigrations")


@pytest.mark.parametrize(
    "command",
    [("serve", "--port", "0"), ("demo",), ("token", "1"), ("createsuperuser", "--email", "a@b.org", "--noinput")],
    ids=lambda command: command[0],
)
class TestEveryCommand:
    def test_says_that_the_database_is_not_migrated(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        env = environment(tmp_path, DJANGO_SUPERUSER_PASSWORD="a-password")
        assert re.fullmatch(
            r"(CommandError: )?The database is not up to date\. Run \S+ \S*manage\.py migrate\n", fails(env, *command)
        )

    def test_says_that_the_database_is_unreachable(self, tmp_path: Path, command: tuple[str, ...]) -> None:
        url = f"postgres://ws:hidden@127.0.0.1:{free_port()}/ws"
        said = fails(environment(tmp_path, DATABASE_URL=url, DJANGO_SUPERUSER_PASSWORD="a-password"), *command)
        assert re.fullmatch(r"The database cannot be opened: .* Connection refused\. Check DATABASE_URL\.\n", said)
        assert "hidden" not in said


def test_a_database_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "db.sqlite3"
    said = fails(environment(tmp_path, DATABASE_URL=f"sqlite:///{path}"), "migrate")
    assert said == f"The database cannot be opened: unable to open database file. Check the file {path}.\n"


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_server_on_all_ipv6_addresses_also_serves_ipv4_and_says_so(migrated: Path, workers: int) -> None:
    port = free_port()
    with Redis(migrated) as redis:
        command = [*server_command("serve", port, migrated), "--host", "::", "--workers", str(workers)]
        with LiveServer(migrated, command, port, REDIS_URL=redis.url).start() as server:
            async with httpx.AsyncClient(trust_env=False) as client:
                for host in ("127.0.0.1", "[::1]"):
                    assert (await client.get(f"http://{host}:{port}/healthz")).status_code == 200
                    # A client with an IPv4 address is known by it, also to METRICS_ALLOWED.
                    assert (await client.get(f"http://{host}:{port}/metrics")).status_code == 200
            await until(lambda: "Connect to:" in server.log)
            assert f"Listening on :: (all IPv6 and IPv4 addresses of this machine) port {port}." in server.log


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", r"0\.0\.0\.0 \(all IPv4 addresses of this machine\)"),
        ("::1", "::1"),
        ("localhost", r"localhost \((127\.0\.0\.1|::1)\)"),
    ],
)
async def test_the_server_prints_the_address_on_which_it_listens(migrated: Path, host: str, said: str) -> None:
    command = [*server_command("serve", 0, migrated), "--host", host]
    log = migrated / "log"
    with open(log, "wb") as output:  # noqa: ASYNC230
        process = subprocess.Popen(  # noqa: ASYNC220
            command, cwd=PROJECT, env=environment(migrated), stdout=output, stderr=output
        )
    try:
        await until(lambda: "Connect to:" in log.read_text())
        match = re.search(rf"Listening on {said} port (\d+)\.", log.read_text())
        assert match, log.read_text()
        address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
        socket.create_connection((address, int(match[match.lastindex or 1])), timeout=5).close()
    finally:
        process.terminate()
        process.wait(20)

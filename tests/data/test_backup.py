"""The backup commands of piesite/deploy/README.md: a backup of a busy service restores the same service elsewhere."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

import httpx
import pytest

from tests.clients import channel_path, open_client
from tests.data.conftest import NAME, Postgres
from tests.data.owners import LOOK, QUOTA, Owners
from tests.documentation import code_blocks
from tests.servers import LiveServer, make_tenants, need

BACK_UP_POSTGRES, RESTORE_POSTGRES, BACK_UP_SQLITE = [
    block for block in code_blocks("piesite/deploy/README.md", "bash") if "backup/" in block
]
SECRETS = ("secret_key", "encryption_keys")


class Machine:
    """A directory that stands for a machine: `.data` holds SQLite and its secrets, and `ws` replaces /etc/ws."""

    def __init__(self, directory: Path, service: Callable[..., LiveServer], postgres: Postgres | None) -> None:
        self._postgres = postgres
        self.directory = directory
        self.data = directory / ".data"
        self.ws = directory / "ws"
        files = {f"{name.upper()}_FILE": str(self.ws / name) for name in SECRETS} if postgres else {}
        self.server = service(self.data, SECRET_KEY="", **files)  # SQLite's machine generates its key
        directory.mkdir()

    def run(self, program: str) -> None:
        """Run a block of commands, without the containers that it starts and looks into."""
        program = re.sub(r"^docker compose .* up .*\n", "", program, flags=re.MULTILINE)
        program = re.sub(r"^docker compose -f \S+ exec -T postgres ", "", program, flags=re.MULTILINE)
        program = re.sub(r" ws\b", f" {NAME}", program)
        program = program.replace(".venv/bin/python", sys.executable).replace("/etc/ws", str(self.ws))
        env = {"PATH": os.environ["PATH"], **(self._postgres.client_env if self._postgres else {})}
        command = ["bash", "-eu", "-c", program]
        done = subprocess.run(command, cwd=self.directory, env=env, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def machine(tmp_path: Path, service: Callable[..., LiveServer], postgres: Postgres | None) -> Machine:
    """The machine that the service runs on."""
    machine = Machine(tmp_path / "first", service, postgres)
    machine.data.mkdir()
    machine.ws.mkdir()
    for name in SECRETS:
        (machine.ws / name).write_text(token_hex(32))
    return machine


@pytest.fixture
def elsewhere(tmp_path: Path, service: Callable[..., LiveServer], postgres: Postgres | None) -> Machine:
    """Another machine, with nothing on it."""
    return Machine(tmp_path / "second", service, postgres)


def restore(backup: Path, machine: Machine, postgres: Postgres | None) -> None:
    if postgres is None:
        shutil.copytree(backup, machine.data)
        return
    postgres.drop()
    postgres.create()
    shutil.copytree(backup, machine.directory / "backup")
    machine.data.mkdir()
    machine.run(RESTORE_POSTGRES)


async def test_a_backup_of_a_busy_service_restores_the_same_service_elsewhere(
    machine: Machine, elsewhere: Machine, postgres: Postgres | None
) -> None:
    if postgres:
        need("pg_dump", "pg_restore")
    public_keys, secrets, _ = make_tenants(machine.server.env)
    machine.server.start()
    owners = Owners(machine.server)
    with owners.at_work():
        await asyncio.sleep(1)
        made = [tenant for tenant in owners.tenants if tenant.answered]
        machine.run(BACK_UP_POSTGRES if postgres else BACK_UP_SQLITE)
    restore(machine.directory / "backup", elsewhere, postgres)

    restored = json.loads(elsewhere.server.shell(LOOK))
    assert made
    assert {tenant.name for tenant in made if tenant.possible} <= set(restored)
    states = [state for name, state in restored.items() if name.startswith("tenant-")]
    assert all((state["owners"], state["quota"]) == (["ada@example.com"], QUOTA) for state in states)

    elsewhere.server.start()
    async with open_client(elsewhere.server, channel_path("room", public_keys["demo"])) as client:
        members = {"key": public_keys["demo"], "secret": secrets["demo"], "channelId": "room", "message": "back"}
        async with httpx.AsyncClient(trust_env=False) as http:
            url = elsewhere.server.url("/api/publish", scheme="http")
            assert (await http.post(url, json=members)).json() == {"success": True}
        assert await client.receive() == "back"

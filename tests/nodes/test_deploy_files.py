"""The files in piesite/deploy name only what exists, and the commands of its README do what it says."""

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from django.core.management import get_commands, load_command_class

from realtime.conf import Conf
from realtime.node.shutdown import GOODBYE_SECONDS
from tests.documentation import code_blocks
from tests.proxies import DEPLOY
from tests.servers import PROJECT, free_port, make_certificate, need, wait_for_port

UNITS = ("ws.service", "ws-migrate.service")
BLOCKS = code_blocks("piesite/deploy/README.md", "bash")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def settings_variables() -> set[str]:
    """Return the environment variables that the settings read, and their variants that name a file."""
    names = re.findall(r'env\.\w+\("(\w+)"', (PROJECT / "piesite" / "settings.py").read_text())
    return {*names, *(f"{name}_FILE" for name in names)}


def variables(assignments: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", assignments, re.MULTILINE))


def check_command(words: list[str]) -> None:
    """Parse a command with manage.py's own parser, which exits if it does not know an argument."""
    name, *arguments = words
    application = get_commands()[name]
    command = load_command_class(application, name) if isinstance(application, str) else application
    command.create_parser("manage.py", name).parse_args(arguments)


def unit(name: str) -> dict[str, str]:
    return variables((DEPLOY / name).read_text())


def test_every_variable_is_read_by_the_settings(compose: dict[str, Any]) -> None:
    given = set(variables((DEPLOY / "ws.env").read_text()))
    for service in ("node1", "node2", "migrate"):
        given |= set(compose["services"][service].get("environment", {}))
    assert {"CLUSTER_DOMAINS", "REDIS_URL_FILE"} <= given
    assert given <= settings_variables()


def test_every_command_exists_in_manage_py(compose: dict[str, Any]) -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["python", "manage.py"]' in dockerfile
    check_command(yaml.safe_load(re.findall(r"^CMD (.*)$", dockerfile, re.MULTILINE)[0]))
    check_command(compose["services"]["migrate"]["command"])
    environment = dict(word.split("=") for word in unit("ws.service")["Environment"].split())
    for name in UNITS:
        program, manage, *words = shlex.split(unit(name)["ExecStart"])
        assert (program, manage) == ("/opt/ws/.venv/bin/python", "manage.py")
        check_command([re.sub(r"\$\{(\w+)\}", lambda match: environment[match[1]], word) for word in words])


def test_secrets_are_mounted_where_the_settings_read_them(compose: dict[str, Any]) -> None:
    paths = {value for name, value in variables((DEPLOY / "ws.env").read_text()).items() if name.endswith("_FILE")}
    for service in ("node1", "node2", "migrate"):
        secrets = compose["services"][service]["secrets"]
        mounted = {secret["target"]: compose["secrets"][secret["source"]] for secret in secrets}
        assert mounted == {path: {"file": path} for path in paths}


def test_the_proxy_reaches_the_nodes_and_only_they_reach_the_storage(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {name for name in services if reaches(services, "haproxy", name)} == {"haproxy", "node1", "node2"}
    for storage in ("postgres", "redis"):
        expected = {"node1", "node2", "migrate", "postgres", "redis"}
        assert {name for name in services if reaches(services, name, storage)} == expected
        assert "ports" not in services[storage]
        assert all(compose["networks"][network]["internal"] for network in services[storage]["networks"])


def test_only_nodes_can_send_webhooks_to_the_internet(compose: dict[str, Any]) -> None:
    open_networks = {name for name, network in compose["networks"].items() if not (network or {}).get("internal")}
    services = {name for name, service in compose["services"].items() if open_networks & {*service["networks"]}}
    assert services == {"node1", "node2", "haproxy"}  # HAProxy takes connections from outside


def reaches(services: dict[str, Any], source: str, target: str) -> bool:
    return not {*services[source]["networks"]}.isdisjoint(services[target]["networks"])


def test_redis_in_a_container_takes_only_its_password(compose: dict[str, Any], tmp_path: Path) -> None:
    need("redis-server", "redis-cli")
    (tmp_path / "redis_password").write_text("the password\n")
    service, port = compose["services"]["redis"], free_port()

    def here(text: str) -> str:
        """Return a command of the container as this machine runs it."""
        text = text.replace("$$", "$").replace("/run/secrets", str(tmp_path))
        return text.replace("redis-server -", f"redis-server - --port {port}").replace(
            "redis-cli", f"redis-cli -p {port}"
        )

    command = [here(word) for word in service["command"]]
    kind, check = service["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        assert subprocess.run(["sh", "-c", here(check)]).returncode == 0
        assert b"the password" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        with redis.Redis(port=port, password="the password") as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("save") == {"save": ""}
            assert "pubsub 268435456 67108864 60" in client.config_get("client-output-buffer-limit").popitem()[1]
        with redis.Redis(port=port) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
    finally:
        process.terminate()
        process.wait(10)


def test_stopped_nodes_have_time_to_drain(compose: dict[str, Any]) -> None:
    graces = [unit("ws.service")["TimeoutStopSec"], compose["services"]["node1"]["stop_grace_period"]]
    assert min(int(grace.removesuffix("s")) for grace in graces) > 2 * (Conf().drain_seconds + GOODBYE_SECONDS)


def test_the_image_copies_existing_files_and_installs_exactly_the_locked_packages() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    allowed = set(re.findall(r"^!(.*)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    lock, *copied = re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE)
    assert lock == str((DEPLOY / "requirements.lock").relative_to(PROJECT))
    assert set(copied) == allowed
    assert all((PROJECT / name).exists() for name in copied)
    (install,) = re.findall(r"^RUN pip install (.*)$", dockerfile, re.MULTILINE)
    assert install.endswith(" --require-hashes -r /tmp/requirements.lock")


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_units(name: str, tmp_path: Path) -> None:
    need("systemd-analyze")
    text = (DEPLOY / name).read_text().replace("/opt/ws/.venv/bin/python", sys.executable)
    (tmp_path / name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, [line for line in done.stderr.splitlines() if name in line]) == (0, [])


def test_the_files_that_the_readme_creates_are_sufficient_for_a_node(tmp_path: Path) -> None:
    key, certificate = make_certificate(tmp_path)
    key.rename(tmp_path / "privkey.pem")
    certificate.rename(tmp_path / "fullchain.pem")
    ws = tmp_path / "ws"
    (make,) = (block for block in BLOCKS if "> /etc/ws/ws.env" in block)
    (by_hand,) = (block for block in BLOCKS if "serve --host" in block)
    make = make.replace("DOMAIN=ws.example.com", "DOMAIN=ws.test").replace("piesite/deploy", str(DEPLOY))
    run(make.replace("/etc/ws", str(ws)), tmp_path)
    assert sorted(path.name for path in ws.iterdir()) == [
        *("certificate.pem", "database_password", "database_url", "encryption_keys"),
        *("redis_password", "redis_url", "secret_key", "ws.env"),
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in ws.iterdir()} == {0o600}
    assert stat.S_IMODE(ws.stat().st_mode) == 0o700
    assert "CLUSTER_DOMAINS=ws.test\n" in (ws / "ws.env").read_text()
    (ws / "ws.env").write_text((ws / "ws.env").read_text().replace("/etc/ws", str(ws)))
    (ws / "database_url").write_text(f"sqlite:///{tmp_path}/db.sqlite3\n")
    by_hand = by_hand.replace("/etc/ws", str(ws)).replace(".venv/bin/python", sys.executable)
    load, migrate, _serve = by_hand.splitlines()
    run(f"{load}\n{migrate}\n{sys.executable} manage.py check --deploy --fail-level ERROR", PROJECT)
    assert (tmp_path / "db.sqlite3").exists()


def run(program: str, directory: Path) -> None:
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-eu", "-c", program], cwd=directory, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

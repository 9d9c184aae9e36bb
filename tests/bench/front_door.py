"""Measure publishing through HTTP, and connections that open and close: `.venv/bin/python -m tests.bench.front_door`.

Each server runs alone on one core, and the load generator, `httpload.c`, on another. The rounds of all systems are
interleaved, and medians count. Rates are those of a server whose core is busy; the CPU per exchange says more on a
machine that does something else meanwhile.
"""

import argparse
import hashlib
import hmac
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench import soketi
from tests.bench.two_nodes import MAKE_TENANTS
from tests.clients import channel_path
from tests.servers import PROJECT, Redis, environment, free_port, wait_for_port

HERE = Path(__file__).parent
SERVER_CORE, LOAD_CORE = "0", "1"
WARM_UP_SECONDS = 2
MEASURED = re.compile(r"(?P<rate>\d+)/s, p50 (?P<p50>[\d.]+) p99 (?P<p99>[\d.]+) ms, server cpu (?P<cpu>[\d.]+) us")
DELIVERED = re.compile(r"deliver: .*: (?P<rate>\d+)/s, .*server cpu (?P<cpu>[\d.]+) us/delivery")
MESSAGE = f"T=0;{'x' * 124}"  # the load generator counts messages with this mark
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"  # a masked close frame with 1000
PUBLISHING = ("publish", "pusher")


@dataclass(frozen=True)
class Work:
    """A kind of exchange, with the options of the load generator."""

    name: str
    label: str
    request: str
    """What is sent: `publish`, the same with Pusher's API (`pusher`), a `handshake`, or one that is `refused`."""
    options: tuple[str, ...]
    on_soketi: bool = True
    receivers: int = 0
    """How many clients are subscribed. If there are any, deliveries are measured instead of exchanges."""


WORK = [
    Work("publish-1", "publishing on 1 kept connection", "publish", ("-n", "1")),
    Work("publish-64", "publishing on 64 kept connections", "publish", ("-n", "64")),
    Work("pusher-64", "publishing with Pusher's API on 64 kept connections", "pusher", ("-n", "64")),
    Work("publish-1000", "deliveries of what is published to 1,000 clients", "publish", ("-n", "16"), False, 1000),
    Work("pusher-1000", "the same with Pusher's protocol and API", "pusher", ("-n", "16"), receivers=1000),
    Work("publish-split", "the same, head and body sent separately", "publish", ("-n", "64", "-split")),
    Work("publish-new", "publishing, a new connection for each", "publish", ("-n", "16", "-new")),
    Work("opening", "WebSockets that open and close", "handshake", ("-n", "16", "-new", "-status", "101")),
    Work("refusing", "handshakes with a wrong key", "refused", ("-n", "16", "-new", "-status", "101"), on_soketi=False),
]


@dataclass(frozen=True)
class System:
    """A server to measure."""

    label: str
    folder: Path = PROJECT
    application: str = "piesite.asgi:application"
    uses_redis: bool = False
    is_soketi: bool = False

    @property
    def python(self) -> str:
        own = self.folder / ".venv/bin/python"
        return str(own) if own.exists() else sys.executable

    @contextmanager
    def running(self) -> Iterator["Running"]:
        """Run the server with a database of its own."""
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            port = free_port()
            keys, secrets = {"demo": soketi.APP_KEY}, {"demo": soketi.APP_SECRET}
            if self.is_soketi:
                command, env = soketi.COMMAND, soketi.settings(port)
            else:
                made = subprocess.run(
                    [self.python, "-c", MAKE_TENANTS.replace("[0]", ""), str(directory)],
                    cwd=self.folder,
                    check=True,
                    capture_output=True,
                )
                keys, secrets, *_ = json.loads(made.stdout)
                env = {"CONNECTS_PER_MINUTE_PER_ADDRESS": "1000000000"}
                if self.uses_redis:
                    env["REDIS_URL"] = stack.enter_context(Redis(directory)).url
                endpoint = f"tcp:{port}:interface=127.0.0.1:backlog=4096"
                command = [self.python, "-m", "daphne", "-v", "0", "-e", endpoint, self.application]
            log = stack.enter_context(open(directory / "server.log", "wb"))
            process = subprocess.Popen(
                ["taskset", "-c", SERVER_CORE, *command],
                cwd=self.folder,
                env=environment(directory, **env),
                stdout=log,
                stderr=log,
            )
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            wait_for_port(port, process)
            time.sleep(1)
            yield Running(self, port, process.pid, keys["demo"], secrets["demo"])


@dataclass(frozen=True)
class Running:
    """A running server."""

    system: System
    port: int
    process: int
    key: str
    secret: str

    @property
    def app_id(self) -> str:
        """The application, which is the first cluster in the database of this project."""
        return soketi.APP_ID if self.system.is_soketi else "1"

    def request(self, work: Work) -> bytes:
        """Return what a client sends for one exchange."""
        if work.request in PUBLISHING:
            is_pusher = self.system.is_soketi or work.request == "pusher"
            return self._publish(is_pusher=is_pusher, closes="-new" in work.options)
        if self.system.is_soketi:
            path = f"/app/{self.key}?protocol=7"
        else:
            path = channel_path("c1", self.key if work.request == "handshake" else "x" * 60)
        return UPGRADE.format(path=path).encode()

    def _publish(self, *, is_pusher: bool, closes: bool) -> bytes:
        path = "/api/publish"
        members = {"key": self.key, "secret": self.secret, "channelId": "c0", "message": MESSAGE}
        if is_pusher:
            members = {"name": "event", "channel": "private-c0", "data": MESSAGE}
        body = json.dumps(members).encode()
        if is_pusher:
            path = f"/apps/{self.app_id}/events"
            query = f"auth_key={self.key}&auth_timestamp={int(time.time())}&auth_version=1.0"
            query += f"&body_md5={hashlib.md5(body).hexdigest()}"
            signature = hmac.new(self.secret.encode(), f"POST\n{path}\n{query}".encode(), "sha256").hexdigest()
            path += f"?{query}&auth_signature={signature}"
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}", *(["Connection: close"] if closes else []), "", ""]
        return "\r\n".join(lines).encode() + body

    def subscribers(self, work: Work) -> list[str]:
        """Return the options of the load generator for clients that receive what is published."""
        options = ["-p", str(self.port), "-pids", str(self.process), "-host", "localhost", "-n", str(work.receivers)]
        options += ["-rate", "0.001"]  # their own publisher is silent
        if work.request == "publish":
            return [*options, "-path", channel_path("c%d", self.key)]
        return [*options, "-path", f"/app/{self.key}?protocol=7", "-key", self.key, "-secret", self.secret]


def measure(running: Running, work: Work, programs: Path, seconds: float) -> dict[str, float] | None:
    """Run the load generators once; return None if one failed."""
    if not work.receivers:
        return exchange(running, work, programs / "httpload", seconds)
    command = ["taskset", "-c", LOAD_CORE, str(programs / "wsload"), *running.subscribers(work), "-d", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiving:
        assert receiving.stdout is not None
        receiving.stdout.readline()  # they are connected
        published = exchange(running, work, programs / "httpload", seconds + WARM_UP_SECONDS)
        found = DELIVERED.search(receiving.stdout.read())
    if published is None or found is None:
        return None
    return {**published, **{name: float(value) for name, value in found.groupdict().items()}}


def exchange(running: Running, work: Work, load: Path, seconds: float) -> dict[str, float] | None:
    """Run the load generator for HTTP once; return None if it failed."""
    with tempfile.TemporaryDirectory() as name:
        request, then = Path(name) / "request", Path(name) / "then"
        request.write_bytes(running.request(work))
        then.write_bytes(CLOSE)
        command = ["taskset", "-c", LOAD_CORE, str(load), "-p", str(running.port), "-pid", str(running.process)]
        command += ["-request", str(request), "-d", str(seconds), *work.options]
        if running.system.is_soketi and "-new" not in work.options:
            command += ["-new"]  # Soketi closes each connection after its answer
        if work.request not in PUBLISHING:
            command += ["-then", str(then)]
        printed = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    found = MEASURED.search(printed.stdout)
    if found is None:
        print(printed.stderr, file=sys.stderr)
        return None
    return {name: float(value) for name, value in found.groupdict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.front_door",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="seconds per measurement (default: %(default)s)")
    parser.add_argument("--work", nargs="+", choices=[work.name for work in WORK], help="run only this work")
    parser.add_argument("--redis", action="store_true", help="run this project, and what it was before, with a Redis")
    parser.add_argument("--before", type=Path, help="folder with another version of this project, to compare with")
    parser.add_argument("--soketi", type=Path, help="folder in which npm has installed Soketi, to compare with")
    options = parser.parse_args()
    systems = [
        System("this project", uses_redis=options.redis),
        System("with the door shut", application="tests.shut_door:application", uses_redis=options.redis),
    ]
    if options.before:
        systems.append(System("before", options.before.resolve(), uses_redis=options.redis))
    if options.soketi:
        systems.append(System("Soketi", options.soketi.resolve(), is_soketi=True))
    works = [work for work in WORK if options.work is None or work.name in options.work]
    results: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        for program in ("httpload", "wsload"):
            command = ["gcc", "-O2", "-o", f"{name}/{program}", str(HERE / f"{program}.c")]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        for _ in range(options.rounds):
            for work in works:
                for system in systems:
                    if system.is_soketi and not work.on_soketi:
                        continue
                    with system.running() as running:
                        result = measure(running, work, Path(name), options.seconds)
                    if result is not None:
                        results[work.name, system.label].append(result)
                        print(f"{work.label}: {system.label}: {result}", flush=True)
    for work in works:
        print(f"\n{work.label}")
        print(f"{'':22}{'per second':>12}{'p50 ms':>10}{'p99 ms':>10}{'µs CPU each':>13}{'CPU, ratio':>12}")
        first: float | None = None
        for system in systems:
            if runs := results[work.name, system.label]:
                rate, p50, p99, cpu = (median(run[name] for run in runs) for name in ("rate", "p50", "p99", "cpu"))
                first = first or cpu
                print(f"{system.label:22}{rate:>12,.0f}{p50:>10.2f}{p99:>10.2f}{cpu:>13.1f}{cpu / first:>12.2f}")


if __name__ == "__main__":
    main()

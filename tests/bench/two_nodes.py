"""Measure messages that cross between two nodes with one Redis, and compare systems in alternating rounds.

Messages have 128 bytes. Each channel has a publisher on the second node and a listener on the first.
"""

import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from realtime.base.time_slices import run_promptly
from tests.bench import soketi
from tests.clients import channel_path
from tests.servers import PROJECT, Redis, environment, free_port, wait_for_port

HERE = Path(__file__).parent
# Creates tenants with the code of the folder in which it runs, and prints their API keys.
MAKE_TENANTS = """
import json, sys
from pathlib import Path
from tests.servers import environment, make_tenants
print(json.dumps(make_tenants(environment(Path(sys.argv[1])))[0]))
"""
DELIVERED = re.compile(
    r"(?P<rate>\d+)/s, p50 (?P<p50>[\d.]+) .* p99 (?P<p99>[\d.]+) p99\.9.*each process:(?P<cpu>.*)", re.S
)
# Messages on their way in each channel of a flood without limit.
FLOOD_WINDOW = 64
FLOODS = {"3,000 messages per second": 3, "10,000 messages per second": 10, "messages without limit": 0}

Figures = dict[str, float]


@dataclass(frozen=True)
class System:
    """A system to measure: nodes of this project or of Soketi, started from a folder."""

    label: str
    folder: Path = PROJECT
    nodes: int = 2
    uses_tls: bool = False
    is_soketi: bool = False

    @property
    def python(self) -> str:
        own = self.folder / ".venv/bin/python"
        return str(own) if own.exists() else sys.executable

    def make_tenants(self, directory: Path) -> dict[str, str]:
        """Create tenants in the directory's database; return their API keys by name."""
        if self.is_soketi:
            return {}
        command = [self.python, "-c", MAKE_TENANTS, str(directory)]
        return dict(json.loads(subprocess.run(command, cwd=self.folder, check=True, capture_output=True).stdout))

    @contextmanager
    def running(self, directory: Path) -> Iterator["Running"]:
        """Start a Redis and the nodes."""
        with ExitStack() as stack:
            redis = stack.enter_context(Redis(directory, tls=self.uses_tls))
            ports, processes = [], []
            for _ in range(self.nodes):
                port = free_port()
                command, env = self._soketi(port, redis) if self.is_soketi else self._service(port, redis)
                log = stack.enter_context(open(directory / f"{port}.log", "wb"))
                process = subprocess.Popen(
                    command, cwd=self.folder, env=environment(directory, **env), stdout=log, stderr=log
                )
                stack.callback(process.wait, 20)
                stack.callback(process.terminate)
                wait_for_port(port, process)
                ports.append(port)
                processes.append(process.pid)
            time.sleep(1)
            yield Running(ports, [processes[-1], redis.process.pid, *processes[:-1]], self.is_soketi)

    def _service(self, port: int, redis: Redis) -> tuple[list[str], dict[str, str]]:
        env = {"REDIS_URL": redis.url, "QUOTA_MESSAGES_PER_SECOND": "100000000"}
        return [self.python, "manage.py", "serve", "--port", str(port)], env

    def _soketi(self, port: int, redis: Redis) -> tuple[list[str], dict[str, str]]:
        return soketi.COMMAND, soketi.settings(
            port,
            ADAPTER_DRIVER="redis",
            DB_REDIS_HOST="127.0.0.1",
            DB_REDIS_PORT=str(redis.port),
            DEFAULT_APP_ENABLE_CLIENT_MESSAGES="1",
        )


@dataclass(frozen=True)
class Running:
    """Running nodes: their ports, and the processes of the sender's node, of Redis and of the receiver's node."""

    ports: list[int]
    processes: list[int]
    is_soketi: bool

    def load(self, directory: Path, key: str, options: str) -> list[str]:
        """Return the command of the load generator for a tenant."""
        path = (
            ["-path", "/app/app-key", "-secret", "app-secret"]
            if self.is_soketi
            else ["-path", channel_path("c%d", key)]
        )
        ports = ["-p", str(self.ports[0]), "-pubport", str(self.ports[-1])]
        pids = ["-pids", ",".join(map(str, self.processes))]
        return [str(directory / "wsload"), *ports, *pids, *path, *shlex.split(options)]


@dataclass(frozen=True)
class Round:
    """One round of one system."""

    system: System
    running: Running
    keys: dict[str, str]
    directory: Path
    """The folder with the load generator."""
    seconds: float

    def measure(self, tenant: str, options: str) -> dict[str, str]:
        """Run the load generator and return what it has measured."""
        command = self.running.load(self.directory, self.keys.get(tenant, ""), f"{options} -d {self.seconds}")
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, preexec_fn=run_promptly)
        return _parse(done.stdout)

    def steady(self) -> Figures:
        """Measure 100 channels with 10 messages per second each: sent together, and evenly spread."""
        figures: Figures = {}
        for way, options in (("together", ""), ("spread", "-spread 1")):
            measured = self.measure("demo", f"-n 100 -c 100 -rate 10 {options}")
            costs = [float(cost) for cost in measured["cpu"].split()]
            names = ["sender", "Redis", "receiver"]
            for name, cost in zip(names, costs, strict=False):
                figures[f"100 channels × 10 messages per second, {way}: CPU of the {name} per message, in µs"] = cost
            figures[f"{way}: sum of the CPU per message, in µs"] = sum(costs)
            figures |= _latency(way, measured)
        return figures

    def full_speed(self) -> Figures:
        """Measure channels in which the next message is sent when the last has arrived."""
        return {
            f"one message at a time in each of {channels:,} channels, messages per second": float(
                self.measure("demo", f"-n {channels} -c {channels} -w 1")["rate"]
            )
            for channels in (100, 1000)
        }

    def tenants(self) -> Figures:
        """Measure a tenant's 50 messages per second, alone and beside floods of another tenant in 1,000 channels."""
        victim = "-n 1 -c 1 -rate 50"
        figures: Figures = {}
        if self.system.is_soketi:  # has one tenant here
            return figures
        figures |= _latency("a tenant's 50 messages per second, alone", self.measure("other", victim))
        for name, rate in FLOODS.items():
            options = f"-n 1000 -c 1000 -rate {rate} -spread 1 -w {FLOOD_WINDOW} -d {self.seconds + 1}"
            # Keeps the flood's clients from slowing down the measurement itself.
            command = ["nice", "-n", "19", *self.running.load(self.directory, self.keys["demo"], options)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flood:
                assert flood.stdout is not None
                connected = flood.stdout.readline()
                figures |= _latency(f"beside another tenant's {name}", self.measure("other", victim))
                flooded = _parse(connected + flood.stdout.read())
            if not rate:
                figures["messages per second of the flood without limit"] = float(flooded["rate"])
        return figures


WORKS: dict[str, Callable[[Round], Figures]] = {
    "steady": Round.steady,
    "full-speed": Round.full_speed,
    "tenants": Round.tenants,
}


def compare(systems: list[System], works: list[str], rounds: int, seconds: float) -> None:
    """Measure the systems in alternating rounds and print the medians side by side, as a table in Markdown."""
    figures: dict[str, dict[System, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        load = ["gcc", "-O2", "-o", str(directory / "wsload"), str(HERE / "wsload.c")]
        subprocess.run(load, check=True, stderr=subprocess.DEVNULL)
        homes = {system: directory / str(number) for number, system in enumerate(systems)}
        for home in homes.values():
            home.mkdir()
        keys = {system: system.make_tenants(home) for system, home in homes.items()}
        for number in range(rounds):
            for system, home in homes.items():
                print(f"[{number + 1}/{rounds}] {system.label}", file=sys.stderr, flush=True)
                with system.running(home) as running:
                    for work in works:
                        measured = WORKS[work](Round(system, running, keys[system], directory, seconds))
                        for name, value in measured.items():
                            figures[name][system].append(value)
    print("| | " + " | ".join(system.label for system in systems) + " |")
    print("| --- |" + " --- |" * len(systems))
    for name, values in figures.items():
        print(f"| {name} | " + " | ".join(_show(values[system]) for system in systems) + " |")


def _show(values: list[float]) -> str:
    if not values:
        return ""
    value = median(values)
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _parse(printed: str) -> dict[str, str]:
    found = DELIVERED.search(printed)
    assert found is not None, printed
    return found.groupdict()


def _latency(name: str, measured: dict[str, str]) -> Figures:
    return {f"{name}: {part} in ms": float(measured[part]) for part in ("p50", "p99")}

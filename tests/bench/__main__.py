"""Compare this project with other servers on this machine: `.venv/bin/python -m tests.bench`.

Each server runs alone on one core, and the load generator on another. Every server gets the same work, the rounds of
all servers are interleaved, and medians count. As long as the server keeps its core busy, which the table shows, the
load generator is not the bottleneck.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.options import option_parser
from tests.servers import environment, manage

from .contestants import Contestant, contestants
from .report import Measurement, write

HERE = Path(__file__).parent
SERVER_CORE, LOAD_CORE = 0, 1
COUNTING = "from tests.bench.usage import counting_microseconds; print(counting_microseconds())"
OPENED = re.compile(
    r"connect: .* = (?P<rate>\d+)/s, server cpu (?P<cpu>[\d.]+) us each, rss (?P<memory>-?[\d.]+) KiB each"
)
DELIVERED = re.compile(
    r"deliver: .*: (?P<rate>\d+)/s, p50 (?P<p50>[\d.]+) p95 (?P<p95>[\d.]+) p99 (?P<p99>[\d.]+) p99.9 [\d.]+ ms, "
    r"server cpu (?P<cpu>[\d.]+) us/delivery \((?P<busy>\d+)% of a core\), closed (?P<closed>\d+), "
    r"loader cpu (?P<loader>[\d.]+)s"
)


@dataclass(frozen=True)
class Work:
    """A workload, with the options of the load generator."""

    name: str
    label: str
    receivers: int
    channels: int = 1
    per_second: int = 0
    """Messages per second; 0 for as many as the server handles."""
    only_opens: bool = False
    too_much: bool = False
    """Whether the work is too much for the slowest server."""

    def options(self, seconds: float) -> list[str]:
        options = ["-n", str(self.receivers), "-c", str(self.channels)]
        if self.only_opens:
            return [*options, "-idle", "1"]
        return [*options, "-d", str(seconds), "-rate", str(self.per_second)]


WORK = [
    Work("broadcast-100", "1 → 100", 100),
    Work("broadcast-1000", "1 → 1,000", 1000),
    Work("channels", "100 × (1 → 10)", 1000, 100),
    Work("pairs", "100 × (1 → 1)", 100, 100),
    Work("latency", "1 → 1,000, 20 messages per second", 1000, per_second=20),
    Work("connecting", "5,000 clients that connect", 5000, only_opens=True),
    Work("idle", "10,000 idle connections", 10_000, only_opens=True, too_much=True),
    Work("growth-10", "1 → 10, 20 messages per second", 10, per_second=20),
    Work("growth-100", "1 → 100, 20 messages per second", 100, per_second=20),
    Work("growth-1000", "1 → 1,000, 20 messages per second", 1000, per_second=20),
    Work("growth-10000", "1 → 10,000, 20 messages per second", 10_000, per_second=20),
]


def main() -> int:
    parser = option_parser("tests.bench", __doc__)
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="seconds per measurement (default: %(default)s)")
    parser.add_argument("--work", nargs="+", choices=[work.name for work in WORK], help="run only this work")
    parser.add_argument(
        "--servers", nargs="+", help="run only these of service, pusher, soketi, uwebsockets, nchan, tutorial and empty"
    )
    parser.add_argument("--soketi", type=Path, help="folder in which npm has installed Soketi, to compare with")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder for the results and the chart")
    options = parser.parse_args()
    if (os.cpu_count() or 1) < 2 or not shutil.which("taskset") or not shutil.which("gcc"):
        sys.exit("This needs Linux, two cores, taskset (util-linux) and gcc.")
    works = [work for work in WORK if options.work is None or work.name in options.work]
    measured: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        load = directory / "wsload"
        subprocess.run(["gcc", "-O2", "-o", str(load), str(HERE / "wsload.c")], check=True, stderr=subprocess.DEVNULL)
        soketi = options.soketi and options.soketi.resolve()
        servers = [
            server
            for server in contestants(directory, soketi)
            if options.servers is None or server.name in options.servers
        ]
        for server in servers:
            if server.missing:
                print(f"Skipping {server.label}: this machine has no {server.missing}.")
        pairs = [(work, server) for work in works for server in servers if takes_part(server, work)]
        total = options.rounds * len(pairs)
        for number in range(total):
            work, server = pairs[number % len(pairs)]
            print(f"[{number + 1}/{total}] {work.label}: {server.label} … ", end="", flush=True)
            measurement = measure(server, work, load, directory, options.seconds)
            print("failed" if measurement is None else measurement.short(), flush=True)
            if measurement is not None:
                measured[work.name, server.name].append(measurement)
        if runs := measured["pairs", "service"]:
            counting = float(manage(environment(directory), "shell", "-v", "0", "-c", COUNTING))
            cost = median(run.values["cpu"] for run in runs)
            print(f"\nOf the {cost:.1f} µs of a single message, counting the usage takes {counting:.3f} µs, ", end="")
            print(f"which is {counting / cost:.1%}.")
        write(options.output, [(w.name, w.label) for w in works], [(s.name, s.label) for s in servers], measured)
    return 0


def takes_part(server: Contestant, work: Work) -> bool:
    """Return whether a server is installed, supports such work, and can handle that much of it."""
    if server.missing or not (server.delivers or work.only_opens):
        return False
    if work.name.startswith("growth"):
        return server.name == "service"
    return not (work.too_much and server.name == "tutorial")


def measure(server: Contestant, work: Work, load: Path, directory: Path, seconds: float) -> Measurement | None:
    """Run one server and the load generator once; return None if the work was too much for the server."""
    with server.running(directory, SERVER_CORE) as (port, pid):
        command = ["taskset", "-c", str(LOAD_CORE), str(load), "-p", str(port), "-pids", str(pid), "-host", "localhost"]
        command += ["-path", server.path, *work.options(seconds), *server.options]
        if server.publisher_path:
            command += ["-pub", server.publisher_path]
        try:
            printed = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        except subprocess.TimeoutExpired:
            return None
    found = (OPENED if work.only_opens else DELIVERED).search(printed)
    if found is None:
        return None
    values = {name: float(value) for name, value in found.groupdict().items()}
    return Measurement(values)


if __name__ == "__main__":
    sys.exit(main())

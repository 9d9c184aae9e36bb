"""Measure what one tenant's webhooks and *Live* cost another tenant's clients: `python -m tests.bench.neighbors`.

One tenant's clients send 10,000 messages per second. They are reported to its webhook in batches of 100, or somebody
watches them live in the console, with their content. Meanwhile, the latency of another tenant's messages is measured.
The server runs alone on one core; the load generators, the database, the receiver of the webhook and the watching
client share the other one. In each round, this is compared with the same messages alone, and with silence; medians
count.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from realtime.base.time_slices import run_promptly
from tests.bench.front_door import HERE, LOAD_CORE, SERVER_CORE
from tests.clients import channel_path
from tests.console.watching import watch
from tests.options import option_parser
from tests.receivers import Receiver
from tests.servers import LiveServer, Postgres, environment, free_port, make_tenants
from tests.webhooks import SETTINGS, Tenant

MESSAGES_PER_SECOND = 10_000
CHANNELS = 10
SWITCH = """
from accounts import services
from accounts.models import Webhook
services.update_webhook(Webhook.objects.get(pk={pk}), enabled={on})
"""
SETTLE_SECONDS = 6.0
"""How long it takes at most until a node knows that a webhook was switched."""
LATENCY = re.compile(r"p50 (?P<p50>[\d.]+) p95 [\d.]+ p99 (?P<p99>[\d.]+) p99.9")
RATE = re.compile(r"deliver: .*: (\d+)/s")
SITUATIONS = {
    "silence": (False, False, False),
    "messages": (True, False, False),
    "live": (True, False, True),
    "webhook": (True, True, False),
}
"""Whether the first tenant's clients send, whether its webhook is on, and whether somebody watches."""
LOG_IN = """
import json
from accounts import services
from accounts.models import Cluster, Role
from accounts.users import User
from tests.console.tenants import make_sessions
account = Cluster.objects.get(cluster_id="demo").account
person = User.objects.create_user("developer@example.com", password="developer-password")
services.add_member(account, person, Role.DEVELOPER)
print(json.dumps([account.pk, make_sessions({"developer": person.pk})["developer"]]))
"""
RENEW_SECONDS = 2.0


class Watching:
    """Somebody who watches the first tenant's cluster live, in a thread."""

    def __init__(self, server: LiveServer, account: int, session: str) -> None:
        """
        Args:
            server: the server.
            account: the primary key of the account.
            session: the key of the session of one of its people.
        """
        self._watched = (server, account, "demo", session)
        self._is_over = threading.Event()
        self._shown = ThreadPoolExecutor(1).submit(asyncio.run, self._watch())

    def stop(self) -> int:
        """Return how many events have arrived."""
        self._is_over.set()
        return self._shown.result()

    async def _watch(self) -> int:
        async with watch(*self._watched, content=True) as watcher:
            while not self._is_over.is_set():
                await watcher.ask(content=True)
                await asyncio.sleep(RENEW_SECONDS)
            assert watcher.code is None, (watcher.code, watcher.end)
            return len(watcher.events)


def main() -> int:
    parser = option_parser("tests.bench.neighbors", __doc__)
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8, help="seconds per measurement (default: %(default)s)")
    parser.add_argument("--postgres", action="store_true", help="use PostgreSQL instead of SQLite")
    options = parser.parse_args()
    latencies: dict[str, list[tuple[float, float]]] = defaultdict(list)
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        load = directory / "wsload"
        subprocess.run(["gcc", "-O2", "-o", str(load), str(HERE / "wsload.c")], check=True, stderr=subprocess.DEVNULL)
        settings = {**SETTINGS, "CONNECTS_PER_MINUTE_PER_ADDRESS": "1000000000"}
        if options.postgres:
            settings["DATABASE_URL"] = stack.enter_context(Postgres()).url()
        keys, *_ = make_tenants(environment(directory, **settings))
        receiver = stack.enter_context(Receiver())
        port = free_port()
        daphne = [sys.executable, "-m", "daphne", "-v", "0", "-p", str(port), "piesite.asgi:application"]
        server = LiveServer(directory, ["taskset", "-c", SERVER_CORE, *daphne], port, **settings)
        server.start()
        stack.callback(server.stop, signal.SIGKILL)
        account, session = json.loads(server.shell(LOG_IN))
        tenant = Tenant(server, receiver, kinds=["client_event"], batches=True)

        def start(key: str, seconds: float, *arguments: object, first: bool = False) -> "subprocess.Popen[str]":
            command = ["taskset", "-c", LOAD_CORE, load, "-p", port, "-path", channel_path("c%d", keys[key])]
            command += ["-d", seconds, *arguments]
            command = [str(argument) for argument in command]
            # The latency is to be that of the server, without a wait for the other programs on this core.
            prepare = run_first if first else None
            return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=prepare)  # noqa: PLW1509

        for number in range(options.rounds):
            for situation, (sends, is_on, is_watched) in SITUATIONS.items():
                server.manage("shell", "-v", "0", "-c", SWITCH.format(pk=tenant.pk, on=is_on))
                receiver.requests.clear()
                flood = None
                if sends:
                    rate = MESSAGES_PER_SECOND // CHANNELS
                    seconds = options.seconds + 2 * SETTLE_SECONDS
                    flood = start("demo", seconds, "-n", CHANNELS, "-c", CHANNELS, "-rate", rate, "-spread", 1)
                watching = Watching(server, account, session) if is_watched else None
                observed = ("-n", 100, "-c", 10, "-rate", 20, "-warm", SETTLE_SECONDS)
                observer = start("other", options.seconds, *observed, first=True)
                printed, _ = observer.communicate()
                found = LATENCY.search(printed)
                if found is None:
                    sys.exit(f"The load generator failed: {printed}")
                latencies[situation].append((float(found["p50"]), float(found["p99"])))
                shown = watching.stop() if watching is not None else 0
                received = RATE.search(flood.communicate()[0]) if flood is not None else None
                events = sum(len(got.events) for got in receiver.requests)
                print(
                    f"[{number + 1}] {situation}: p50 {found['p50']} p99 {found['p99']} ms; of the other tenant "
                    f"{received[1] if received else 0} messages per second, {events} events for the webhook, and "
                    f"{shown} shown",
                    flush=True,
                )
        report(latencies)
    return 0


def run_first() -> None:
    """Let this process run whenever it can; as root, before all ordinary processes."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        run_promptly()


def report(latencies: dict[str, list[tuple[float, float]]]) -> None:
    """Print the medians of all rounds, and how they compare with those in silence."""
    quiet = [median(values) for values in zip(*latencies["silence"], strict=True)]
    for situation, rounds in latencies.items():
        figures: Sequence[float] = [median(values) for values in zip(*rounds, strict=True)]
        p50, p99 = figures
        print(f"{situation}: p50 {p50:.2f} ms ({p50 / quiet[0]:.2f}×), p99 {p99:.2f} ms ({p99 / quiet[1]:.2f}×)")


if __name__ == "__main__":
    sys.exit(main())

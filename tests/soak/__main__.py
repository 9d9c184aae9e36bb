"""Serve clients of every kind for a while and check that they leave nothing behind: `.venv/bin/python -m tests.soak`.

The memory in the last third of the run is compared with that in the second third. Everything else that a process holds
is compared before and after the run.
"""

import asyncio
import itertools
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from random import Random
from statistics import median

from tests.options import option_parser
from tests.servers import LiveServer, Redis, environment, free_port, make_tenants, server_command

from .traffic import PATIENT, QUICK, Site, Visit, run_visit, visits
from .watch import changed, held_at_rest, until_held

SAMPLE_SECONDS = 10.0
REST_SECONDS = 90.0
MAX_GROWTH = 0.05
MAX_CONCURRENT = 400


def main() -> int:
    parser = option_parser("tests.soak", __doc__)
    parser.add_argument("--minutes", type=float, default=10, help="length of the run (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=40, help="new clients per second (default: %(default)s)")
    parser.add_argument(
        "--nodes", type=int, default=1, help="number of server processes; several share a Redis (default: 1)"
    )
    parser.add_argument("--door-shut", action="store_true", help="have Twisted, Daphne and Autobahn read all requests")
    parser.add_argument("--seed", type=int, default=7, help="seed of the order of the clients (default: %(default)s)")
    options = parser.parse_args()
    application = f"tests.soak.{'counted_with_shut_door' if options.door_shut else 'counted'}:application"
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keys, secrets, app_id = make_tenants(environment(directory))
        env = {"USAGE_SECONDS": "1"}  # what was counted is not held until the next minute
        if options.nodes > 1:
            env["REDIS_URL"] = stack.enter_context(Redis(directory)).url
        servers = []
        for _ in range(options.nodes):
            folder, port = Path(stack.enter_context(tempfile.TemporaryDirectory())), free_port()
            shutil.copytree(directory, folder, dirs_exist_ok=True)
            server = LiveServer(folder, server_command("daphne", port, folder, application), port, kind="daphne", **env)
            servers.append(stack.enter_context(server.start()))
        soak = Soak(Site(servers, keys, secrets, app_id), options.minutes * 60, options.rate, options.seed)
        faults = asyncio.run(soak.run())
        faults += [f"a traceback in the log:\n{server.log}" for server in servers if "Traceback" in server.log]
    print("\n".join(["", *faults, f"{len(faults)} faults"]))
    return 1 if faults else 0


class Soak:
    """Clients that arrive at a steady rate, and their effect on the servers."""

    def __init__(self, site: Site, seconds: float, rate: float, seed: int) -> None:
        """
        Args:
            site: the servers that the clients connect to.
            seconds: how long new clients arrive.
            rate: how many clients arrive per second.
            seed: the seed of the order in which they arrive.
        """
        self._site = site
        self._seconds = seconds
        self._rate = rate
        self._random = Random(seed)
        self._started: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._samples: list[tuple[float, list[int]]] = []

    async def run(self) -> list[str]:
        """Run the clients, report the progress, and return the faults found afterwards."""
        every_kind = [(name, visit) for name, (visit, _) in QUICK.items()] * 3
        await asyncio.gather(*(self._run_client(name, visit) for name, visit in every_kind))
        before = [await held_at_rest(server, REST_SECONDS) for server in self._site.servers]
        self._started.clear()
        await self._run_clients()
        print(f"clients: {dict(self._started.most_common())}; failed: {dict(self._failed)}", flush=True)
        faults = [f"{count} clients failed: {name}" for name, count in self._failed.items()]
        for number, server in enumerate(self._site.servers):
            after = await until_held(server, before[number], REST_SECONDS)
            print(f"\nnode {number}: {'resource':<58}before   after")
            for name in sorted(before[number].keys() | after.keys(), key=lambda name: ("objects" in name, name)):
                print(f"  {name:<64}{before[number].get(name, 0):>6}  {after.get(name, 0):>6}")
            for name, (was, now) in changed(before[number], after).items():
                faults.append(f"node {number}: {name}: {was} before, {now} after")
            faults += self._judge_memory(number)
        return faults

    async def _run_clients(self) -> None:
        begun = time.monotonic()
        arrivals = visits({**QUICK, **PATIENT}, self._random)
        watching = asyncio.create_task(self._sample(begun))
        async with asyncio.TaskGroup() as clients:
            running: set[asyncio.Task[None]] = set()
            for number in itertools.count():
                due = begun + number / self._rate
                if due > begun + self._seconds:
                    break
                await asyncio.sleep(max(due - time.monotonic(), 0))
                while len(running) >= MAX_CONCURRENT:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                name, visit = next(arrivals)
                task = clients.create_task(self._run_client(name, visit))
                running.add(task)
                task.add_done_callback(running.discard)
            watching.cancel()

    async def _run_client(self, name: str, visit: Visit) -> None:
        self._started[name] += 1
        try:
            await run_visit(visit, self._site)
        except Exception as error:
            self._failed[f"{name}: {error!r}"[:300]] += 1

    async def _sample(self, begun: float) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            memory = [server.memory_kib() for server in self._site.servers]
            cpu = sum(server.cpu_seconds() for server in self._site.servers)
            elapsed = time.monotonic() - begun
            self._samples.append((elapsed, memory))
            clients = sum(self._started.values())
            print(
                f"{elapsed:.0f} s of {self._seconds:.0f}: {clients} clients, {memory} KiB, {cpu:.0f} s of CPU",
                flush=True,
            )

    def _judge_memory(self, number: int) -> list[str]:
        values = [memory[number] for _, memory in self._samples]
        if len(values) < 9:
            return []
        third = len(values) // 3
        early, late = median(values[third : 2 * third]), median(values[-third:])
        growth = late / early - 1
        print(f"node {number}: {early:.0f} KiB in the second third, {late:.0f} KiB in the last: {growth:+.1%}")
        return [f"node {number}: memory grew by {growth:.1%}"] if growth > MAX_GROWTH else []


if __name__ == "__main__":
    sys.exit(main())

"""Measure how much a tenant's flood delays another's messages on the same node: `.venv/bin/python -m tests.fairness`.

The server runs on one core. On another core, a quiet tenant sends 50 messages a second, first alone and then while a
separate process sends a flood. The exit status is 1 if any kind of flood more than doubles the delay (p99, medians of
the rounds).
"""

import os
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from multiprocessing import get_context
from pathlib import Path
from statistics import median

from tests.clients import channel_path
from tests.options import option_parser
from tests.servers import LiveServer, environment, free_port, make_tenants, server_command
from tests.sockets.test_abuse import (
    FLOODS,
    REQUESTS,
    Flood,
    Publisher,
    Raw,
    RequestFlood,
    delays,
    publish_request,
)

KINDS = [*FLOODS, *REQUESTS]
SERVER_CORE, CLIENT_CORE = 0, 1


def main() -> int:
    parser = option_parser("tests.fairness", __doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds for each kind of flood (default: %(default)s)")
    parser.add_argument("--messages", type=int, default=250, help="messages in each measurement (default: %(default)s)")
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of floods to measure (default: all)"
    )
    options = parser.parse_args()
    unfair_kinds = 0
    with tempfile.TemporaryDirectory() as folder:
        directory, port = Path(folder), free_port()
        keys, secrets, app_id = make_tenants(environment(directory))
        server = LiveServer(
            directory, ["taskset", "-c", str(SERVER_CORE), *server_command("serve", port, directory)], port
        )
        server.start()
        os.sched_setaffinity(0, {CLIENT_CORE})
        print(f"{'flood':22}{'alone p50':>12}{'p99, ms':>10}{'flooded p50':>12}{'p99, ms':>10}{'ratio':>8}", flush=True)
        try:
            for kind in options.kinds:
                flood = kind, port, Publisher(keys["demo"], secrets["demo"], app_id)
                rounds = [measure(server, keys["other"], flood, options.messages) for _ in range(options.rounds)]
                alone50, alone99, flooded50, flooded99 = (median(column) * 1000 for column in zip(*rounds, strict=True))
                ratio = flooded99 / alone99
                unfair_kinds += ratio > 2
                print(
                    f"{kind:22}{alone50:12.2f}{alone99:10.2f}{flooded50:12.2f}{flooded99:10.2f}{ratio:8.1f}", flush=True
                )
        finally:
            server.stop()
    return 1 if unfair_kinds else 0


def measure(
    server: LiveServer, key: str, flood: tuple[str, int, Publisher], messages: int
) -> tuple[float, float, float, float]:
    """Return the p50 and p99 of a quiet tenant's delays in seconds, first alone and then during a flood."""
    pair = [Raw(server, channel_path("quiet", key)) for _ in range(2)]
    alone = delays(*pair, count=messages)
    process = get_context("spawn").Process(target=send, args=flood)
    process.start()
    try:
        time.sleep(3)
        flooded = delays(*pair, count=messages)
        assert process.is_alive(), "the flood ended early"
    finally:
        process.kill()
        process.join()
        for client in pair:
            client.socket.close()
    return *quantiles(alone), *quantiles(flooded)


def quantiles(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


def send(kind: str, port: int, publisher: Publisher) -> None:
    """Flood a server until this process is killed."""
    os.nice(19)  # keeps the flood from slowing down the measurement itself
    server = LiveServer(Path(), [], port)
    flood: AbstractContextManager[None]
    if kind in REQUESTS:
        flood = RequestFlood(server, publish_request(kind, publisher))
    else:
        flood = Flood(server, publisher.key, "flood", kind)
    with flood:
        time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main())

"""Attack a server with hostile bytes: `.venv/bin/python -m tests.fuzz --inputs 100000 --seed 7`.

Each failure is printed with the options that repeat its attack: `--seed SEED --first NUMBER --inputs 1`.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.options import option_parser
from tests.servers import LiveServer, environment, free_port, make_tenants, server_command

from .attack import NO_LIMITS, Findings, Fuzzer
from .inputs import DOORS


def main() -> int:
    parser = option_parser("tests.fuzz", __doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="number of attacks (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="seed of the random attacks (default: the current time)"
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first attack (default: %(default)s)")
    parser.add_argument(
        "--protocol", choices=list(DOORS), default="v3", help="protocol of the attacked door (default: %(default)s)"
    )
    options = parser.parse_args()
    print(f"--seed {options.seed} --first {options.first} --inputs {options.inputs}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        keys, secrets, _ = make_tenants(environment(directory))
        port = free_port()
        server = LiveServer(directory, server_command("serve", port, directory), port, **NO_LIMITS)
        server.start()
        try:
            fuzzer = Fuzzer(server, keys["demo"], secrets["demo"], options.seed, options.protocol)
            findings = asyncio.run(
                fuzzer.run(options.inputs, first=options.first, progress=lambda line: print(line, flush=True))
            )
        finally:
            server.stop()
    print_findings(findings)
    return 1 if findings.faults else 0


def print_findings(findings: Findings) -> None:
    pings, connects = sorted(findings.pings), sorted(findings.connects)
    print(f"kinds: {dict(findings.kinds.most_common())}")
    print(f"HTTP statuses: {dict(sorted(findings.statuses.items()))}")
    for name, waits in (("an answer", pings), ("a connection", connects)):
        if waits:
            p99 = waits[int(len(waits) * 0.99)]
            print(f"a healthy client waited for {name}: p99 {p99 * 1000:.0f} ms, at most {waits[-1] * 1000:.0f} ms")
    print(f"memory grew by {findings.growth_kib} KiB; {findings.seconds:.0f} s")
    for fault in findings.faults:
        print(f"\nFAULT: {fault}")
    print(f"\n{len(findings.faults)} faults")


if __name__ == "__main__":
    sys.exit(main())

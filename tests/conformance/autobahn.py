"""Run the fuzzing client of the Autobahn test suite against a channel that echoes.

    .venv/bin/python -m tests.conformance.autobahn --python2 /path/to/python2.7 [--cases quick|all|1.*,7.1.1]

The suite runs on Python 2.7 alone, with the packages of `autobahn-py27.txt`: this makes a virtual environment of them
under `.data`. It starts the service by itself, with room for the 16 MiB messages of section 9.

One thing is looked at more closely than the suite does: before it closes with 1007, the service sends an error frame,
as its wire contract says. The suite takes this for an answer that nobody asked for. Such a case counts as passed if
that frame is all that came besides what the suite expects, and the close is as it expects.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from realtime.protocols.closes import NOT_UTF8
from realtime.protocols.frames import error_message
from tests.clients import channel_path
from tests.servers import PROJECT, LiveServer, environment, free_port, make_tenants, server_command

PASSED = ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED")
# 9.*, 12.* and 13.* are about performance and compression.
SETS = {"quick": (["*"], ["9.*", "12.*", "13.*"]), "all": (["*"], [])}
# The suite's reports cut messages at this length.
TOLD = str(error_message(NOT_UTF8.sentence or "").data)[:64]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--python2", default="python2.7", help="a Python 2.7 that has virtualenv (default: %(default)s)"
    )
    parser.add_argument(
        "--cases", default="quick", help="quick, all, or patterns as in 1.*,7.1.1 (default: %(default)s)"
    )
    options = parser.parse_args()
    wstest = install(options.python2)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        port = free_port()
        key = make_tenants(environment(directory))[0]["demo"]
        limit = str(32 * 1024 * 1024)
        server = LiveServer(
            directory,
            server_command("serve", port, directory),
            port,
            MAX_MESSAGE_BYTES=limit,
            MAX_BACKLOG_BYTES=limit,
        )
        server.start()
        try:
            failed = fuzz(wstest, server.url(channel_path("autobahn", key, "notify_self")), options.cases, directory)
        finally:
            server.stop()
        if "Traceback" in server.log:
            print(server.log)
            return 1
    return 1 if failed else 0


def install(python2: str) -> Path:
    """Install the suite unless it is there; return its command."""
    folder = PROJECT / ".data" / "autobahn"
    wstest = folder / "bin" / "wstest"
    if not wstest.exists():
        print(f"Installing the Autobahn test suite into {folder} …")
        subprocess.run([python2, "-m", "virtualenv", "--quiet", str(folder)], check=True)
        packages = Path(__file__).parent / "autobahn-py27.txt"
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "-r", str(packages)], check=True)
    return wstest


def fuzz(wstest: Path, url: str, cases: str, directory: Path) -> list[str]:
    """Run the cases, print what came of them, and return those that failed."""
    included, excluded = SETS.get(cases, (cases.split(","), []))
    reports = directory / "reports"
    specification = {
        "outdir": str(reports),
        "servers": [{"agent": "service", "url": url}],
        "cases": included,
        "exclude-cases": excluded,
        "exclude-agent-cases": {},
    }
    (directory / "fuzzingclient.json").write_text(json.dumps(specification))
    print(f"Running the cases {cases} …", flush=True)
    command = [str(wstest), "-m", "fuzzingclient", "-s", str(directory / "fuzzingclient.json")]
    subprocess.run(command, cwd=directory, stdout=subprocess.DEVNULL, check=True)
    index = json.loads((reports / "index.json").read_text())["service"]
    verdicts: Counter[str] = Counter()
    failed: list[str] = []
    for case, summary in index.items():
        verdict = summary["behavior"]
        if verdict == "FAILED" and only_told(json.loads((reports / summary["reportfile"]).read_text())):
            verdict = "OK but for the error frame of the contract"
        elif verdict not in PASSED or summary["behaviorClose"] not in PASSED:
            failed.append(f"{case} ({verdict}, closing {summary['behaviorClose']})")
        verdicts[verdict] += 1
    print(f"{len(index)} cases: {', '.join(f'{verdict} {count}' for verdict, count in verdicts.most_common())}")
    print(f"failed: {', '.join(failed) or 'none'}")
    return failed


def only_told(report: dict[str, Any]) -> bool:
    """Whether a case is as expected but for the error frame before 1007."""
    received = [event for event in report["received"] if not (event[0] == "message" and event[1].startswith(TOLD))]
    return (
        len(received) == len(report["received"]) - 1
        and report["remoteCloseCode"] == NOT_UTF8.code
        and report["behaviorClose"] == "OK"
        and received in report["expected"].values()
    )


if __name__ == "__main__":
    sys.exit(main())

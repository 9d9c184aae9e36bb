"""The servers to measure: this project and those that it is compared with. Each runs as one process on one core."""

import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import soketi
from tests.clients import channel_path
from tests.servers import PROJECT, environment, free_port, make_tenants, wait_for_port

NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
NGINX_CONF = """
load_module {module};
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/error.log; worker_rlimit_nofile 30000;
events {{ worker_connections 25000; }}
http {{
  access_log off; nchan_max_reserved_memory 512M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location ~ ^/c(\\d+)$ {{ nchan_subscriber websocket; nchan_channel_id $1; nchan_message_buffer_length 100; }}
    location ~ ^/pub(\\d+)$ {{ nchan_publisher websocket; nchan_channel_id $1; nchan_message_buffer_length 100; }}
  }}
}}
"""


@dataclass(frozen=True)
class Contestant:
    """A server to measure.

    `path` and `publisher_path` are the paths for a receiver and a publisher of channel %d. On some servers, a publisher
    that uses `path` would receive its own messages.
    """

    name: str
    label: str
    path: str = "/c%d"
    publisher_path: str | None = None
    options: tuple[str, ...] = ()
    """Further options of the load generator."""
    delivers: bool = True
    missing: str = ""
    folder: Path = PROJECT
    """The folder in which the server is started."""

    def command(self, port: int, directory: Path) -> list[str]:
        """Return the command that starts the server."""
        daphne = [sys.executable, "-m", "daphne", "-v", "0", "-e", f"tcp:{port}:interface=127.0.0.1:backlog=4096"]
        match self.name:
            case "service" | "pusher":
                return [*daphne, "piesite.asgi:application"]
            case "tutorial" | "empty":
                return [*daphne, f"tests.bench.baselines:{self.name}"]
            case "soketi":
                return soketi.COMMAND
            case "nchan":
                conf = directory / "nginx.conf"
                conf.write_text(NGINX_CONF.format(module=NCHAN, directory=directory, port=port))
                return ["nginx", "-c", str(conf), "-p", str(directory)]
            case _:
                return [sys.executable, "-m", "tests.bench.uwebsockets", str(port)]

    def _settings(self, port: int) -> dict[str, str]:
        if self.name != "soketi":
            return {"CLIENT_EVENTS_PER_SECOND": "1000000"}
        return soketi.settings(port, DEFAULT_APP_ENABLE_CLIENT_MESSAGES="1")

    @contextmanager
    def running(self, directory: Path, core: int) -> Iterator[tuple[int, int]]:
        """Run the server on one core; yield its port and the ID of the process whose CPU and memory count."""
        port = free_port()
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *self.command(port, directory)],
            cwd=self.folder,
            env=environment(directory, **self._settings(port)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for_port(port, process)
            time.sleep(0.5)
            workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
            yield port, int(workers[0]) if self.name == "nchan" and workers else process.pid
        finally:
            process.terminate()
            process.wait(20)


def contestants(directory: Path, soketi_folder: Path | None) -> list[Contestant]:
    """Return all servers; those that cannot run here name what is missing.

    Args:
        directory: the folder for databases and configurations, in which the demo tenant is created.
        soketi_folder: the folder in which npm has installed Soketi.
    """
    keys, secrets, _ = make_tenants(environment(directory))
    key, secret = keys["demo"], secrets["demo"]
    nginx = "" if shutil.which("nginx") and NCHAN.exists() else "nginx with nchan (Debian: libnginx-mod-nchan)"
    socketify = "" if importlib.util.find_spec("socketify") else "socketify (pip install socketify)"
    return [
        Contestant("service", "this project", channel_path("c%d", key)),
        Contestant(
            "pusher",
            "this project, Pusher's protocol",
            f"/app/{key}?protocol=7",
            options=("-key", key, "-secret", secret),
        ),
        Contestant(
            "soketi",
            "Soketi",
            f"/app/{soketi.APP_KEY}?protocol=7",
            options=("-key", soketi.APP_KEY, "-secret", soketi.APP_SECRET),
            missing="" if soketi_folder else "Soketi (--soketi FOLDER)",
            folder=soketi_folder or PROJECT,
        ),
        Contestant("uwebsockets", "µWebSockets (C++)", publisher_path="/pub%d", missing=socketify),
        Contestant("nchan", "nchan (C, in nginx)", publisher_path="/pub%d", missing=nginx),
        Contestant("tutorial", "Channels' tutorial"),
        Contestant("empty", "empty consumer", delivers=False),
    ]

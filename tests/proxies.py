"""Two nodes behind a proxy on loopback, with the shipped configurations."""

import os
import pwd
from pathlib import Path

from tests.servers import PROJECT, LiveServer, free_port, make_certificate, need

DEPLOY = PROJECT / "piesite" / "deploy"
# The settings of a node behind a proxy.
BEHIND_PROXY = {"CLUSTER_DOMAINS": "localhost,ws.test", "HTTPS": "1", "NUM_PROXIES": "1"}


class Balanced(LiveServer):
    """Nodes behind a proxy, which are one server for clients. Its process, port and log are those of the proxy."""

    def __init__(self, directory: Path, command: list[str], nodes: list[LiveServer], kind: str, **env: str) -> None:
        super().__init__(directory, command, int(env["PORT"]), kind=kind, **{**nodes[0].env, **env})
        self.nodes = nodes
        self.http_port = int(env["HTTP_PORT"])


def behind_haproxy(directory: Path, nodes: list[LiveServer]) -> Balanced:
    """Put HAProxy in front of two nodes, with the shipped configuration unchanged."""
    need("haproxy", "redis-server")
    port, http_port, stats_port = free_port(), free_port(), free_port()
    env = {
        "BIND_HTTP": f"127.0.0.1:{http_port}",
        "BIND_HTTPS": f"127.0.0.1:{port}",
        "CERTIFICATE": str(_certificate_and_key(directory)),
        "MAXCONN": "2000",
        "NODE1": f"127.0.0.1:{nodes[0].port}",
        "NODE2": f"127.0.0.1:{nodes[1].port}",
        "STATS_PORT": str(stats_port),
    }
    if os.geteuid() != 0:
        env["PROXY_USER"] = _current_user()
    command = ["haproxy", "-db", "-f", str(DEPLOY / "haproxy.cfg")]
    return Balanced(directory, command, nodes, "haproxy", PORT=str(port), HTTP_PORT=str(http_port), **env)


def behind_nginx(directory: Path, nodes: list[LiveServer]) -> Balanced:
    """Put nginx in front of two nodes, with the addresses and paths of its configuration changed for this machine."""
    need("nginx", "redis-server")
    port, http_port = free_port(), free_port()
    text = (DEPLOY / "nginx.conf").read_text()
    for shipped, local in {
        "user www-data;": f"user {_current_user()};",
        "http {": f"http {{ client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;",
        "/run/nginx.pid": f"{directory}/nginx.pid",
        "/var/log/nginx/error.log": f"{directory}/server.log",
        "/var/log/nginx/access.log": f"{directory}/server.log",
        "/etc/ws/certificate.pem": str(_certificate_and_key(directory)),
        "worker_rlimit_nofile 200000;": "",
        "worker_connections 100000;": "",
        "listen 80 ": f"listen 127.0.0.1:{http_port} ",
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "ws.example.com": "ws.test",
        "127.0.0.1:8001": f"127.0.0.1:{nodes[0].port}",
        "127.0.0.1:8002": f"127.0.0.1:{nodes[1].port}",
    }.items():
        assert shipped in text
        text = text.replace(shipped, local)
    path = directory / "nginx.conf"
    path.write_text(text)
    command = ["nginx", "-c", str(path), "-g", "daemon off;"]
    return Balanced(directory, command, nodes, "nginx", PORT=str(port), HTTP_PORT=str(http_port))


def _certificate_and_key(directory: Path) -> Path:
    key, certificate = make_certificate(directory)
    path = directory / "certificate-and-key.pem"
    path.write_text(certificate.read_text() + key.read_text())
    return path


def _current_user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name

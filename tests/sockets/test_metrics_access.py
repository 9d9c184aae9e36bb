"""Access to `/metrics`."""

import socket
from collections.abc import Callable

import pytest

from tests.metrics import get
from tests.servers import LiveServer, free_port


@pytest.fixture(scope="module")
def server(start: Callable[..., LiveServer]) -> LiveServer:
    return start("serve", METRICS_ALLOWED="127.0.0.2,10.0.0.0/8", METRICS_TOKEN="s3cret")


def test_by_default_only_this_machine_has_access(serve: LiveServer) -> None:
    answer = get(serve, "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_this_machine_has_access_over_ipv4_on_a_dual_stack_listener(start: Callable[..., LiveServer]) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("This machine has no IPv6.")
    port = free_port()
    server = start("daphne", "-e", f"tcp6:{port}:interface=\\:\\:")
    server.port = port
    assert get(server, "/metrics").status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
def test_clients_behind_a_proxy_on_this_machine_have_no_access(serve: LiveServer, header: str) -> None:
    answer = get(serve, "/metrics", headers={header: "127.0.0.1"})
    assert answer.status_code == 403
    assert "METRICS_TOKEN" in answer.json()["error"]


def test_only_the_allowed_networks_have_access(server: LiveServer) -> None:
    assert get(server, "/metrics", local_address="127.0.0.2").status_code == 200
    assert get(server, "/metrics", local_address="127.0.0.3").status_code == 403


@pytest.mark.parametrize("token", ["s3cret", " s3cret"])
def test_the_token_gives_access_from_everywhere(server: LiveServer, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "8.8.8.8"}
    assert get(server, "/metrics", headers).status_code == 200


@pytest.mark.parametrize("line", ["Bearer s3creT", "Bearer", "Basic s3cret", "s3cret", "Bearer é"])
def test_any_other_token_gives_no_access(server: LiveServer, line: str) -> None:
    answer = get(server, "/metrics", {"Authorization": line.encode()})  # type: ignore[dict-item]
    assert answer.status_code == 403
    assert "s3cret" not in answer.text


@pytest.mark.parametrize("line", ["Bearer"])
def test_an_empty_token_gives_no_access_when_none_is_configured(serve: LiveServer, line: str) -> None:
    headers = {"Authorization": line, "X-Forwarded-For": "127.0.0.1"}
    assert get(serve, "/metrics", headers).status_code == 403


def test_prometheus_can_request_openmetrics(serve: LiveServer) -> None:
    answer = get(serve, "/metrics", {"Accept": "application/openmetrics-text;version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")

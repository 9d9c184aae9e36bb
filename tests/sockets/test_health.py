"""What probes are told of a node."""

import httpx

from tests.servers import LiveServer


def test_a_node_is_alive_and_ready_whatever_the_host(serve: LiveServer) -> None:
    headers = {"Host": "probe.invalid"}
    with httpx.Client(base_url=serve.url("", scheme="http"), trust_env=False, headers=headers) as http:
        assert http.get("/healthz").json() == {"alive": True}
        answer = http.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"ready": True, "other_nodes_reachable": True})

"""A server's metrics, parsed as Prometheus parses them."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import LiveServer


class Scrape:
    """The values of one request for `/metrics`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._values = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __getitem__(self, name: str | tuple[str, ...]) -> float:
        """Return a value by the name of its metric without the prefix, and by the value of the label if it has one."""
        name, *labels = (name,) if isinstance(name, str) else name
        return self._values[f"piesocket_{name}", *labels]

    def __contains__(self, name: str) -> bool:
        return (f"piesocket_{name}",) in self._values

    def counters(self) -> dict[tuple[str, ...], float]:
        """Return the values that may only grow."""
        endings = ("_total", "_bucket", "_count", "_sum")
        return {name: value for name, value in self._values.items() if name[0].endswith(endings)}

    def some(self, name: str) -> dict[str, float]:
        """Return the values of a metric that are not 0, by label."""
        return {key[1]: value for key, value in self._values.items() if key[0] == f"piesocket_{name}" and value}


def get(server: LiveServer, path: str, headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
    """Send a GET request over a new connection; `options` are those of httpx.HTTPTransport."""
    transport = httpx.HTTPTransport(verify=server.tls_context() or False, **options)
    with httpx.Client(transport=transport, trust_env=False, timeout=15) as http:
        return http.get(server.url(path, scheme="http"), headers=headers)


def scrape(server: LiveServer) -> Scrape:
    answer = get(server, "/metrics")
    assert answer.status_code == 200, answer.text
    return Scrape(answer.text)


async def until(condition: Callable[[Scrape], bool], server: LiveServer) -> Scrape:
    """Scrape until a condition holds, and return that scrape."""
    async with asyncio.timeout(10):
        while not condition(values := scrape(server)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return values

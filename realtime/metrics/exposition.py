"""What a node tells Prometheus: the names, and how each number is read off the node when it is asked for.

No label tells of a tenant, a channel or a client: what strangers can make more of would fill Prometheus.
"""

import asyncio
import atexit
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from realtime.metrics.across_workers import FILE_VARIABLE, WRITE_SECONDS, Numbers, Snapshot, WorkerFile, added
from realtime.metrics.counters import Histogram
from realtime.node.node import Node
from realtime.protocols import closes
from realtime.protocols.closes import Close

PREFIX = "piesocket_"
_ALL = ""  # the label of a number that has none
_AND = "|"  # between the names, and between the values, of several labels
_SUM = "sum"  # beside the buckets of a histogram
_CLOSES = [close for close in vars(closes).values() if isinstance(close, Close)]
# From the first on a rate can be told only of what was there before, so what may come is there with 0.
_NO_CLOSES = dict.fromkeys([1002, *(close.code for close in _CLOSES)], 0)
_NO_REFUSALS = dict.fromkeys([close.reason for close in _CLOSES], 0)


class Metric(NamedTuple):
    """One metric of those below."""

    family: type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]
    name: str
    help: str
    read: Callable[[Node], Mapping[Any, float]]
    """Its numbers on a node, by label."""
    label: str = ""
    """The name of its label, or of several with `_AND` between them."""
    together: Callable[[Iterable[float]], float] = sum
    """What the gauges of several workers are together."""


def _counter(name: str, help: str, read: Callable[[Node], float]) -> Metric:
    return Metric(CounterMetricFamily, name, help, lambda node: {_ALL: read(node)})


def _counters(name: str, label: str, help: str, read: Callable[[Node], Mapping[Any, float]]) -> Metric:
    return Metric(CounterMetricFamily, name, help, read, label)


def _gauge(
    name: str, help: str, read: Callable[[Node], float | None], together: Callable[[Iterable[float]], float] = sum
) -> Metric:
    def read_if_there(node: Node) -> Mapping[str, float]:
        value = read(node)
        return {} if value is None else {_ALL: value}

    return Metric(GaugeMetricFamily, name, help, read_if_there, together=together)


def _histogram(name: str, help: str, read: Callable[[Node], Histogram]) -> Metric:
    def read_buckets(node: Node) -> Mapping[str, float]:
        histogram = read(node)
        bounds = [*map(str, histogram.bounds), "+Inf"]
        return {**dict(zip(bounds, histogram.counts, strict=True)), _SUM: histogram.seconds}

    return Metric(HistogramMetricFamily, name, help, read_buckets)


_BUILD = _AND.join([settings.VERSION, platform.python_version()])
METRICS = [
    Metric(
        GaugeMetricFamily,
        "build_info",
        "Always 1; the labels are the versions of the service and of Python.",
        lambda node: {_BUILD: 1},
        _AND.join(["version", "python"]),
        together=max,
    ),
    _gauge("processes", "Server processes whose numbers these are.", lambda node: 1),
    _gauge("connections", "Connections that are open.", lambda node: len(node.connections)),
    _gauge(
        "channels",
        "Channels with connections. One with connections on several processes counts on each.",
        lambda node: len(node.hub.rooms),
    ),
    _counter("connections_opened_total", "Connections that were admitted.", lambda node: node.counters.opened),
    _counters(
        "refusals_total",
        "reason",
        "Connections that were refused.",
        lambda node: {**_NO_REFUSALS, **node.counters.refusals},
    ),
    _counters(
        "closes_total",
        "code",
        "Connections that the server has closed, refused ones too. 4100 is for clients that read too slowly.",
        lambda node: {**_NO_CLOSES, **node.counters.closes},
    ),
    _counters(
        "messages_received_total",
        "source",
        "Messages for distribution, from clients by their sockets and from servers by the Cluster API.",
        # Quotas count them in any case.
        lambda node: {
            "client": node.message_quotas.messages - node.counters.published,
            "server": node.counters.published,
        },
    ),
    _counters(
        "messages_refused_total",
        "reason",
        "Messages of clients that were not distributed, and whose sender was told so.",
        lambda node: node.counters.refused_messages,
    ),
    _counter(
        "deliveries_total",
        "Messages of channels handed to connections, each once for each receiver; presence and answers do not count.",
        lambda node: node.counters.deliveries,
    ),
    _counter(
        "delivered_bytes_total", "Bytes of these deliveries, as frames.", lambda node: node.counters.delivered_bytes
    ),
    _counters(
        "api_answers_total",
        "status",
        "Answers of the Cluster API, by HTTP status.",
        lambda node: node.counters.api_answers,
    ),
    _histogram(
        "publish_seconds",
        "How long requests to publish took, from their last byte to the answer.",
        lambda node: node.counters.publish_seconds,
    ),
    _gauge(
        "loop_lag_seconds",
        "How late the event loop did what was due, at the worst in the last minute.",
        lambda node: node.lag.worst,
        max,
    ),
    _gauge(
        "redis_up",
        "Whether Redis is in reach, and other processes by it. Absent without Redis.",
        lambda node: node.redis_is_reachable,
        min,
    ),
    _counter(
        "bus_messages_sent_total", "Messages sent to other processes by Redis.", lambda node: node.bus.messages_sent
    ),
    _counter(
        "bus_messages_received_total",
        "Messages received from others by Redis.",
        lambda node: node.bus.messages_received,
    ),
    _counter(
        "bus_messages_dropped_total",
        "Messages to other processes that were dropped, since too much waited for Redis.",
        lambda node: node.bus.messages_dropped,
    ),
    _counter(
        "bus_interruptions_total",
        "Times after which messages of other processes may be missing here.",
        lambda node: node.bus.interruptions,
    ),
    _histogram(
        "bus_round_trip_seconds",
        "How long events took by Redis from a process to itself.",
        lambda node: node.counters.round_trip_seconds,
    ),
]


class _Told(Collector):
    """Numbers as prometheus-client takes them."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            numbers = self._numbers[metric.name]
            labels = metric.label.split(_AND) if metric.label else []
            family = metric.family(PREFIX + metric.name, metric.help, labels=labels)
            if isinstance(family, HistogramMetricFamily):
                bounds = [bound for bound in numbers if bound != _SUM]
                counts = accumulate(numbers[bound] for bound in bounds)
                family.add_metric([], list(zip(bounds, counts, strict=True)), numbers[_SUM])
            else:
                for label, number in numbers.items():
                    family.add_metric(label.split(_AND) if metric.label else [], number)
            yield family


def exposition(node: Node, accept: str) -> tuple[str, bytes]:
    """What Prometheus is told, of this node and all workers that share its port.

    Args:
        node: of this process.
        accept: the header by which Prometheus says what formats it reads.

    Returns:
        The content type, and the text.
    """
    encode, content_type = choose_encoder(accept)
    return content_type, encode(_Told(_whole(node)))


def _whole(node: Node) -> Numbers:
    snapshots = [_snapshot(node)]
    if _file is not None:
        snapshots = [_file.write(snapshots[0]), *_file.others()]
    numbers = added(*(snapshot.counters for snapshot in snapshots))
    for metric in METRICS:
        if metric.family is GaugeMetricFamily:
            found: dict[str, list[float]] = {}
            for snapshot in snapshots:
                for label, value in snapshot.gauges.get(metric.name, {}).items():
                    found.setdefault(label, []).append(value)
            numbers[metric.name] = {label: metric.together(values) for label, values in found.items()}
    return numbers


def _snapshot(node: Node) -> Snapshot:
    snapshot = Snapshot({}, {})
    for metric in METRICS:
        kind = snapshot.gauges if metric.family is GaugeMetricFamily else snapshot.counters
        kind[metric.name] = {str(label): number for label, number in metric.read(node).items()}
    return snapshot


_file: WorkerFile | None = None
_writing: asyncio.Task[None] | None = None


def share_numbers(node: Node) -> None:
    """Keep the other workers informed, if there are any."""
    global _file, _writing  # noqa: PLW0603  (one a process)
    if FILE_VARIABLE in os.environ:
        _file = file = WorkerFile(Path(os.environ[FILE_VARIABLE]))
        _writing = asyncio.create_task(_keep_written(node, file))
        atexit.register(lambda: file.write(_snapshot(node)))


async def _keep_written(node: Node, file: WorkerFile) -> None:
    while True:
        file.write(_snapshot(node))
        await asyncio.sleep(WRITE_SECONDS)

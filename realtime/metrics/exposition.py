"""The metrics that a node exposes to Prometheus, and how each of them is read from the node for a scrape.

No label contains a tenant, a channel or a client, because clients could create any number of those and fill Prometheus.
"""

import asyncio
import atexit
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from realtime.base import tasks
from realtime.metrics.across_workers import FILE_VARIABLE, WRITE_SECONDS, Numbers, Snapshot, WorkerFile, add_up
from realtime.metrics.counters import Histogram
from realtime.node.node import Node
from realtime.protocols import closes
from realtime.protocols.closes import Close

PREFIX = "piesocket_"
_NO_LABEL = ""  # the key of a value without a label
_SEPARATOR = "|"  # between the names, and between the values, of several labels
_SUM = "sum"  # the key of a histogram's sum, beside its buckets
_CLOSES = [close for close in vars(closes).values() if isinstance(close, Close)]
# Prometheus computes a rate only from values that existed before, so every possible label value starts with 0.
_NO_CLOSES = dict.fromkeys([1002, *(close.code for close in _CLOSES)], 0)
_NO_REFUSALS = dict.fromkeys([close.reason for close in _CLOSES], 0)


class Metric(NamedTuple):
    """A metric, and how to read it."""

    family: type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]
    name: str
    help: str
    read: Callable[[Node], Mapping[Any, float]]
    """Returns its values on a node, by label value."""
    label: str = ""
    """The name of its label; several names are joined with `_SEPARATOR`."""
    combine: Callable[[Iterable[float]], float] = sum
    """Combines the gauges of several workers."""


def _counter(name: str, help: str, read: Callable[[Node], float]) -> Metric:
    return Metric(CounterMetricFamily, name, help, lambda node: {_NO_LABEL: read(node)})


def _counters(name: str, label: str, help: str, read: Callable[[Node], Mapping[Any, float]]) -> Metric:
    return Metric(CounterMetricFamily, name, help, read, label)


def _gauge(
    name: str, help: str, read: Callable[[Node], float | None], combine: Callable[[Iterable[float]], float] = sum
) -> Metric:
    def read_if_present(node: Node) -> Mapping[str, float]:
        value = read(node)
        return {} if value is None else {_NO_LABEL: value}

    return Metric(GaugeMetricFamily, name, help, read_if_present, combine=combine)


def _histogram(name: str, help: str, read: Callable[[Node], Histogram]) -> Metric:
    def read_buckets(node: Node) -> Mapping[str, float]:
        histogram = read(node)
        bounds = [*map(str, histogram.bounds), "+Inf"]
        return {**dict(zip(bounds, histogram.counts, strict=True)), _SUM: histogram.seconds}

    return Metric(HistogramMetricFamily, name, help, read_buckets)


_BUILD = _SEPARATOR.join([settings.VERSION, platform.python_version()])
METRICS = [
    Metric(
        GaugeMetricFamily,
        "build_info",
        "Always 1; the labels are the versions of the service and of Python.",
        lambda node: {_BUILD: 1},
        _SEPARATOR.join(["version", "python"]),
        combine=max,
    ),
    _gauge("processes", "Server processes that these metrics cover.", lambda node: 1),
    _gauge("connections", "Open connections.", lambda node: len(node.connections)),
    _gauge(
        "channels",
        "Channels with open connections. A channel with connections to several processes counts once for each of them.",
        lambda node: len(node.hub.rooms),
    ),
    _counter("connections_opened_total", "Admitted connections.", lambda node: node.counters.opened),
    _counters(
        "refusals_total",
        "reason",
        "Rejected connections.",
        lambda node: {**_NO_REFUSALS, **node.counters.refusals},
    ),
    _counters(
        "closes_total",
        "code",
        "Connections that the server closed, including rejected ones. 4100 stands for clients that read too slowly.",
        lambda node: {**_NO_CLOSES, **node.counters.closes},
    ),
    _counters(
        "messages_received_total",
        "source",
        "Messages to publish, from clients through their WebSockets and from servers through the Cluster API.",
        # The quotas count all of them already.
        lambda node: {
            "client": node.message_quotas.messages - node.counters.published,
            "server": node.counters.published,
        },
    ),
    _counters(
        "messages_refused_total",
        "reason",
        "Messages of clients that were not published; their senders got an error.",
        lambda node: node.counters.refused_messages,
    ),
    _counter(
        "deliveries_total",
        "Channel messages delivered, counted once for each receiver, without presence events and command answers.",
        lambda node: node.usage.deliveries,
    ),
    _counter(
        "delivered_bytes_total", "Bytes of the frames of these deliveries.", lambda node: node.usage.delivered_bytes
    ),
    _counters(
        "api_answers_total",
        "status",
        "Responses of the Cluster API, by HTTP status.",
        lambda node: node.counters.api_answers,
    ),
    _histogram(
        "publish_seconds",
        "Duration of publish requests, from their last byte to the response.",
        lambda node: node.counters.publish_seconds,
    ),
    _gauge(
        "loop_lag_seconds",
        "Largest delay of the event loop in the last minute.",
        lambda node: node.lag.worst,
        max,
    ),
    _counters(
        "task_restarts_total",
        "task",
        "Tasks of the process that failed and were started again.",
        lambda node: tasks.restarts,
    ),
    _gauge(
        "redis_up",
        "Whether Redis is reachable, and other processes through it. Absent without Redis.",
        lambda node: node.redis_is_reachable,
        min,
    ),
    _counter(
        "bus_messages_sent_total",
        "Messages and events sent to other processes through Redis.",
        lambda node: node.bus.messages_sent,
    ),
    _counter(
        "bus_messages_received_total",
        "Messages and events received from other processes through Redis.",
        lambda node: node.bus.messages_received,
    ),
    _counter(
        "bus_messages_dropped_total",
        "Messages to other processes that were dropped because the backlog for Redis was full.",
        lambda node: node.bus.messages_dropped,
    ),
    _counter(
        "bus_interruptions_total",
        "Interruptions during which messages of other processes may have been lost.",
        lambda node: node.bus.interruptions,
    ),
    _histogram(
        "bus_round_trip_seconds",
        "How long Redis takes to answer this process.",
        lambda node: node.counters.round_trip_seconds,
    ),
]


class _NumbersCollector(Collector):
    """Passes values to prometheus-client."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            numbers = self._numbers[metric.name]
            labels = metric.label.split(_SEPARATOR) if metric.label else []
            family = metric.family(PREFIX + metric.name, metric.help, labels=labels)
            if isinstance(family, HistogramMetricFamily):
                bounds = [bound for bound in numbers if bound != _SUM]
                counts = accumulate(numbers[bound] for bound in bounds)
                family.add_metric([], list(zip(bounds, counts, strict=True)), numbers[_SUM])
            else:
                for label, number in numbers.items():
                    family.add_metric(label.split(_SEPARATOR) if metric.label else [], number)
            yield family


def render_metrics(node: Node, accept: str) -> tuple[str, bytes]:
    """Render the metrics of this node and of all workers that share its port.

    Args:
        node: the node of this process.
        accept: the `Accept` header of the request, from which the format is chosen.

    Returns:
        The content type and the body.
    """
    encode, content_type = choose_encoder(accept)
    return content_type, encode(_NumbersCollector(_all_workers(node)))


def _all_workers(node: Node) -> Numbers:
    snapshots = [_snapshot(node)]
    if _file is not None:
        snapshots = [_file.write(snapshots[0]), *_file.read_others()]
    numbers = add_up(*(snapshot.counters for snapshot in snapshots))
    for metric in METRICS:
        if metric.family is GaugeMetricFamily:
            gauges: dict[str, list[float]] = {}
            for snapshot in snapshots:
                for label, value in snapshot.gauges.get(metric.name, {}).items():
                    gauges.setdefault(label, []).append(value)
            numbers[metric.name] = {label: metric.combine(values) for label, values in gauges.items()}
    return numbers


def _snapshot(node: Node) -> Snapshot:
    snapshot = Snapshot({}, {})
    for metric in METRICS:
        numbers = snapshot.gauges if metric.family is GaugeMetricFamily else snapshot.counters
        numbers[metric.name] = {str(label): number for label, number in metric.read(node).items()}
    return snapshot


_file: WorkerFile | None = None
_write_task: asyncio.Task[None] | None = None


def share_numbers(node: Node) -> None:
    """Write the metrics of this worker to its file regularly, if there are other workers."""
    global _file, _write_task  # noqa: PLW0603  (one per process)
    if FILE_VARIABLE in os.environ:
        _file = file = WorkerFile(Path(os.environ[FILE_VARIABLE]))
        _write_task = tasks.keep("writing metrics for the other workers", partial(_write_regularly, node, file))
        atexit.register(lambda: file.write(_snapshot(node)))


async def _write_regularly(node: Node, file: WorkerFile) -> None:
    while True:
        file.write(_snapshot(node))
        await asyncio.sleep(WRITE_SECONDS)

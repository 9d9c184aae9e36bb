"""The queue of webhooks with a clock that tests set."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from accounts.models import Webhook
from accounts.webhooks import exchange, queue
from accounts.webhooks.capacity import Flight, Task
from accounts.webhooks.client import Answer
from accounts.webhooks.exchange import Result
from accounts.webhooks.queue import NewDelivery

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
OK, ERROR, GONE = Answer(200, 5), Answer(500, 5), Answer(410, 5)
STATE, MESSAGE = {"name": "channel_occupied", "channel": "a"}, {"name": "client_event", "channel": "a"}


class Clock:
    """The time, and a sender that lives by it."""

    def __init__(self) -> None:
        self.now = START

    def add(self, webhook: Webhook, *events: dict[str, Any]) -> list[int]:
        return queue.add([NewDelivery.of(webhook.pk, [event], in_order=event is STATE) for event in events], self.now)

    def take(self, *flights: Flight) -> list[Task]:
        return exchange.exchange([], flights, self.now).tasks

    def finish(self, answer: Answer | None, *tasks: Task) -> None:
        exchange.exchange([Result(task, self.now, answer) for task in tasks], None, self.now)

    def run(self, until: timedelta, answer: Callable[[Task], Answer]) -> list[tuple[timedelta, Task]]:
        """Send everything that is due until then; return each attempt and its time since the start."""
        attempts = []
        end = self.now + until
        while True:
            results: list[Result] = []
            while tasks := exchange.exchange(results, [], self.now).tasks:
                attempts += [(self.now - START, task) for task in tasks]
                results = [Result(task, self.now, answer(task)) for task in tasks]
            due = Webhook.objects.filter(enabled=True, due_at__gt=self.now).order_by("due_at").first()
            if due is None or due.due_at is None or due.due_at > end:
                self.now = end
                return attempts
            self.now = due.due_at


def states(webhook: Webhook) -> list[str]:
    return list(webhook.deliveries.order_by("pk").values_list("state", flat=True))

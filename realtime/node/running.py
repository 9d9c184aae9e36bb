"""The node of this process."""

import asyncio
from collections.abc import Callable

from realtime.node.node import Node

on_start: list[Callable[[Node], None]] = []
"""Functions to call with the node after it has started."""

_node: Node | None = None


def current_node() -> Node:
    """Return the node of this process; the first call creates and starts it. Loop thread only."""
    global _node  # noqa: PLW0603  (one per process)
    if _node is None or _node.loop is not asyncio.get_running_loop():
        _node = Node()
        _node.start()
        for function in on_start:
            function(_node)
    return _node


def running_node() -> Node | None:
    """Return the node of this process; None if it serves no connections. Other threads may only use `Node.call`."""
    return _node

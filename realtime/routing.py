"""The ASGI application for WebSockets.

It has no table of paths. A handshake on an invalid path must be accepted and then closed with a code, but the URLRouter
of Channels raises an exception for unknown paths.
"""

from collections.abc import Coroutine
from typing import Any

from realtime.base.asgi import Response
from realtime.consumers import ChannelConsumer
from realtime.entrance import enter_socket
from realtime.http import cluster_api, pusher_api
from realtime.node.running import current_node
from realtime.server import access_logs, libraries, listeners, supervisor
from realtime.server.front_door import Doors


def answer_publish(path: str, *request: Any) -> Coroutine[Any, Any, Response]:
    """Return the performance of a request to publish that has arrived at the front door; see `Doors`."""
    publish = cluster_api.answer_publish if path.startswith("/api/") else pusher_api.answer_publish
    return publish(path, *request)


if libraries.install():
    libraries.open_front_door(Doors(enter_socket, answer_publish))
# Before the first client: other nodes, the supervisor and Prometheus learn of a node that has no clients yet.
libraries.when_running(current_node)
supervisor.end_with_supervisor()
access_logs.install()
listeners.install()
websocket_application = ChannelConsumer.as_asgi()

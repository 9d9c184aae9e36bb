"""The ASGI application for sockets.

There is no table of paths: a path that names no channel must be accepted and refused with a close code, where Channels'
URLRouter would raise.
"""

import gc

from realtime.consumers import ChannelConsumer
from realtime.node.node import current_node
from realtime.server import access_logs, libraries, supervisor

# Python looks through its objects for cycles at every 700 more of them, and through all of them at every quarter more:
# half of the CPU time of connecting, and the more the more connections there are. Connections leave few cycles behind.
gc.set_threshold(10_000, 10, 50)
libraries.install()
# Before the first client: other nodes, the supervisor and Prometheus learn of a node that has no clients yet.
libraries.when_running(current_node)
supervisor.end_with_supervisor()
access_logs.install()
websocket_application = ChannelConsumer.as_asgi()

"""The ASGI application for sockets.

There is no table of paths: a path that names no channel must be accepted and refused with a close code, where Channels'
URLRouter would raise.
"""

import gc

from realtime.consumers import ChannelConsumer
from realtime.server import access_logs, libraries

# Python looks through its objects for cycles at every 700 more of them, and through all of them at every quarter more:
# half of the CPU time of connecting, and the more the more connections there are. Connections leave few cycles behind.
gc.set_threshold(10_000, 10, 50)
libraries.install()
access_logs.install()
websocket_application = ChannelConsumer.as_asgi()

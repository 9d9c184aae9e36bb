"""The ASGI application for sockets.

There is no table of paths: a path that names no channel must be accepted and refused with a close code, where Channels'
URLRouter would raise.
"""

from . import wire
from .consumers import ChannelConsumer

wire.install()
websocket_application = ChannelConsumer.as_asgi()

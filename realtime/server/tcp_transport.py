"""TCP connections without the parts of Twisted's that this service does not use, which cost as much as the rest.

For each event of a connection, Twisted makes a logging context, although nothing logs there. For each connection it
formats two names for its log, and for each close it asks the selector first whether the socket is writable. For each
pause it changes what the selector watches, twice.
"""

import socket
from typing import Any

from twisted.internet import address, tcp
from twisted.internet.protocol import connectionDone

_Server: Any = tcp.Server  # without types


class TcpTransport(_Server):  # type: ignore[misc]
    """The transport of an accepted connection."""

    logstr = "TCP"
    repstr = "<TcpTransport>"
    disconnecting: int
    _is_held = False
    """Whether nothing is read, although the selector may still watch the socket."""

    def __init__(  # noqa: PLR0913, PLR0917  (as Twisted calls it)
        self, sock: socket.socket, protocol: Any, client: tuple[Any, ...], server: Any, sessionno: int, reactor: Any
    ) -> None:
        tcp.Connection.__init__(self, sock, protocol, reactor)
        if len(client) != 2:
            self._addressType = address.IPv6Address
        self.server = server
        self.client = client
        self.sessionno = sessionno
        self.hostname = client[0]
        self.startReading()
        self.connected = 1

    def startReading(self) -> None:
        readers = self.reactor._readers
        if self not in readers:
            fd = self.fileno()
            self.reactor._asyncioEventloop.add_reader(fd, self.reactor._readOrWrite, self, True)
            readers[self] = fd

    def pauseProducing(self) -> None:
        # Beside a flood, most pauses end before anything arrives. To stop watching the socket and to begin again costs
        # two system calls, as much as a message.
        self._is_held = True

    def resumeProducing(self) -> None:
        self._is_held = False
        super().resumeProducing()

    def doRead(self) -> Any:
        if self._is_held:
            self.stopReading()
            return None
        return super().doRead()

    def loseConnection(self, *arguments: Any) -> None:
        if self.connected and not self.disconnecting and not (self.dataBuffer or self._tempDataLen or self.producer):
            self.stopReading()
            self.disconnecting = 1
            self.reactor._asyncioEventloop.call_soon(self._end)
        else:
            super().loseConnection(*arguments)

    def _end(self) -> None:
        """End the connection, unless something was written meanwhile, which is to be sent first."""
        if not self.connected:
            return
        if self.dataBuffer or self._tempDataLen:
            self.startWriting()
        else:
            self.stopWriting()
            self.connectionLost(connectionDone)

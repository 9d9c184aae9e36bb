"""Network namespaces, in which a server can vanish from the network without a trace."""

import os
import shutil
import subprocess
import uuid

import pytest

NODE_ADDRESS, SERVER_ADDRESS = "10.213.97.2", "10.213.97.1"


class Network:
    """A namespace for nodes and one for a server, with a cable between them.

    A server that vanishes sends nothing any more, neither resets nor ICMP: the nodes' packets get lost.
    """

    def __init__(self) -> None:
        name = uuid.uuid4().hex[:8]
        self.nodes, self.server = f"nodes-{name}", f"server-{name}"
        self._near, self._far = f"n{name}", f"s{name}"

    def __enter__(self) -> "Network":
        if os.geteuid() or not shutil.which("ip"):
            pytest.skip("This needs root and iproute2.")
        try:
            for namespace in (self.nodes, self.server):
                _ip("netns", "add", namespace)
                _ip("-n", namespace, "link", "set", "lo", "up")
            peer = ["peer", "name", self._far, "netns", self.server]
            _ip("-n", self.nodes, "link", "add", self._near, "type", "veth", *peer)
        except subprocess.CalledProcessError:
            self.__exit__()
            pytest.skip("This machine does not allow network namespaces.")
        _ip("-n", self.nodes, "addr", "add", f"{NODE_ADDRESS}/30", "dev", self._near)
        _ip("-n", self.nodes, "link", "set", self._near, "up")
        self.restore()
        _ip("-n", self.server, "link", "set", self._far, "up")
        # Without a fixed entry, the kernel of the nodes would soon notice that nobody answers to the address.
        (found,) = _ip("-n", self.server, "-br", "link", "show", self._far).splitlines()
        entry = ["to", SERVER_ADDRESS, "lladdr", found.split()[2], "nud", "permanent", "dev", self._near]
        _ip("-n", self.nodes, "neigh", "replace", *entry)
        # After three retransmissions, about 3 s, the kernel gives up a connection.
        _ip("netns", "exec", self.nodes, "sh", "-c", "echo 3 > /proc/sys/net/ipv4/tcp_retries2")
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in (self.nodes, self.server):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)

    def vanish(self) -> None:
        """Let the server disappear from the network."""
        _ip("-n", self.server, "addr", "del", f"{SERVER_ADDRESS}/30", "dev", self._far)

    def restore(self) -> None:
        """Let the server appear again."""
        _ip("-n", self.server, "addr", "add", f"{SERVER_ADDRESS}/30", "dev", self._far)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout

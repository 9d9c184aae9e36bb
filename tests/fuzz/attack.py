"""Attack a running server with hostile bytes while a healthy client checks that it is still served."""

import asyncio
import contextlib
import itertools
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.clients import Client, channel_path, open_client
from tests.servers import LiveServer

from .inputs import Attack, make_attack

# The attacks come from few addresses and must not be refused for that alone.
NO_LIMITS = {
    "CONNECTS_PER_MINUTE_PER_ADDRESS": "100000000",
    "REQUESTS_PER_MINUTE_PER_ADDRESS": "100000000",
    "MAX_HTTP_PER_ADDRESS": "100000",
}
CONCURRENT_ATTACKS = 60
WINDOW = 500
"""How many attacks run between two checks of the log."""
READ_SECONDS = 0.05
"""How long an attacker reads the server's answer."""
HEALTHY_SECONDS = 5.0
"""How long a healthy client may wait for an answer or for a connection."""
QUIET_SECONDS = 30.0
"""How long the last connections of attackers may take to close."""
MAX_GROWTH_KIB = 48 * 1024
"""How much the memory of a server may grow after its first thousand attacks."""
WARM_UP = 1_000
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


@dataclass
class Findings:
    """The results of a run of attacks."""

    faults: list[str] = field(default_factory=list)
    """What the server did wrong, with the attack that caused it where that is known."""
    statuses: Counter[str] = field(default_factory=Counter)
    """How often the server answered with each HTTP status."""
    kinds: Counter[str] = field(default_factory=Counter)
    pings: list[float] = field(default_factory=list)
    """How long the healthy client waited for each answer, in seconds."""
    connects: list[float] = field(default_factory=list)
    """How long each new client waited for its connection, in seconds."""
    growth_kib: int = 0
    seconds: float = 0.0


class Fuzzer:
    """Attacks one server and judges how it holds up."""

    def __init__(self, server: LiveServer, key: str, secret: str, seed: int, protocol: str = "v3") -> None:
        """
        Args:
            server: the server, already running.
            key: an API key that is valid on the server.
            secret: the secret of that key.
            seed: the seed of the attacks.
            protocol: the protocol of the door that is attacked.
        """
        self._protocol = protocol
        self._server = server
        self._key = key
        self._secret = secret
        self._seed = seed
        self._addresses = itertools.cycle(f"127.0.1.{number}" for number in range(1, 251))
        self._attack_numbers: dict[str, int] = {}  # the last attack from each address and port
        self.findings = Findings()

    async def run(
        self, inputs: int, *, first: int = 0, progress: Callable[[str], None] = lambda line: None
    ) -> Findings:
        """Run the attacks and return what they did to the server.

        Args:
            inputs: the number of attacks.
            first: the number of the first attack.
            progress: called with a line of text after each window of attacks.
        """
        findings, begun = self.findings, time.monotonic()
        # Open what stays open after its first use: database connections, the threads' selectors.
        await self._probe()
        memory = self._server.memory_kib()
        async with open_client(self._server, channel_path("healthy", self._key)) as healthy:
            watching = asyncio.create_task(self._watch(healthy))
            try:
                for start in range(first, first + inputs, WINDOW):
                    numbers = range(start, min(start + WINDOW, first + inputs))
                    await self._run_window(numbers)
                    if start - first < WARM_UP:
                        memory = self._server.memory_kib()
                    done = numbers.stop - first
                    rate = done / (time.monotonic() - begun)
                    progress(f"{done}/{inputs} inputs, {rate:.0f}/s, {self._server.memory_kib()} KiB")
                    if watching.done():
                        break
            finally:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching
            await self._wait_for_closes()
            if await self._connections() != 1:
                findings.faults.append(f"the server counts {await self._connections()} connections, but 1 is open")
        findings.growth_kib = self._server.memory_kib() - memory
        if findings.growth_kib > MAX_GROWTH_KIB:
            findings.faults.append(f"the server's memory grew by {findings.growth_kib} KiB")
        for name, waits in (("an answer", findings.pings), ("a connection", findings.connects)):
            if waits and max(waits) > HEALTHY_SECONDS:
                findings.faults.append(f"a healthy client waited {max(waits):.2f} s for {name}")
        findings.seconds = time.monotonic() - begun
        return findings

    async def _run_window(self, numbers: range) -> None:
        """Run attacks concurrently; if the server logs a traceback, find the attacks that cause it."""
        logged = self._server.log_path.stat().st_size
        waiting = iter(numbers)

        async def attacker() -> None:
            for number in waiting:
                await self._attack(number)

        async with asyncio.TaskGroup() as attackers:
            for _ in range(CONCURRENT_ATTACKS):
                attackers.create_task(attacker())
        if not self._tracebacks(logged):
            return
        culprits = [number for number in numbers if await self._leaves_a_traceback(number)]
        for number in culprits[:3]:
            self.findings.faults.append(f"a traceback: {self._describe(number)}\n{self._tracebacks(logged)[-3000:]}")
        if not culprits:
            self.findings.faults.append(
                f"a traceback, which none of the attacks in {numbers} causes alone\n{self._tracebacks(logged)}"
            )

    async def _leaves_a_traceback(self, number: int) -> bool:
        logged = self._server.log_path.stat().st_size
        await self._attack(number)
        await asyncio.sleep(0.02)
        return bool(self._tracebacks(logged))

    def _tracebacks(self, start: int) -> str:
        with open(self._server.log_path, "rb") as log:
            log.seek(start)
            logged = log.read().decode(errors="replace")
        return logged if "Traceback" in logged or "Unhandled" in logged else ""

    def _describe(self, number: int) -> str:
        attack = make_attack(self._seed, number, self._key, self._protocol)
        return f"--protocol {self._protocol} --seed {self._seed} --first {number} --inputs 1: {attack}"

    async def _attack(self, number: int) -> None:
        attack = make_attack(self._seed, number, self._key, self._protocol)
        self.findings.kinds[attack.kind] += 1
        # Rotate the addresses: a port stays reserved for a minute after its connection, so one address would run out.
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._server.port, local_addr=(next(self._addresses), 0)
        )
        self._attack_numbers["{}:{}".format(*writer.get_extra_info("sockname"))] = number
        answer = b""
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                answer = await self._converse(attack, reader, writer)
        finally:
            await _disconnect(writer, attack.ending)
        for status in set(_STATUS.findall(answer)):
            self.findings.statuses[status.decode()] += 1
            if status >= b"500":
                self.findings.faults.append(f"HTTP {status.decode()}: {self._describe(number)}\n{answer[:1000]!r}")

    async def _converse(self, attack: Attack, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if attack.opening:
            writer.write(attack.opening)
            async with asyncio.timeout(10):
                await reader.readuntil(b"\r\n\r\n")
        for piece in attack.pieces:
            if writer.transport.is_closing():
                break
            writer.write(piece)
            await asyncio.sleep(attack.pause_seconds)
        if attack.ending == "half" and writer.can_write_eof():
            writer.write_eof()
        answer = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_SECONDS):
                while len(answer) < 1 << 20 and (chunk := await reader.read(65_536)):
                    answer += chunk
        return b"" if attack.opening else answer

    async def _watch(self, healthy: Client) -> None:
        """Act as a healthy client, and regularly connect a new one."""
        for number in itertools.count():
            begun = time.perf_counter()
            await healthy.settle()
            self.findings.pings.append(time.perf_counter() - begun)
            if number % 10 == 0:
                begun = time.perf_counter()
                async with open_client(self._server, channel_path("healthy", self._key)) as new:
                    await new.settle()
                    self.findings.connects.append(time.perf_counter() - begun)
            await asyncio.sleep(0.05)

    async def _probe(self) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            for path in ("/", "/console/you/login/", "/api/connections", "/static/realtime/tester.js"):
                await client.get(self._server.url(path, scheme="http"), headers={"key": self._key, "secret": "x"})

    async def _connections(self) -> int:
        async with httpx.AsyncClient(trust_env=False) as client:
            url = self._server.url("/api/connections/sum", scheme="http")
            answer = await client.get(url, headers={"key": self._key, "secret": self._secret})
        return int(answer.json()["connections"])

    async def _wait_for_closes(self) -> None:
        """Wait until the server has closed its connections to attackers."""
        deadline = time.monotonic() + QUIET_SECONDS
        while left := [self._attack_numbers[peer] for peer in peers(self._server) if peer in self._attack_numbers]:
            if time.monotonic() > deadline:
                self.findings.faults += [
                    f"still open {QUIET_SECONDS:.0f} s after its client left: {self._describe(number)}"
                    for number in left[:3]
                ]
                return
            await asyncio.sleep(0.1)


def peers(server: LiveServer) -> list[str]:
    """Return the remote addresses and ports of a server's TCP connections over IPv4."""
    links = []
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(link.readlink()))
    own = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [_address(row[2]) for row in rows if row[9] in own]


def _address(entry: str) -> str:
    """Convert an address and port from the notation of the kernel's table to Python's."""
    address, port = entry.split(":")
    return f"{socket.inet_ntoa(struct.pack('=I', int(address, 16)))}:{int(port, 16)}"


async def _disconnect(writer: asyncio.StreamWriter, ending: str) -> None:
    if ending == "reset":
        connection = writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()

"""An empty database for each service: SQLite, or PostgreSQL if DATABASE_URL names a server."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tests.servers import LiveServer, free_port, server_command

# The name of the database, and of the role that owns it. In piesite/deploy/README.md, both are `ws`; here, each process
# that runs tests has its own, because all of them share the server.
NAME = f"ws_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"


class Postgres:
    """The database NAME and its owner, the role NAME, on the server in DATABASE_URL."""

    def __init__(self, url: str) -> None:
        self._admin = url
        server = urlsplit(url)
        self.url = server._replace(netloc=f"{NAME}@{server.netloc.rpartition('@')[2]}", path=f"/{NAME}").geturl()
        self.client_env = {"PGHOST": server.hostname or "", "PGPORT": str(server.port or 5432)}

    def create(self) -> None:
        self._run("CREATE ROLE {} LOGIN", "CREATE DATABASE {} OWNER {}")

    def drop(self) -> None:
        self._run("DROP DATABASE {} WITH (FORCE)", "DROP ROLE {}")

    def wait_for_disconnects(self) -> None:
        """Return when the server has noticed that all clients are gone and has ended their statements."""
        with psycopg.connect(self._admin) as connection:
            while connection.execute("SELECT 1 FROM pg_stat_activity WHERE datname = %s", [NAME]).fetchone():
                connection.rollback()

    def _run(self, *statements: str) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            for statement in statements:
                connection.execute(SQL(statement).format(*[Identifier(NAME)] * statement.count("{}")))


@pytest.fixture
def postgres() -> Iterator[Postgres | None]:
    """An empty database on PostgreSQL, or None if the tests run without PostgreSQL."""
    url = os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        yield None
        return
    database = Postgres(url)
    database.create()
    yield database
    database.drop()


@pytest.fixture
def service(postgres: Postgres | None) -> Iterator[Callable[..., LiveServer]]:
    """Set up a service with that database, or with SQLite in its directory, without starting it."""
    # The throttle must not slow the tests down.
    env = {"API_USER_RATE": "1000000/min", **({"DATABASE_URL": postgres.url} if postgres else {})}
    servers: list[LiveServer] = []

    def set_up(directory: Path, **extra_env: str) -> LiveServer:
        port = free_port()
        server = LiveServer(directory, server_command("serve", port, directory), port, **env, **extra_env)
        servers.append(server)
        return server

    yield set_up
    for server in servers:
        if hasattr(server, "process"):
            server.stop(signal.SIGKILL)

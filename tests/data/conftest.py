"""A database for a service of its own: SQLite, or PostgreSQL where the tests run with its DATABASE_URL."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from tests.servers import LiveServer, free_port, server_command

# The name of the database, and of the role that owns it, in piesite/deploy/README.md.
NAME = "ws"


class Postgres:
    """The database `ws` of a role `ws`, on the server that the tests run with."""

    def __init__(self, url: str) -> None:
        self._admin = url
        server = urlsplit(url)
        self.url = server._replace(netloc=f"{NAME}@{server.netloc.rpartition('@')[2]}", path=f"/{NAME}").geturl()
        self.client_env = {"PGHOST": server.hostname or "", "PGPORT": str(server.port or 5432)}

    def create(self) -> None:
        self._run("CREATE ROLE {} LOGIN", "CREATE DATABASE {} OWNER {}")

    def drop(self) -> None:
        self._run("DROP DATABASE {} WITH (FORCE)", "DROP ROLE {}")

    def wait_until_left(self) -> None:
        """Return when the server has noticed of every client that it is gone, and has ended what it asked for."""
        with psycopg.connect(self._admin) as connection:
            while connection.execute("SELECT 1 FROM pg_stat_activity WHERE datname = %s", [NAME]).fetchone():
                connection.rollback()

    def _run(self, *statements: str) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            for statement in statements:
                connection.execute(SQL(statement).format(*[Identifier(NAME)] * statement.count("{}")))


@pytest.fixture
def postgres() -> Iterator[Postgres | None]:
    """An empty database on PostgreSQL; None where the tests run without one."""
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
    """Set up a service with that database, or one in the directory that it is given. It is not started."""
    # With no throttle to speak of.
    env = {"API_USER_RATE": "1000000/min", **({"DATABASE_URL": postgres.url} if postgres else {})}
    servers: list[LiveServer] = []

    def set_up(directory: Path, **more: str) -> LiveServer:
        port = free_port()
        server = LiveServer(directory, server_command("serve", port, directory), port, **env, **more)
        servers.append(server)
        return server

    yield set_up
    for server in servers:
        if hasattr(server, "process"):
            server.stop(signal.SIGKILL)

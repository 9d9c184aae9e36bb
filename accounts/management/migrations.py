"""Whether the database is migrated, and a lock under which only one process migrates it."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor

# Any number that nothing else in the same database uses for a lock.
_LOCK_ID = 0x6D69677261746573
# How long to wait for another process that migrates an SQLite database, in seconds.
_SQLITE_SECONDS = 600


def is_migrated() -> bool:
    """Return whether all migrations are applied.

    Raises:
        django.db.OperationalError: the database is unreachable.
    """
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


@contextlib.contextmanager
def migration_lock(alias: str) -> Iterator[None]:
    """Wait until no other process migrates this database, and keep others waiting while the context is active.

    Raises:
        django.db.OperationalError: the database is unreachable.
    """
    connection: Any = connections[alias]
    lock: contextlib.AbstractContextManager[Any]
    if connection.vendor == "postgresql":
        lock = _postgresql_lock(connection.copy())
    elif connection.is_in_memory_db():
        lock = contextlib.nullcontext()
    else:
        with connection.wrap_database_errors:
            lock = _sqlite_lock(f"{connection.settings_dict['NAME']}.migrating")
    with lock:
        yield


@contextlib.contextmanager
def _postgresql_lock(connection: Any) -> Iterator[None]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK_ID])
        yield
    finally:
        connection.close()  # which also releases the lock


def _sqlite_lock(path: str) -> Any:
    # Another SQLite database is a lock on every system, and the system releases it if the process dies. The database
    # itself cannot be locked, because the migrations write to it through another connection.
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))
    lock = sqlite3.connect(path, timeout=_SQLITE_SECONDS, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    return contextlib.closing(lock)

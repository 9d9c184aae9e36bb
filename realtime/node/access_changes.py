"""Applies access changes, such as a revoked key or a suspended account, to the open connections of this node."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any

from django.db import Error as DatabaseError

from accounts.access import find_access_of_keys
from accounts.key_access import KeyAccess
from realtime.base.errors import first_line
from realtime.base.tasks import KeptTask
from realtime.node.connections import Connection
from realtime.node.database import background
from realtime.node.key_cache import KeyCache
from realtime.protocols.admission import why_not
from realtime.protocols.closes import Close

logger = logging.getLogger(__name__)

# The type of the event that nodes send to each other when access has changed.
EVENT = "access.changed"
RETRY_SECONDS = 1.0
# Within how many seconds the key of every open connection is compared with the database, and how often the node looks
# which keys are due. This finds changes that nobody announced: a process was killed after its commit, or somebody
# changed a row by hand.
RECONCILE_SECONDS = 30.0
RECONCILE_TICK_SECONDS = 5.0
KEYS_PER_QUERY = 500
CONNECTIONS_PER_TURN = 1_000

_find_access_of_keys = background.wrap(find_access_of_keys)


class AccessChanges:
    """Drops cached keys whose access has changed and checks their connections again. Loop thread only."""

    def __init__(
        self,
        keys: KeyCache,
        connections: Collection[Connection],
        end: Callable[[Connection, Close], None],
        apply_settings: Callable[[Connection, KeyAccess], None],
    ) -> None:
        """
        Args:
            keys: the node's cache of API keys.
            connections: the node's open connections; the collection changes while the node runs.
            end: closes a connection.
            apply_settings: applies the current settings of a key to one of its connections.
        """
        self._keys = keys
        self._connections = connections
        self._end = end
        self._apply_settings = apply_settings
        self._pending: set[Connection] = set()
        self._checking: asyncio.Task[None] | None = None
        self._reconciling = KeptTask("comparing keys with the database", self._reconcile)

    def start(self) -> None:
        """Start to compare keys with the database."""
        self._reconciling.start()

    async def stop(self) -> None:
        """Stop comparing."""
        await self._reconciling.stop()

    def apply(self, event: dict[str, Any]) -> None:
        """Check the connections of the account, cluster or key that an event names."""
        scope = {name: event[name] for name in ("account_id", "cluster_pk", "public_key")}
        self._keys.forget(**scope)
        self._check(
            connection
            for connection in self._connections
            if (access := connection.access).public_key == scope["public_key"]
            or access.account_id == scope["account_id"]
            or access.cluster_pk == scope["cluster_pk"]
        )

    def check_all(self) -> None:
        """Check every connection, because events of other nodes may have been missed."""
        self._keys.forget_all()
        self._check(self._connections)

    def _check(self, connections: Iterable[Connection]) -> None:
        self._pending.update(connections)
        if self._pending and (self._checking is None or self._checking.done()):
            self._checking = asyncio.create_task(self._check_pending())

    async def _check_pending(self) -> None:
        """Check until no connection is pending. A single task is enough, however often access changes."""
        reachable = True
        while self._pending:
            batch = set(self._pending)
            self._pending.clear()
            try:
                known = await _find_access_of_keys({connection.access.public_key for connection in batch})
            except DatabaseError as error:
                if reachable:
                    reason = first_line(error)
                    logger.error("Cannot apply a change of access yet because of a database error: %s", reason)
                reachable = False
                self._pending.update(batch)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for connection in batch:
                self._compare(connection, known.get(connection.access.public_key))

    def _compare(self, connection: Connection, access: KeyAccess | None) -> None:
        """Close a connection, or change its settings, if its key gives another access now."""
        if access == connection.access:
            return
        refusal = why_not(
            access, connection.path, connection.admission.origin, authenticated=connection.is_authenticated
        )
        if refusal is not None:
            self._end(connection, refusal)
        elif access is not None:
            self._apply_settings(connection, access)

    async def _reconcile(self) -> None:
        checked_at: dict[str, float] = {}
        while True:
            await asyncio.sleep(RECONCILE_TICK_SECONDS)
            checked_at = await self._compare_due(checked_at)

    async def _compare_due(self, checked_at: dict[str, float]) -> dict[str, float]:
        """Compare the keys of open connections with the database, in one query per `KEYS_PER_QUERY` keys, spread out.

        Args:
            checked_at: when each key was compared last, as a time of the loop.

        Returns:
            The same for the keys of the connections that are open now.
        """
        now = asyncio.get_running_loop().time()
        connections: dict[str, list[Connection]] = {}
        for connection in self._connections:
            connections.setdefault(connection.access.public_key, []).append(connection)
        checked_at = {key: checked_at.get(key, now) for key in connections}
        due = [key for key, at in checked_at.items() if now - at >= RECONCILE_SECONDS - RECONCILE_TICK_SECONDS]
        for start in range(0, len(due), KEYS_PER_QUERY):
            keys = due[start : start + KEYS_PER_QUERY]
            try:
                known = await _find_access_of_keys(keys)
            except DatabaseError as error:  # an outage is reported where clients wait for the database
                logger.debug("Cannot compare keys with the database: %s", error)
                break
            checked_at.update(dict.fromkeys(keys, now))
            compared = 0
            for key in keys:
                for connection in connections[key]:
                    self._compare(connection, known.get(key))
                    compared += 1
                    if compared % CONNECTIONS_PER_TURN == 0:
                        await asyncio.sleep(0)
        return checked_at

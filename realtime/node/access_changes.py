"""Applies access changes, such as a revoked key or a suspended account, to the open connections of this node."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any

from channels.db import database_sync_to_async
from django.db import Error as DatabaseError

from accounts.access import find_many
from accounts.key_access import KeyAccess
from realtime.node.connections import Connection
from realtime.node.key_cache import KeyCache
from realtime.protocols.admission import why_not
from realtime.protocols.closes import Close

logger = logging.getLogger(__name__)

# The type of the event that nodes send to each other when access has changed.
EVENT = "access.changed"
RETRY_SECONDS = 1.0


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
        self._task: asyncio.Task[None] | None = None

    def apply(self, event: dict[str, Any]) -> None:
        """Check the connections of the account, cluster or key that an event names."""
        scope = {name: event[name] for name in ("account_id", "cluster_pk", "public_key")}
        self._keys.forget(**scope)
        self._check(
            connection
            for connection in self._connections
            if (access := connection.admission.access).public_key == scope["public_key"]
            or access.account_id == scope["account_id"]
            or access.cluster_pk == scope["cluster_pk"]
        )

    def check_all(self) -> None:
        """Check every connection, because events of other nodes may have been missed."""
        self._keys.forget_all()
        self._check(self._connections)

    def _check(self, connections: Iterable[Connection]) -> None:
        self._pending.update(connections)
        if self._pending and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._check_pending())

    async def _check_pending(self) -> None:
        """Check until no connection is pending. A single task is enough, however often access changes."""
        reachable = True
        while self._pending:
            batch = set(self._pending)
            self._pending.clear()
            try:
                known = await database_sync_to_async(find_many)(
                    {connection.admission.access.public_key for connection in batch}
                )
            except DatabaseError as error:
                if reachable:
                    logger.error("Cannot apply a change of access yet, because the database is unreachable: %s", error)
                reachable = False
                self._pending.update(batch)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for connection in batch:
                admission = connection.admission
                access = known.get(admission.access.public_key)
                refusal = why_not(access, admission.channel_id, admission.origin, authenticated=admission.authenticated)
                if refusal is not None:
                    self._end(connection, refusal)
                elif access is not None:
                    self._apply_settings(connection, access)

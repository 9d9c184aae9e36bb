"""Applies changes of access to the open connections of this node: a revoked key, a suspended account, new settings."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any

from channels.db import database_sync_to_async
from django.db import Error as DatabaseError

from accounts.access import find_access_of_keys
from accounts.key_access import KeyAccess
from realtime.node.connections import Connection
from realtime.node.key_cache import KeyCache
from realtime.protocols.admission import why_not
from realtime.protocols.closes import Close

logger = logging.getLogger(__name__)

# The event with which a node tells the others that access has changed.
EVENT = "access.changed"
RETRY_SECONDS = 1.0


class AccessChanges:
    """Forgets cached keys whose access has changed, and checks their connections again. Loop thread only."""

    def __init__(
        self,
        keys: KeyCache,
        connections: Collection[Connection],
        end: Callable[[Connection, Close], None],
        change: Callable[[Connection, KeyAccess], None],
    ) -> None:
        """
        Args:
            keys: the node's cache of API keys.
            connections: the node's connections, which change while it runs.
            end: closes a connection.
            change: applies changed settings of a key to one of its connections.
        """
        self._keys = keys
        self._connections = connections
        self._end = end
        self._change = change
        self._concerned: set[Connection] = set()  # to be checked again
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
        """Check every connection, since events of other nodes may have been missed."""
        self._keys.forget_all()
        self._check(self._connections)

    def _check(self, connections: Iterable[Connection]) -> None:
        self._concerned.update(connections)
        if self._concerned and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Check until no connection is left; one task is enough, however often access changes."""
        reachable = True
        while self._concerned:
            concerned = set(self._concerned)
            self._concerned.clear()
            try:
                public_keys = {connection.admission.access.public_key for connection in concerned}
                known = await database_sync_to_async(find_access_of_keys)(public_keys)
            except DatabaseError as error:
                if reachable:
                    logger.error("A change of access cannot be applied yet: the database is out of reach (%s).", error)
                reachable = False
                self._concerned.update(concerned)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for connection in concerned:
                admission = connection.admission
                access = known.get(admission.access.public_key)
                refusal = why_not(access, admission.channel_id, admission.origin, authenticated=admission.authenticated)
                if refusal is not None:
                    self._end(connection, refusal)
                elif access is not None:
                    self._change(connection, access)

"""Access logs without query strings, which contain API keys, JWTs, and perhaps secrets."""

import logging
from typing import Any

from daphne.server import Server


def install() -> None:
    """Make Daphne (`--access-log`, `-v 1`, `runserver`) and uvicorn log paths without query strings."""
    Server.log_action = _log_action
    for name in ("uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).addFilter(_drop_queries)


def _log_action(server: Server, protocol: str, action: str, details: dict[str, Any]) -> None:
    """Log an action as Daphne does, but without the query string. Replaces `Server.log_action`."""
    if server.action_logger:
        server.action_logger(protocol, action, {**details, "path": _without_query(details["path"])})


def _drop_queries(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(_without_query(value) if isinstance(value, str) else value for value in record.args)
    return True


def _without_query(target: str) -> str:
    return target.partition("?")[0]

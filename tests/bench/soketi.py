"""How Soketi is started from the folder in which npm has installed it, and its default application."""

from tests.servers import free_port

APP_ID, APP_KEY, APP_SECRET = "app-id", "app-key", "app-secret"
COMMAND = ["node", "node_modules/@soketi/soketi/bin/server.js", "start"]


def settings(port: int, **more: str) -> dict[str, str]:
    """Return the environment of a Soketi on a port, with more settings by their names without SOKETI_."""
    given = {"HOST": "127.0.0.1", "PORT": str(port), "METRICS_SERVER_PORT": str(free_port()), **more}
    return {f"SOKETI_{name}": value for name, value in given.items()}

"""A broadcast server on µWebSockets, based on its examples: `/c1` subscribes to a topic, `/pub1` publishes to it."""

import sys
from typing import Any

from socketify import App, AppListenOptions, CompressOptions


def upgrade(response: Any, request: Any, context: Any) -> None:
    headers = (request.get_header(f"sec-websocket-{name}") for name in ("key", "protocol", "extensions"))
    response.upgrade(*headers, context, {"path": request.get_url()})


def opened(socket: Any) -> None:
    path = socket.get_user_data()["path"]
    if path.startswith("/c"):
        socket.subscribe(path)


def received(socket: Any, message: Any, opcode: Any) -> None:
    socket.publish(socket.get_user_data()["path"].replace("/pub", "/c"), message, opcode)


def main() -> None:
    app = App()
    behaviour = {
        "compression": CompressOptions.DISABLED,
        "upgrade": upgrade,
        "open": opened,
        "message": received,
        "max_backpressure": 64 * 1024 * 1024,
    }
    app.ws("/*", behaviour)
    app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"), lambda config: None)
    app.run()


if __name__ == "__main__":
    main()

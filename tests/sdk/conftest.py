"""Fixtures for the tests of published clients: the service with TLS, which these clients require, and npm packages."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import shared_folder
from tests.documentation import code_blocks
from tests.servers import LiveServer, need

FOLDER = Path(__file__).parent


@pytest.fixture(scope="session")
def server(shared: Callable[..., LiveServer]) -> LiveServer:
    """The service, which also serves clusters of PieSocket's domain."""
    return shared("tls", CLUSTER_DOMAINS="localhost,piesocket.com")


@pytest.fixture(scope="session")
def secret(secrets: dict[str, str]) -> str:
    """The secret of the demo key."""
    return secrets["demo"]


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of package.json, the programs that use them, and an endpoint of realtime/README.md."""
    need("node", "npm")
    # Installing the packages takes half a minute.
    with shared_folder(tmp_path_factory, "sdk") as folder:
        if not (folder / "auth.mjs").exists():
            _install(folder)
    return folder


def _install(folder: Path) -> None:
    for path in (FOLDER / "package.json", *FOLDER.glob("*.mjs")):
        shutil.copy(path, folder)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=100)
    (endpoint,) = (block for block in code_blocks("realtime/README.md", "js") if "express" in block)
    (folder / "auth.mjs").write_text(endpoint)


@pytest.fixture(scope="session")
def site(node_modules: Path, secret: str) -> Iterator[str]:
    """The URL of a web site in Express with that endpoint. The cookie `user` identifies the logged-in user."""
    env = {**os.environ, "CHANNELS_SECRET": secret}
    with subprocess.Popen(["node", "site.mjs"], cwd=node_modules, env=env, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        yield f"http://127.0.0.1:{int(node.stdout.readline())}"
        node.terminate()

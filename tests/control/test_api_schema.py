"""The OpenAPI schema explains the management API to people, and generates clients."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator

from accounts.users import User

from .conftest import As

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    # JSON has neither lazy texts nor tuples.
    return json.loads(json.dumps(SchemaGenerator().get_schema(request=None, public=True), default=str))  # type: ignore[no-untyped-call]


def operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in schema["paths"].values():
        yield from methods.values()


def test_every_operation_has_a_summary_without_a_full_stop(schema: dict[str, Any]) -> None:
    summaries = {operation["operationId"]: operation.get("summary", "") for operation in operations(schema)}
    assert len(summaries) > 20
    assert {name: text for name, text in summaries.items() if not text or text.endswith(".")} == {}
    texts = ("clusters_list", "keys_create", "keys_retrieve")
    assert [summaries[name] for name in texts] == ["List clusters", "Issue a key", "Read an API key"]


def test_the_introduction_shows_the_way_to_a_token(schema: dict[str, Any]) -> None:
    assert "`POST /api/v1/token/`" in schema["info"]["description"]
    assert "`Authorization: Token …`" in schema["info"]["description"]


def test_406_is_documented_and_answered_in_json(schema: dict[str, Any], as_: As, owner: User) -> None:
    assert all("406" in operation["responses"] for operation in operations(schema))
    answer = as_(owner).get("/api/v1/accounts/", HTTP_ACCEPT="text/html")
    assert (answer.status_code, list(answer.json())) == (406, ["detail"])


@pytest.mark.parametrize("accept", ["application/vnd.oai.openapi+json", "application/yaml"])
def test_a_process_builds_the_schema_once(as_: As, accept: str) -> None:
    def seconds() -> float:
        began = time.thread_time()
        assert as_(None).get("/api/v1/schema/", HTTP_ACCEPT=accept).status_code == 200
        return time.thread_time() - began

    seconds()
    assert min(seconds() for _ in range(3)) < 0.02  # building it takes several times as long


def test_a_python_client_is_generated_without_a_warning(schema: dict[str, Any], tmp_path: Path) -> None:
    generator = Path(sys.executable).with_name("openapi-python-client")
    if not generator.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("This needs the package openapi-python-client.")
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    # The generator formats the client with the ruff that it finds on PATH.
    env = {**os.environ, "PATH": f"{generator.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [generator, "generate", "--fail-on-warning", "--path", "schema.json", "--output-path", "client"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout.lower()

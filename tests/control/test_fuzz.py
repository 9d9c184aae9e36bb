"""Valid and invalid requests, generated from the schema of the REST API: every answer conforms to the schema.

In CI each operation gets a few requests, the same in every run. `FUZZ_EXAMPLES=2000 .venv/bin/pytest
tests/control/test_fuzz.py` tests for longer, with different requests in every run and each limit of each value.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import PROJECT, LiveServer

EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
SHORT = ["--phases", "examples,fuzzing,stateful", "--max-examples", "5", "--seed", "1"]
LENGTH = ["--max-examples", EXAMPLES] if EXAMPLES else SHORT
RATES = ("API_USER_RATE", "API_ANON_RATE", "API_LOGIN_RATE")
NO_THROTTLE = {**dict.fromkeys(RATES, "1000000/s"), "REQUESTS_PER_MINUTE_PER_ADDRESS": "1000000"}
TOKEN = """
from django.contrib.auth import get_user_model
from accounts.models import ApiToken
print(ApiToken.objects.create(get_user_model().objects.get(email="owner@example.com"))[1])
"""
CONFIG = """
[checks]
# A reference may name no existing object, and a new name may be taken: a schema cannot express that.
positive_data_acceptance.enabled = false
# The API also accepts equivalent values: a number as text, 1 for true, and in a form one text for a list.
negative_data_rejection.enabled = false

[[operations]]
include-path = "/api/v1/keys/{public_key}/"
# Deleting a key revokes it, and a revoked key can still be read.
checks.use_after_free.enabled = false
"""


@pytest.mark.timeout(100_000 if EXAMPLES else 240)
@pytest.mark.parametrize(
    "operations",
    [
        pytest.param(["--exclude-operation-id", "token_destroy"], id="as an owner"),
        # This runs alone, since the first request revokes the token.
        pytest.param(["--include-operation-id", "token_destroy"], id="revoking a token"),
    ],
)
def test_every_answer_conforms_to_the_schema(
    start: Callable[..., LiveServer], tmp_path: Path, operations: list[str]
) -> None:
    server = start("serve", **NO_THROTTLE)
    token = server.shell(TOKEN).strip()
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", server.url("/api/v1/schema/", scheme="http")),
            *("--header", f"Authorization: Token {token}", *operations),
            *LENGTH,
            *("--generation-database", "none", "--no-color", "--warnings", "off"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in server.log

"""Requests to the Cluster API for tests, and their answers."""

import json
from collections.abc import Callable
from typing import Any

SUCCESS = (200, '{"success":true}')
Publish = Callable[..., Any]


def sentence(answer: tuple[int, str]) -> tuple[int, str]:
    """Return the status and the sentence of an error, which must be the only member of its body."""
    status, body = answer
    content = json.loads(body)
    assert list(content) == ["error"]
    return status, content["error"]

"""A short attack with hostile bytes; `python -m tests.fuzz` runs a long one."""

from collections.abc import Callable

import pytest

from tests.fuzz.attack import NO_LIMITS, Fuzzer
from tests.servers import LiveServer

INPUTS = 3_000
SEED = 7


@pytest.mark.parametrize(("kind", "protocol"), [("serve", "v3"), ("shut", "v3"), ("serve", "pusher"), ("serve", "v4")])
async def test_hostile_bytes_cause_no_faults(
    start: Callable[..., LiveServer], keys: dict[str, str], secrets: dict[str, str], kind: str, protocol: str
) -> None:
    findings = await Fuzzer(start(kind, **NO_LIMITS), keys["demo"], secrets["demo"], SEED, protocol).run(INPUTS)
    assert findings.faults == []
    # The attacks reached the parts of the server that they aim at; a busy one answers some too late for them.
    assert {"101", "200", "400", "404"} <= set(findings.statuses)
    assert min(findings.kinds.values()) > INPUTS / 40

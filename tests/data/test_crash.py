"""A service that is killed while it writes keeps all that it has answered, and leaves nothing half done."""

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.data.conftest import Postgres
from tests.data.owners import LOOK, Owners
from tests.servers import LiveServer

# CRASH_KILLS=100 takes minutes, and finds what is rarely half done.
KILLS = int(os.environ.get("CRASH_KILLS", "6"))


def test_killed_again_and_again_it_keeps_what_it_answered_and_does_the_rest_wholly_or_not_at_all(
    service: Callable[..., LiveServer], postgres: Postgres | None, tmp_path: Path
) -> None:
    server = service(tmp_path)
    server.manage("migrate", "-v", "0")
    server.start()
    owners = Owners(server)
    for number in range(KILLS):
        if number:
            server.start()
        with owners.at_work():
            time.sleep(random.uniform(0.3, 1.0))
    if postgres:
        postgres.wait_until_left()

    there = json.loads(server.manage("shell", "-v", "0", "-c", LOOK))
    wrong = [
        (tenant.name, there.get(tenant.name), tenant.answered, tenant.possible)
        for tenant in owners.tenants
        if there.get(tenant.name) not in (tenant.answered, tenant.possible)
    ]
    assert wrong == []
    assert set(there) <= {tenant.name for tenant in owners.tenants}
    # The kills came while something was asked for, and after much had been answered.
    assert sum(tenant.answered != tenant.possible for tenant in owners.tenants) >= KILLS
    assert sum(tenant.answered is not None for tenant in owners.tenants) >= KILLS
    assert "Traceback" not in server.log

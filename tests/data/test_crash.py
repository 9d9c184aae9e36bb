"""A service that is killed during writes keeps every change that it confirmed, and leaves no change half done."""

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.data.conftest import Postgres
from tests.data.owners import LOOK, Owners
from tests.servers import LiveServer

# CRASH_KILLS=100 takes minutes and finds rare faults.
KILLS = int(os.environ.get("CRASH_KILLS", "4"))


def test_repeated_kills_lose_no_confirmed_change_and_leave_none_half_done(
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
        postgres.wait_for_disconnects()

    found = json.loads(server.shell(LOOK))
    unexpected = [
        (tenant.name, found.get(tenant.name), tenant.answered, tenant.possible)
        for tenant in owners.tenants
        if found.get(tenant.name) not in (tenant.answered, tenant.possible)
    ]
    assert unexpected == []
    assert set(found) <= {tenant.name for tenant in owners.tenants}
    # The kills interrupted requests, and came after many answers.
    assert sum(tenant.answered != tenant.possible for tenant in owners.tenants) >= KILLS
    assert sum(tenant.answered is not None for tenant in owners.tenants) >= KILLS
    assert "Traceback" not in server.log

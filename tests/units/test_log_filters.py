"""Log lines that any client can cause."""

import asyncio
import gc
import logging

import pytest

from piesite.log_filters import CancelledRequests


@pytest.mark.parametrize(("error", "is_logged"), [(asyncio.CancelledError(), False), (ValueError(), True)])
async def test_only_futures_that_were_not_cancelled_are_logged_if_nothing_reads_them(
    caplog: pytest.LogCaptureFixture, error: BaseException, is_logged: bool
) -> None:
    log, only = logging.getLogger("asyncio"), CancelledRequests()
    log.addFilter(only)
    try:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(error)
        del future
        gc.collect()
    finally:
        log.removeFilter(only)
    assert ("Future exception was never retrieved" in caplog.text) == is_logged

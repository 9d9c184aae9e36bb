"""Tasks that are started again when they end, and coroutines that run without a task until they have to wait."""

import asyncio
import logging

import pytest

from realtime.base import tasks
from realtime.base.tasks import keep, run_eagerly


async def test_a_kept_task_that_fails_or_ends_is_logged_counted_and_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "RESTART_SECONDS", 0)
    monkeypatch.setattr(tasks, "restarts", tasks.Counter())
    runs = iter(["fails", "ends", "goes on"])
    goes_on = asyncio.Event()

    async def run() -> None:
        match next(runs):
            case "fails":
                raise ConnectionError("Redis has gone.")
            case "goes on":
                goes_on.set()
                await asyncio.Event().wait()

    kept = keep("renewing the lease", run)
    async with asyncio.timeout(5):
        await goes_on.wait()
    kept.cancel()
    assert tasks.restarts == {"renewing the lease": 2}
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "The task renewing the lease has failed; starting it again."),
        (logging.ERROR, "The task renewing the lease has ended; starting it again."),
    ]


async def test_a_coroutine_that_never_waits_needs_no_task() -> None:
    steps: list[str] = []

    async def run() -> None:
        steps.append("ran")

    assert run_eagerly(run()) is None
    assert steps == ["ran"]


async def test_a_coroutine_that_waits_goes_on_in_a_task() -> None:
    steps: list[str] = []
    futures = [asyncio.get_running_loop().create_future() for _ in range(2)]

    async def run() -> None:
        for future in futures:
            steps.append("waits")
            steps.append(await future)

    task = run_eagerly(run())
    assert task is not None
    assert steps == ["waits"]
    futures[0].set_result("first")
    await asyncio.sleep(0)
    futures[1].set_result("second")
    await task
    assert steps == ["waits", "first", "waits", "second"]


async def test_what_is_raised_before_waiting_is_raised_to_the_caller() -> None:
    async def run() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_eagerly(run())


async def test_a_failure_while_waiting_and_a_cancellation_reach_the_coroutine() -> None:
    seen: list[BaseException] = []

    async def run(future: "asyncio.Future[None]") -> None:
        try:
            await future
        except BaseException as error:
            seen.append(error)
            raise

    failing, waiting = (asyncio.get_running_loop().create_future() for _ in range(2))
    tasks = [run_eagerly(run(future)) for future in (failing, waiting)]
    assert tasks[0] is not None
    assert tasks[1] is not None
    failing.set_exception(ValueError())
    tasks[1].cancel()
    await asyncio.wait([task for task in tasks if task is not None])
    assert isinstance(tasks[0].exception(), ValueError)
    assert tasks[1].cancelled()
    assert {type(error) for error in seen} == {asyncio.CancelledError, ValueError}

"""Answers to publish requests are written together, unless only one connection publishes."""

import asyncio

import pytest

from realtime.server.answers import Answers

written: list[str] = []


class Connection:
    def __init__(self, name: str) -> None:
        self.name = name

    def send_answers(self) -> None:
        written.append(self.name)


@pytest.fixture
def answers() -> Answers:
    written.clear()
    return Answers()


async def test_answers_of_several_connections_are_written_when_all_of_them_have_been_read(answers: Answers) -> None:
    answers.write(Connection("a"))
    answers.write(Connection("b"))
    assert written == []
    await asyncio.sleep(0)
    assert written == ["a", "b"]
    answers.write(Connection("c"))
    await asyncio.sleep(0)
    assert written == ["a", "b", "c"]


async def test_the_only_connection_that_publishes_gets_its_answers_immediately(answers: Answers) -> None:
    only = Connection("a")
    answers.write(only)
    await asyncio.sleep(0)
    answers.write(only)
    assert written == ["a", "a"]


async def test_a_connection_that_has_ended_is_forgotten(answers: Answers) -> None:
    ended = Connection("a")
    answers.write(ended)
    answers.forget(Connection("b"))
    answers.forget(ended)
    await asyncio.sleep(0)
    answers.write(ended)
    assert written == ["a"], "Only the latest connection, which is remembered, is answered at once."


async def test_answers_do_not_wait_for_deliveries(answers: Answers) -> None:
    answers.is_delivering = lambda: True
    answers.write(Connection("a"))
    answers.write(Connection("b"))
    assert written == ["a", "b"]


async def test_a_connection_that_fails_keeps_no_answer_from_the_others(
    answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Connection):
        def send_answers(self) -> None:
            raise ValueError

    answers.write(Broken("a"))
    answers.write(Connection("b"))
    await asyncio.sleep(0)
    assert written == ["b"]
    assert caplog.messages == ["The answers of a connection could not be written."]

"""Guessing passwords at several nodes at the same time."""

import asyncio

import httpx

from tests.servers import LiveServer


async def test_many_connections_to_all_nodes_allow_no_more_guesses(nodes: list[LiveServer]) -> None:
    headers = {"Host": "ws.test", "X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.77"}

    async def guess(client: httpx.AsyncClient, node: LiveServer, number: int) -> int:
        credentials = {"email": "owner@example.com", "password": str(number)}
        url = node.url("/api/v1/token/", scheme="http")
        return (await client.post(url, json=credentials, headers=headers)).status_code

    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answers = await asyncio.gather(*(guess(client, nodes[number % 2], number) for number in range(80)))
    # Fewer than ten if one attempt uses up the limit of the network address, and another that of the e-mail address.
    assert 1 <= answers.count(400) <= 10
    assert answers.count(429) == 80 - answers.count(400)

"""Guessing passwords at several nodes at once."""

import asyncio

import httpx

from tests.servers import LiveServer


async def test_guessing_with_many_connections_to_all_nodes_buys_no_more(nodes: list[LiveServer]) -> None:
    headers = {"Host": "ws.test", "X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.77"}

    async def guess(client: httpx.AsyncClient, node: LiveServer, number: int) -> int:
        person = {"email": "owner@example.com", "password": str(number)}
        url = node.url("/api/v1/token/", scheme="http")
        return (await client.post(url, json=person, headers=headers)).status_code

    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answers = await asyncio.gather(*(guess(client, nodes[number % 2], number) for number in range(80)))
    # Fewer than ten if one attempt took the last place of the network address and another that of the e-mail address.
    assert 1 <= answers.count(400) <= 10
    assert answers.count(429) == 80 - answers.count(400)

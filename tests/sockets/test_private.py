"""PROTOCOL: Private channels, in each way of serving."""

import asyncio
import json
import time

import pytest

from realtime import closes, tokens
from tests.clients import channel_path, open_client
from tests.conftest import Connect
from tests.servers import LiveServer
from tests.sockets.test_refusals import error
from tests.units.test_tokens import BAD

REFUSED = ([error(closes.BAD_JWT)], 4009)


@pytest.fixture
def secret(secrets: dict[str, str]) -> str:
    return secrets["demo"]


async def test_a_private_channel_needs_a_jwt(connect: Connect, channel: str) -> None:
    assert await (await connect(f"private-{channel}")).ending() == REFUSED


async def test_members_of_a_private_channel_talk(connect: Connect, channel: str, secret: str) -> None:
    name = f"private-{channel}"
    jwt = tokens.sign(secret, name, 60)
    by_query, by_header = await connect(name, f"jwt={jwt}"), await connect(name, additional_headers={"jwt": jwt})
    await by_query.send("a")
    assert await by_header.receive() == "a"


async def test_a_key_that_protects_all_channels_needs_one_for_each(
    connect: Connect, channel: str, secrets: dict[str, str]
) -> None:
    assert await (await connect(channel, key="protected")).ending() == REFUSED
    jwt = tokens.sign(secrets["protected"], channel, 60)
    await (await connect(channel, f"jwt={jwt}", key="protected")).settle()


async def test_the_jwt_says_who_a_member_is_whatever_the_url_says(connect: Connect, channel: str, secret: str) -> None:
    jwt = tokens.sign(secret, channel, 60, "Ann")
    client = await connect(channel, "presence", "uuid=a", "user=Mallory", f"jwt={jwt}")
    assert json.loads(await client.receive())["data"]["members"] == [{"uuid": "a", "user": "Ann"}]


async def test_no_bad_token_connects(server: LiveServer, keys: dict[str, str], secrets: dict[str, str]) -> None:
    """Those of the unit test, another channel's and another key's; where one is needed, and where none is."""
    name = "private-1"
    now = int(time.time())
    bad = {
        **BAD,
        "another key's": tokens.sign(secrets["second"], name, 60),
        "another cluster's": tokens.sign(secrets["other"], name, 60),
        "the public key as secret": tokens.sign(keys["demo"], name, 60),
        "expired, else right": tokens.sign(secrets["demo"], name, -60),
        "another channel's, else right": tokens.sign(secrets["demo"], f"{name}-{now}", 60),
    }

    async def ending(client_name: str, token: str) -> tuple[list[str | bytes], int]:
        path = channel_path(client_name, keys["demo"], jwt=token.encode(errors="replace").decode())
        async with open_client(server, path) as client:
            return await client.ending()

    for channel_name in (name, "1"):
        endings = await asyncio.gather(*(ending(channel_name, token) for token in bad.values() if len(token) < 8000))
        assert len(endings) >= 40
        assert all(found == REFUSED for found in endings)


async def test_10_kilobytes_of_garbage_get_the_same_sentence(
    server: LiveServer, connect: Connect, channel: str
) -> None:
    if server.kind == "uvicorn":
        pytest.skip("Uvicorn takes no line of more than 8 kB.")
    assert await (await connect(f"private-{channel}", f"jwt={'x' * 10_000}")).ending() == REFUSED

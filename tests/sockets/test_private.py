"""Private channels, on every kind of server."""

import asyncio
import json
import time

import pytest

from realtime.protocols import closes, tokens
from tests import jwts
from tests.clients import channel_path, open_client
from tests.conftest import Connect
from tests.servers import LiveServer
from tests.sockets.test_refusals import error

REFUSED = ([error(closes.BAD_JWT)], 4009)


@pytest.fixture
def secret(secrets: dict[str, str]) -> str:
    return secrets["demo"]


async def test_a_private_channel_requires_a_jwt(connect: Connect, channel: str) -> None:
    assert await (await connect(f"private-{channel}")).ending() == REFUSED


async def test_clients_with_a_jwt_can_exchange_messages_in_a_private_channel(
    connect: Connect, channel: str, secret: str
) -> None:
    name = f"private-{channel}"
    jwt = tokens.sign(secret, name, 60)
    by_query, by_header = await connect(name, f"jwt={jwt}"), await connect(name, additional_headers={"jwt": jwt})
    await by_query.send("a")
    assert await by_header.receive() == "a"


async def test_a_key_that_protects_all_channels_requires_a_jwt_for_each(
    connect: Connect, channel: str, secrets: dict[str, str]
) -> None:
    assert await (await connect(channel, key="protected")).ending() == REFUSED
    jwt = tokens.sign(secrets["protected"], channel, 60)
    await (await connect(channel, f"jwt={jwt}", key="protected")).settle()


async def test_the_user_in_the_jwt_overrides_the_user_in_the_url(connect: Connect, channel: str, secret: str) -> None:
    jwt = tokens.sign(secret, channel, 60, "Ann")
    client = await connect(channel, "presence", "uuid=a", "user=Mallory", f"jwt={jwt}")
    assert json.loads(await client.receive())["data"]["members"] == [{"uuid": "a", "user": "Ann"}]


async def test_a_bad_jwt_in_the_query_is_refused(
    server: LiveServer, connect: Connect, channel: str, keys: dict[str, str], secrets: dict[str, str]
) -> None:
    """Whether or not a JWT is required, each gets the same sentence and code, and connected clients notice nothing."""
    private = f"private-{channel}"
    for name in (private, channel):
        watcher = await connect(name, "presence", "uuid=w", f"jwt={jwts.sign(secrets['demo'], jwts.claims(name))}")
        assert "system:member_list" in str(await watcher.receive())
        bad = {
            **jwts.bad_jwts(secrets["demo"], name),
            "another key's": jwts.sign(secrets["second"], jwts.claims(name)),
            "another cluster's": jwts.sign(secrets["other"], jwts.claims(name)),
            "the public key as secret": jwts.sign(keys["demo"], jwts.claims(name)),
        }
        if server.kind == "uvicorn":  # it accepts no line longer than 8 kB
            bad = {wrong: token for wrong, token in bad.items() if len(token) < 8000}

        async def ending(name: str, token: str) -> tuple[list[str | bytes], int]:
            async with open_client(server, channel_path(name, keys["demo"], "presence", jwt=token)) as client:
                return await client.ending()

        endings = await asyncio.gather(*(ending(name, token) for token in bad.values()))
        assert len(endings) >= 40
        assert dict(zip(bad, endings, strict=True)) == dict.fromkeys(bad, REFUSED)
        assert await watcher.count() == 1


@pytest.mark.parametrize("name", ["an empty secret", "expired", "garbage", "empty"])
async def test_a_bad_jwt_in_a_header_is_refused(connect: Connect, channel: str, secret: str, name: str) -> None:
    token = jwts.bad_jwts(secret, channel)[name]
    assert await (await connect(channel, additional_headers={"jwt": token})).ending() == REFUSED


@pytest.mark.parametrize(
    ("time_claim", "inside", "outside"), [("exp", -5, -12), ("nbf", 8, 60), ("iat", 8, 60)], ids=["exp", "nbf", "iat"]
)
async def test_clocks_may_differ_by_ten_seconds(
    connect: Connect, channel: str, secret: str, time_claim: str, inside: int, outside: int
) -> None:
    def token(seconds_from_now: int) -> str:
        return jwts.sign(secret, jwts.claims(channel, **{time_claim: int(time.time()) + seconds_from_now}))

    await (await connect(channel, f"jwt={token(inside)}")).settle()
    assert await (await connect(channel, f"jwt={token(outside)}")).ending() == REFUSED


async def test_a_number_in_a_jwt_stands_for_the_channel_of_its_decimal_string(
    connect: Connect, channel: str, secret: str
) -> None:
    number = channel.replace("channel-", "77")
    jwt = jwts.sign(secret, jwts.claims("", sub=int(number)))
    await (await connect(number, f"jwt={jwt}")).settle()
    assert await (await connect(f"0{number}", f"jwt={jwt}")).ending() == REFUSED

"""PieSocket v4: the names of its channels, who is which member, and what people see of refused handshakes."""

import json
from typing import Any

import pytest

from realtime.protocols import closes, tokens, v4_channels
from realtime.protocols.admission import Target
from realtime.protocols.closes import Refusal
from realtime.protocols.pusher_channels import group_of_path
from realtime.protocols.refused_handshakes import describe
from realtime.protocols.v4_admission import read_v4
from realtime.protocols.v4_frames import read_frame
from tests.units.protocols.test_admission import ACCESS


def scope(path: str, query: str = "") -> dict[str, Any]:
    return {"path": path, "query_string": f"api_key={ACCESS.public_key}{query}".encode(), "headers": []}


def target(path: str, query: str = "") -> Target:
    found = read_v4(scope(path, query), []).decide(ACCESS).target
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "group"), [("a", "v4.demo.a"), ("A-_z", "v4.demo.A-_z"), ("n/a", "v4.demo.n.a"), ("1998", "v4.demo.1998")]
)
def test_a_channel_has_a_group_and_a_path_of_its_own(name: str, group: str) -> None:
    assert target(f"/v4/{name}").group == v4_channels.group_for("demo", name) == group
    assert target(f"/v4/{name}").channel == (ACCESS.cluster_pk, f"v4:{name}")
    assert group_of_path("demo", f"v4:{name}") == group
    assert v4_channels.path_of(group, "demo") == f"v4:{name}"
    assert v4_channels.path_of(group, "other") == v4_channels.path_of(f"channel.demo.{name}", "demo") == ""


def test_long_names_have_short_groups() -> None:
    groups = {target(f"/v4/{'a' * 128}/{'b' * 127}{last}").group for last in "bc"}
    assert len(groups) == 2
    assert all(len(group) < 100 for group in groups)


def test_a_connection_is_counted_under_the_protocol_and_not_in_the_channel_of_its_url() -> None:
    assert read_v4(scope("/v4/a"), []).decide(ACCESS).channel == (ACCESS.cluster_pk, "v4:")


@pytest.mark.parametrize("user", ["Ann", 7, {"id": 1}, "\ud800", "x" * 300])
def test_the_user_of_a_jwt_is_a_member_that_no_uuid_can_name(user: Any) -> None:
    claims = {"sub": "a", "exp": 4_000_000_000, "user": user}
    jwt = tokens.jwt.encode(claims, ACCESS.secret or "", algorithm="HS256")
    first, second = [target("/v4/a", f"&presence&uuid={name}&jwt={jwt}").identity for name in "xy"]
    assert first is not None and second is not None  # noqa: PT018  (for the type checker)
    assert first.uuid == second.uuid
    assert json.loads(first.json) == {"uuid": "x", "user": user}
    impostor = target("/v4/a", f"&presence&uuid={first.uuid}").identity
    assert impostor is not None
    assert impostor.uuid != first.uuid
    assert max(len(first.uuid), len(impostor.uuid)) <= 64


@pytest.mark.parametrize(
    ("text", "event", "channel"),
    [
        ('{"event":"x","system::channel":"a"}', "x", "a"),
        ('\ufeff {"event":"x","system::channel":1998} ', "x", "1998"),
        ('{"event":7,"system::channel":null}', "", None),
        ("text", "", None),
        ("{text}", "", None),
    ],
)
def test_a_text_is_read(text: str, event: str, channel: str | None) -> None:
    frame = read_frame(text)
    assert frame is not None
    assert (frame.event, frame.channel) == (event, channel)


@pytest.mark.parametrize(
    ("path", "close", "shown", "detail"),
    [
        ("/v4/private-a", closes.BAD_JWT, "v4:private-a", "missing"),
        ("/v4/a.b", closes.BAD_V4_REQUEST, "a.b", "channel"),
        ("/v4/", closes.BAD_V4_REQUEST, "", "channel"),
    ],
)
def test_people_see_the_channel_of_a_refused_handshake(path: str, close: closes.Close, shown: str, detail: str) -> None:
    with pytest.raises(Refusal) as raised:
        read_v4(scope(path), []).decide(ACCESS)
    assert raised.value.close == close
    client = describe(close, scope(path), ACCESS, [], "127.0.0.1")
    assert (client.channel, client.cause.detail) == (shown, detail)

"""Any request to Pusher's HTTP API is understood or rejected with a sentence, whatever bytes it has."""

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from realtime.http.pusher_api import find_target
from realtime.protocols.publishing import Problem
from realtime.protocols.pusher_channels import group_for, is_valid_name, path_of
from realtime.protocols.pusher_events import read_batch, read_body, read_event, read_idempotency_key
from realtime.protocols.pusher_signatures import is_current, matches_body, read_signed_query, verify_request

VALUES: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just("orders")),
    lambda values: st.one_of(st.lists(values, max_size=3), st.dictionaries(st.text(max_size=5), values, max_size=3)),
    max_leaves=5,
)
MEMBERS = ["name", "data", "channel", "channels", "socket_id", "info", "idempotency_key", "batch", "else"]
EVENTS = st.dictionaries(st.sampled_from(MEMBERS), VALUES)
RIGHT = st.fixed_dictionaries({"name": st.just("new"), "data": st.text(max_size=9), "channel": st.just("orders")})
BODIES = st.one_of(
    st.binary(max_size=60),
    st.one_of(
        EVENTS,
        st.builds(lambda right, changed: {**right, **changed}, RIGHT, EVENTS),
        st.fixed_dictionaries({"batch": st.lists(st.one_of(RIGHT, EVENTS), max_size=12)}),
    ).map(lambda body: json.dumps(body).encode()),
)


@given(BODIES)
def test_any_body_is_events_whose_frames_are_json_or_a_problem(content: bytes) -> None:
    with contextlib.suppress(Problem):
        body = read_body(content)
        with contextlib.suppress(Problem):
            assert len(read_idempotency_key(body, None)) <= 256
        events = []
        with contextlib.suppress(Problem):
            events = [read_event(body, "demo", 1000)]
        with contextlib.suppress(Problem):
            events += read_batch(body, "demo", 1000)
        for event in events:
            for name, (group, message) in zip(event.channels, event.messages, strict=True):
                frame = json.loads(str(message.data))
                assert frame.keys() == {"event", "channel", "data"}
                assert frame["channel"] == name
                assert all(isinstance(value, str) for value in frame.values())
                assert group == group_for("demo", name)


@given(st.text(max_size=200), st.binary(max_size=20))
def test_no_query_makes_the_check_of_a_signature_raise_or_succeed(query: str, body: bytes) -> None:
    signed = read_signed_query(query)
    parameters = signed.parameters
    assert all(isinstance(value, str) for value in parameters.values())
    assert not verify_request(["secret"], "GET", ["/apps/1/channels"], signed)
    is_current(parameters.get("auth_timestamp", ""), 0)
    matches_body(parameters.get("body_md5"), body)


@given(st.one_of(st.text(max_size=40), st.text(max_size=20).map("/apps/1/channels/{}".format)))
def test_any_path_is_one_operation_or_none(path: str) -> None:
    find_target(path, path)


@given(st.text(max_size=170))
def test_any_valid_name_has_a_group_that_channel_layers_accept(name: str) -> None:
    if is_valid_name(name):
        group = group_for("demo", name)
        assert len(group) < 100
        assert group.isascii()
        assert path_of(group, "demo") in ("", f"pusher:{name}")

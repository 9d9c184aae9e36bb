"""The channels of Pusher's protocol: valid names, kinds, and groups that no other channel has."""

import pytest

from realtime.protocols.channels import group_name
from realtime.protocols.pusher_channels import Kind, group_for, is_group, is_valid_name, kind_of, path_for, path_of

ALPHABET = "".join(map(chr, range(128)))


def test_names_have_the_characters_that_pusher_documents() -> None:
    allowed = "".join(character for character in ALPHABET if is_valid_name(character))
    assert allowed == ",-.0123456789;=@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("a", True),
        ("a" * 164, True),
        ("a" * 165, False),
        ("", False),
        ("a b", False),
        ("é", False),
        ("a\n", False),
        ("#a", False),
        ("#server-to-user-", False),
        ("#server-to-user-12 é", True),
        ("#server-to-user-" + "1" * 128, True),
        ("#server-to-user-" + "1" * 129, False),
    ],
)
def test_names_have_a_maximum_length(name: str, *, valid: bool) -> None:
    assert is_valid_name(name) is valid


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("orders", Kind()),
        ("privateer", Kind()),
        ("cache-orders", Kind(is_cache=True)),
        ("private-orders", Kind(is_private=True)),
        ("private-cache-orders", Kind(is_private=True, is_cache=True)),
        ("private-encrypted-orders", Kind(is_private=True, is_encrypted=True)),
        ("private-encrypted-cache-orders", Kind(is_private=True, is_encrypted=True, is_cache=True)),
        ("presence-orders", Kind(is_private=True, is_presence=True)),
        ("presence-cache-orders", Kind(is_private=True, is_presence=True, is_cache=True)),
    ],
)
def test_the_beginning_of_a_name_tells_its_kind(name: str, kind: Kind) -> None:
    assert kind_of(name) == kind


NAMES = [
    *(
        "a",
        "a.b",
        "a..b",
        "a.db",
        "a,b=@;x",
        "a.cb",
        "A-_9",
        "x" * 80,
        "x" * 164,
        "y" * 164,
        "a" * 90 + "..",
        "e=",
        ".e",
    ),
    *("#server-to-user-1", "#server-to-user-é", "#server-to-user-a b", "server-to-user-1", "pusher", "demo.a"),
]


def test_each_channel_has_a_valid_group_of_its_own() -> None:
    clusters = ("demo", "other", "demo-1")
    groups = {group_for(cluster, name) for cluster in clusters for name in NAMES}
    groups |= {group_name(cluster, name) for cluster in clusters for name in ("a", "x" * 128, "pusher/a")}
    assert len(groups) == len(clusters) * (len(NAMES) + 3)
    for group in groups:
        assert len(group) < 100
        assert set(group) <= set(ALPHABET)


@pytest.mark.parametrize("name", NAMES)
def test_a_group_leads_back_to_its_channel_unless_its_name_is_long_or_unusual(name: str) -> None:
    group = group_for("demo", name)
    assert is_group(group)
    assert path_of(group, "demo") == ("" if group.startswith("pusher-hash.") else path_for(name))
    assert path_of(group, "other") == ""


def test_groups_of_other_protocols_are_not_pushers() -> None:
    assert not is_group(group_name("pusher", "a"))
    assert path_of(group_name("demo", "a"), "demo") == ""

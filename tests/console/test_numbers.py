"""How the console writes numbers, sizes and times."""

from datetime import UTC, datetime, timedelta

import pytest
from django.template import Context, Template
from django.utils import timezone

from accounts.console import numbers


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (182_402, "182,402"), (999_400, "999,400"), (5_420_000, "5.42 M"), (61_800_000, "61.8 M")],
)
def test_tiles_write_three_digits_from_a_million_on(number: int, text: str) -> None:
    assert numbers.short(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (999_400, "999 kB"),
        (999_999, "1.00 MB"),
        (18_400_000_000, "18.4 GB"),
    ],
)
def test_sizes_are_in_powers_of_a_thousand(number: int, text: str) -> None:
    assert numbers.size(number) == text


@pytest.mark.parametrize(("part", "text"), [(0, "0 %"), (1, "under 1 %"), (780, "78 %"), (1000, "100 %")])
def test_a_share_is_in_percent(part: int, text: str) -> None:
    assert numbers.share(part, 1000) == text
    assert numbers.share(0, 0) == "0 %"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "just now"),
        (60, "1 minute ago"),
        (3599, "59 minutes ago"),
        (7200, "2 hours ago"),
        (86400, "25 November"),
        (365 * 86400, "26 November 2025"),
    ],
)
def test_times_are_relative_for_a_day(seconds: int, text: str) -> None:
    now = datetime(2026, 11, 26, 14, 32, tzinfo=UTC)
    assert numbers.since(now - timedelta(seconds=seconds), now) == text


def render(text: str, **values: object) -> str:
    return Template("{% load console %}" + text).render(Context(values))


def test_a_short_number_has_its_digits_as_the_title() -> None:
    assert render("{{ n|short_number }}", n=5_420_001) == '<span title="5,420,001">5.42 M</span>'
    assert render("{{ n|short_number }} {{ n|number }}", n=1204) == "1,204 1,204"
    assert render("{{ n|size }}", n=18_400_000_000) == '<span title="18,400,000,000 bytes">18.4 GB</span>'


def test_a_time_is_complete_in_its_attributes() -> None:
    rendered = render("{{ at|ago }}", at=timezone.now() - timedelta(minutes=3))
    assert rendered.startswith('<time datetime="20')
    assert rendered.endswith(' UTC">3 minutes ago</time>')
    at = datetime(2026, 11, 26, 14, 32, 8, tzinfo=UTC)
    assert render("{{ at|moment }}", at=at).endswith(">26 November 2026, 14:32:08 UTC</time>")
    assert render("{{ at|day }}", at=at).endswith(">26 November 2026</time>")


def test_what_is_not_known_is_a_dash() -> None:
    assert render("{{ n|number }}{{ n|short_number }}{{ n|size }}{{ n|ago }}{{ n|moment }}", n=None) == "–" * 5
    assert render("{{ n|ago:'never' }}", n=None) == "never"

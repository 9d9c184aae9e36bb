"""Charts as SVG, drawn on the server: without style and script, and readable without seeing them.

A chart has two parts: the axis with its numbers, which has a fixed width, and the bars, whose places are in percent. So
text keeps its size at any width.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

_AXIS_WIDTH = 60
_TOP = 18
# The space below the bars, for their labels.
_BOTTOM = 26
# Which part of its place a bar takes.
_BAR_SHARE = 0.66
_STEPS = (1, 2, 5)
_MAX_TICKS = 4
# A label this close to the last one would overlap it, in percent of the width.
_NEAR_END = 90


class Bar(NamedTuple):
    """One bar of a chart."""

    label: str
    """Names it, such as "28 Oct"."""
    value: int
    is_current: bool = False
    """Whether its time has not ended yet."""
    tick: str = ""
    """What stands below it; empty for nothing."""


class Limit(NamedTuple):
    """A line that the bars should stay below."""

    value: int
    text: str


def bar_chart(  # noqa: PLR0913
    name: str,
    bars: Sequence[Bar],
    *,
    title: str,
    description: str,
    height: int,
    write: Callable[[int], str],
    write_tick: Callable[[int], str],
    limit: Limit | None = None,
) -> SafeString:
    """Return a bar chart.

    Args:
        name: begins the IDs of its title and description, and is unique in the page.
        bars: the bars, oldest first.
        title: what it shows, from when to when.
        description: the same as a text, for people who do not see it.
        height: in pixels.
        write: returns a value as a text.
        write_tick: returns a value as a short text, for the axis.
        limit: drawn if the highest bar passes half of it.
    """
    highest = max((bar.value for bar in bars), default=0)
    if limit is not None and highest * 2 <= limit.value:
        limit = None
    top = max(highest, limit.value if limit else 0, 1)
    scale = _Scale(top, _TOP, height - _BOTTOM)
    ticks = tick_values(top) if highest else [0]
    axis = format_html_join(
        "",
        '<text x="48" y="{}" text-anchor="end">{}</text>',
        ((f"{scale.y(tick) + 4:.1f}", write_tick(tick)) for tick in ticks),
    )
    lines = format_html_join(
        "",
        '<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>',
        ((f"{scale.y(tick):.1f}",) for tick in ticks if tick),
    )
    return format_html(
        '<div class="chart"><svg width="{axis_width}" height="{height}" aria-hidden="true">{axis}</svg>'
        '<svg width="100%" height="{height}" role="img" aria-labelledby="{name}-t {name}-d">'
        '<title id="{name}-t">{title}</title><desc id="{name}-d">{description}</desc>'
        '{lines}{bars}<line class="axis" x1="0" x2="100%" y1="{bottom}" y2="{bottom}"/>{limit}{labels}</svg></div>',
        axis_width=_AXIS_WIDTH,
        height=height,
        axis=axis,
        name=name,
        title=title,
        description=description,
        lines=lines,
        bars=_drawn(bars, scale, write),
        bottom=scale.bottom,
        limit=_line(limit, scale) if limit else "",
        labels=_labels(bars, height - 6),
    )


def tick_values(top: int) -> list[int]:
    """Return the values at which the axis has numbers: multiples of 1, 2 or 5 × 10ⁿ, from 0 up to `top`."""
    power = 1
    while True:
        for digit in _STEPS:
            step = digit * power
            if top // step <= _MAX_TICKS:
                return list(range(0, top + 1, step))
        power *= 10


class _Scale(NamedTuple):
    top_value: int
    top: int
    bottom: int

    def y(self, value: int) -> float:
        return self.bottom - value / self.top_value * (self.bottom - self.top)


def _drawn(bars: Sequence[Bar], scale: _Scale, write: Callable[[int], str]) -> SafeString:
    place = 100 / max(len(bars), 1)
    margin = place * (1 - _BAR_SHARE) / 2
    return format_html_join(
        "",
        '<rect class="{}" x="{}%" y="{}" width="{}%" height="{}" rx="2"><title>{}: {}{}</title></rect>',
        (
            (
                "so-far" if bar.is_current else "bar-of",
                f"{number * place + margin:.2f}",
                f"{scale.y(bar.value):.1f}",
                f"{place * _BAR_SHARE:.2f}",
                f"{scale.bottom - scale.y(bar.value):.1f}",
                bar.label,
                write(bar.value),
                " so far" if bar.is_current else "",
            )
            for number, bar in enumerate(bars)
        ),
    )


def _line(limit: Limit, scale: _Scale) -> SafeString:
    y = scale.y(limit.value)
    return format_html(
        '<line class="quota" x1="0" x2="100%" y1="{0}" y2="{0}"/>'
        '<text class="quota-label" x="100%" y="{1}" text-anchor="end">{2}</text>',
        f"{y:.1f}",
        f"{y - 6:.1f}",
        limit.text,
    )


def _labels(bars: Sequence[Bar], y: int) -> SafeString:
    """Write the labels. The last bar's ends at the right edge; every other one is left out on narrow screens."""
    place = 100 / max(len(bars), 1)
    middles = [(number * place + place / 2, bar.tick) for number, bar in enumerate(bars[:-1]) if bar.tick]
    middles = [(x, tick) for x, tick in middles if x < _NEAR_END or not bars[-1].tick]
    parts = [
        format_html(
            '<text{} x="{}%" y="{}" text-anchor="middle">{}</text>',
            mark_safe(' class="minor"') if (len(middles) - number) % 2 else "",
            f"{x:.2f}",
            y,
            tick,
        )
        for number, (x, tick) in enumerate(middles)
    ]
    if bars and bars[-1].tick:
        parts.append(format_html('<text x="100.00%" y="{}" text-anchor="end">{}</text>', y, bars[-1].tick))
    return mark_safe("".join(parts))  # noqa: S308

"""Bar charts as one SVG, readable on a light and on a dark background."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from benchmarks.figures import Figure, Side

LOG_SPAN_MIN = 20.0
"""Ratio of the longest to the shortest bar from which a group uses a logarithmic scale."""

_WIDTH = 900
_LABEL_WIDTH = 330
_VALUE_WIDTH = 130
_BAR_HEIGHT = 14
_ROW_HEIGHT = 20
_HEAD_HEIGHT = 30
_GAP = 22
_MARGIN = 16
_BARS_WIDTH = _WIDTH - 2 * _MARGIN - _LABEL_WIDTH - _VALUE_WIDTH
assert _BARS_WIDTH > 300
# The background is transparent, and the greys are legible on white and on black.
_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #7d8590 }
  .title { font-size: 16px; font-weight: 600 }
  .group { font-size: 13px; font-weight: 600 }
  .end { text-anchor: end }
  .ours { fill: #d9822b }
  text.ours { font-weight: 600 }
  .peer { fill: #6e89a6 }
  .limit { fill: #9a9a9a; fill-opacity: 0.55 }
  .axis { stroke: #7d8590; stroke-opacity: 0.35 }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A positive value with its label and its side."""

    label: str
    value: float
    side: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Bars of one unit."""

    title: str
    unit: str
    bars: tuple[Bar, ...]


def group_bars(figures: Iterable[Figure]) -> Iterator[Group]:
    """Yield the bars of each group of figures that have a side, longest bar first."""
    bars_by_group: dict[tuple[str, str], list[Bar]] = {}
    for figure in figures:
        if figure.side is not Side.NONE and figure.median > 0:
            bars = bars_by_group.setdefault((figure.group, figure.unit), [])
            bars.append(Bar(figure.name, figure.median, figure.side))
    for (title, unit), bars in bars_by_group.items():
        sorted_bars = sorted(bars, key=lambda bar: -bar.value)
        yield Group(title=title, unit=unit, bars=tuple(sorted_bars))


def scale_lengths(values: Sequence[float]) -> tuple[list[float], bool]:
    """Return each value's share of the width, and whether the scale is logarithmic.

    A logarithmic scale starts at a power of ten below the smallest value.
    """
    top, bottom = max(values), min(values)
    if top / bottom < LOG_SPAN_MIN:
        return [value / top for value in values], False
    start = floor(log10(bottom) - 1e-9)
    span = log10(top) - start
    return [(log10(value) - start) / span for value in values], True


def render_svg(title: str, groups: Iterable[Group]) -> str:
    """Return the chart as SVG."""
    parts: list[str] = []
    y = _MARGIN + 16
    parts.append(_text(_MARGIN, y, title, "title"))
    for group in groups:
        y += _GAP
        parts += _render_group(group, y)
        y += _HEAD_HEIGHT + len(group.bars) * _ROW_HEIGHT
    height = y + _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">'
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>", ""])


def _render_group(group: Group, top: float) -> Iterator[str]:
    shares, is_logarithmic = scale_lengths([bar.value for bar in group.bars])
    left = _MARGIN + _LABEL_WIDTH
    bottom = top + _HEAD_HEIGHT + len(group.bars) * _ROW_HEIGHT - 4
    scale = ", logarithmic" if is_logarithmic else ""
    yield _text(_MARGIN, top + 14, f"{group.title} [{group.unit}{scale}]", "group")
    for mark in _marks([bar.value for bar in group.bars], is_logarithmic):
        x = left + mark * _BARS_WIDTH
        yield (
            f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" '
            f'y1="{top + _HEAD_HEIGHT - 6}" y2="{bottom}"/>'
        )
    for index, (bar, share) in enumerate(zip(group.bars, shares, strict=True)):
        y = top + _HEAD_HEIGHT + index * _ROW_HEIGHT
        kind = bar.side.value
        words = "ours" if bar.side is Side.OURS else ""
        yield _text(left - 8, y + 11, bar.label, f"end {words}".strip())
        width = max(1.0, share * _BARS_WIDTH)
        yield (
            f'<rect class="{kind}" x="{left}" y="{y}" width="{width:.1f}" '
            f'height="{_BAR_HEIGHT}" rx="2"/>'
        )
        yield _text(left + width + 6, y + 11, _number(bar.value), words)


def _marks(values: Sequence[float], is_logarithmic: bool) -> list[float]:
    """Return the positions of grid lines: the start, and each power of ten."""
    if not is_logarithmic:
        return [0.0]
    start = floor(log10(min(values)) - 1e-9)
    span = log10(max(values)) - start
    return [(power - start) / span for power in range(start, ceil(log10(max(values)) + 1e-9))]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _text(x: float, y: float, words: str, kind: str) -> str:
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y}"{kind}>{escape(words)}</text>'

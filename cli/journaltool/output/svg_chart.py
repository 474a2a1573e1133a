"""SVG chart of the statistics of a journal: bars by kind and curves over time."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from journaltool.output.phrases import name_kind

KINDS_MAX = 24
"""Largest number of bars. The last bar represents all other kinds."""

_WIDTH = 900
_MARGIN = 16
_LABEL_WIDTH = 230
_VALUE_WIDTH = 160
_ROW_HEIGHT = 20
_BAR_HEIGHT = 14
_CURVE_HEIGHT = 90
_BARS_WIDTH = _WIDTH - 2 * _MARGIN - _LABEL_WIDTH - _VALUE_WIDTH
assert _BARS_WIDTH > 300
# The chart has no background. Its greys are readable on white and on black.
_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #7d8590 }
  .title { font-size: 16px; font-weight: 600 }
  .part { font-size: 13px; font-weight: 600 }
  .end { text-anchor: end }
  .bar { fill: #6e89a6 }
  .memory, .threads, .snapshots { fill: #6e89a6 }
  .files { fill: #4f9d69 }
  .stdio { fill: #2d9da8 }
  .sockets, .inputs { fill: #d9822b }
  .core { fill: #a371b8 }
  .curve { fill: #d9822b; fill-opacity: 0.6 }
  .axis { stroke: #7d8590; stroke-opacity: 0.35 }
"""


def render_chart(title: str, statistics: dict[str, Any]) -> str:
    """Return the chart of the values of ``stats --json``."""
    kinds = _merge_last_kinds(statistics["kinds"])
    parts, y = [_draw_text(_MARGIN, _MARGIN + 16, title, "title")], _MARGIN + 40
    seconds = statistics["seconds"]
    about = (
        f"{statistics['events']:,} events in {seconds:,.1f} s, {_format_size(statistics['size'])}"
    )
    parts.append(_draw_text(_MARGIN, y, about))
    y += 14
    for name, unit, key in (("Bytes by kind", "B", "size"), ("Events by kind", "", "events")):
        found = sorted(kinds, key=lambda one: -one[key])
        y += 14
        parts += _draw_bars(f"{name}", unit, key, found, y)
        y += 24 + len(found) * _ROW_HEIGHT
    for name, values in (
        ("Events over time", statistics["timeline"]),
        ("Bytes over time", statistics["timeline_sizes"]),
    ):
        y += 14
        parts += _draw_curve(name, values, seconds, y)
        y += 24 + _CURVE_HEIGHT + 18
    height = y + _MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-label="{_escape(title)}">'
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>", ""])


def _merge_last_kinds(kinds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the kinds with display names. Kinds beyond the limit are merged into one entry."""
    named = [{**one, "name": one["kind"] or name_kind(one["tag"])} for one in kinds]
    if len(named) <= KINDS_MAX:
        return named
    shown, others = named[: KINDS_MAX - 1], named[KINDS_MAX - 1 :]
    sums = {key: sum(one[key] for one in others) for key in ("size", "events")}
    return [*shown, {**sums, "name": f"{len(others)} others", "group": None}]


def _draw_bars(
    name: str, unit: str, key: str, kinds: Sequence[dict[str, Any]], top: float
) -> Iterator[str]:
    most = max((one[key] for one in kinds), default=0) or 1
    total = sum(one[key] for one in kinds) or 1
    left = _MARGIN + _LABEL_WIDTH
    yield _draw_text(_MARGIN, top + 14, name, "part")
    for index, one in enumerate(kinds):
        y = top + 24 + index * _ROW_HEIGHT
        width = max(1.0, one[key] / most * _BARS_WIDTH)
        value = _format_size(one[key]) if unit else f"{one[key]:,}"
        yield _draw_text(left - 8, y + 11, one["name"], "end")
        yield (
            f'<rect class="{one["group"] or "bar"}" x="{left}" y="{y}" width="{width:.1f}" '
            f'height="{_BAR_HEIGHT}" rx="2"/>'
        )
        share = f"{value}, {100 * one[key] / total:.1f} %"
        yield _draw_text(left + width + 6, y + 11, share)


def _draw_curve(name: str, values: Sequence[int], seconds: float, top: float) -> Iterator[str]:
    """Yield a step curve of the values."""
    most, width = max(values, default=0) or 1, _WIDTH - 2 * _MARGIN
    bottom = top + 24 + _CURVE_HEIGHT
    each = width / max(1, len(values))
    points = [f"{_MARGIN:.1f},{bottom:.1f}"]
    for index, value in enumerate(values):
        y = bottom - value / most * _CURVE_HEIGHT
        x = _MARGIN + index * each
        points += [f"{x:.1f},{y:.1f}", f"{x + each:.1f},{y:.1f}"]
    points.append(f"{_MARGIN + width:.1f},{bottom:.1f}")
    yield _draw_text(_MARGIN, top + 14, name, "part")
    yield f'<polygon class="curve" points="{" ".join(points)}"/>'
    yield (
        f'<line class="axis" x1="{_MARGIN}" x2="{_MARGIN + width}" y1="{bottom}" y2="{bottom}"/>'
    )
    yield _draw_text(_MARGIN, bottom + 14, "0 s")
    yield _draw_text(_MARGIN + width, bottom + 14, f"{seconds:,.3g} s", "end")


def _format_size(size: int) -> str:
    from journaltool.output.memory_format import format_size

    return format_size(size)


def _draw_text(x: float, y: float, words: str, kind: str = "") -> str:
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y}"{kind}>{_escape(words)}</text>'


def _escape(words: str) -> str:
    """Return text escaped for XML. Characters that are not printable become ``?``."""
    return escape("".join(each if each.isprintable() else "?" for each in words))

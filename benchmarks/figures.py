"""Figures: measured values with their targets, and their output as table and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any

RATIO = "x"


class Side(StrEnum):
    """Owner of a value. Values with an owner are bars in the chart."""

    NONE = ""
    OURS = "ours"
    PEER = "peer"
    LIMIT = "limit"  # upper bound for any log: memory, disk or hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A quantity with one value for each round.

    ``limit`` is the largest allowed median, ``floor`` the smallest. A ratio is computed within a
    round, from two adjacent runs. ``note`` is for readers.
    """

    group: str
    name: str
    unit: str
    values: tuple[float, ...]
    limit: float | None = None
    floor: float | None = None
    side: Side = Side.NONE
    note: str = ""

    @property
    def median(self) -> float:
        """Return the value that is compared with the targets."""
        return median(self.values)

    @property
    def verdict(self) -> str:
        """Return whether the targets are met, as text; empty if there is no target."""
        if self.limit is None and self.floor is None:
            return ""
        above = self.limit is not None and self.median > self.limit
        below = self.floor is not None and self.median < self.floor
        return "MISSED" if above or below else "met"

    @property
    def target(self) -> str:
        """Return the target as text."""
        bounds = (("<=", self.limit), (">=", self.floor))
        return " ".join(
            f"{sign} {_format_number(bound, self.unit)}"
            for sign, bound in bounds
            if bound is not None
        )

    def as_json(self) -> dict[str, Any]:
        """Return the figure as it is stored in the results file."""
        return {
            "group": self.group,
            "name": self.name,
            "unit": self.unit,
            "median": _round(self.median),
            "min": _round(min(self.values)),
            "max": _round(max(self.values)),
            "limit": self.limit,
            "floor": self.floor,
            "verdict": self.verdict or None,
            "side": self.side.value or None,
            "note": self.note or None,
            "rounds": len(self.values),
        }


def ratios(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    """Return the ratio of each round."""
    return tuple(a / b for a, b in zip(over, under, strict=True))


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def _format_number(value: float, unit: str) -> str:
    if unit == RATIO:
        return f"{value:.3f}"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def lines(figures: Iterable[Figure]) -> Iterable[str]:
    """Yield the lines of a table, group by group."""
    group = ""
    for figure in figures:
        if figure.group != group:
            group = figure.group
            yield ""
            yield f"{group:<68} {'median':>8} {'min':>8} {'max':>8} {'target':>8}"
        unit = figure.unit
        low, high = min(figure.values), max(figure.values)
        values = " ".join(
            f"{_format_number(value, unit):>8}" for value in (figure.median, low, high)
        )
        name = f"{figure.name} [{unit}]"
        yield f"  {name:<66} {values} {figure.target:>8} {figure.verdict} {figure.note}".rstrip()

"""Figures: what was measured in each round, what it should be, and how both are shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

RATIO = "x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One quantity, measured once in each round; ``limit`` is the most that its median may be.

    A ratio is taken within a round, between two runs that were made one after the other.
    """

    group: str
    name: str
    unit: str
    values: tuple[float, ...]
    limit: float | None = None

    @property
    def median(self) -> float:
        """What is compared with the limit."""
        return median(self.values)

    @property
    def verdict(self) -> str:
        """Whether the limit is kept; empty where there is none."""
        if self.limit is None:
            return ""
        return "met" if self.median <= self.limit else "MISSED"

    def as_json(self) -> dict[str, Any]:
        """For the file of results."""
        return {
            "group": self.group,
            "name": self.name,
            "unit": self.unit,
            "median": _rounded(self.median),
            "min": _rounded(min(self.values)),
            "max": _rounded(max(self.values)),
            "limit": self.limit,
            "verdict": self.verdict or None,
            "rounds": len(self.values),
        }


def ratios(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    """The ratio of each round."""
    return tuple(a / b for a, b in zip(over, under, strict=True))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _number(value: float, unit: str) -> str:
    if unit == RATIO:
        return f"{value:.3f}"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def lines(figures: Iterable[Figure]) -> Iterable[str]:
    """A table for people, one group after the other."""
    group = ""
    for figure in figures:
        if figure.group != group:
            group = figure.group
            yield ""
            yield f"{group:<58} {'median':>8} {'min':>8} {'max':>8} {'target':>8}"
        unit = figure.unit
        low, high = min(figure.values), max(figure.values)
        limit = f"<= {_number(figure.limit, unit)}" if figure.limit is not None else ""
        shown = " ".join(f"{_number(value, unit):>8}" for value in (figure.median, low, high))
        name = f"{figure.name} [{unit}]"
        yield f"  {name:<56} {shown} {limit:>8} {figure.verdict}".rstrip()

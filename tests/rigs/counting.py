"""Counter of the crash states that a test run has tried, printed at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PROPERTY = "crash states"


@pytest.fixture
def count_states(record_property: Callable[[str, object], None]) -> Callable[[int], None]:
    """Record the number of crash states that a test has tried."""

    def count(number: int) -> None:
        record_property(PROPERTY, number)

    return count


def recorded_values(terminalreporter: Any, name: str) -> list[Any]:
    """Return the values of the property ``name`` that all tests recorded, in all processes."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    return [
        value
        for report in reports
        for key, value in getattr(report, "user_properties", ())
        if key == name and report.when == "call"
    ]


def report_states(terminalreporter: Any) -> None:
    """Print the sum of the counts of all tests in all processes."""
    counts = recorded_values(terminalreporter, PROPERTY)
    if counts:
        terminalreporter.write_line(f"{sum(counts)} {PROPERTY} in {len(counts)} tests")

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


def report_states(terminalreporter: Any) -> None:
    """Print the sum of the counts of all tests in all processes."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    counts = [
        value
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY and report.when == "call"
    ]
    if counts:
        terminalreporter.write_line(f"{sum(counts)} {PROPERTY} in {len(counts)} tests")

"""Time budgets of campaigns, and the number of cases that each campaign tried.

A campaign tries cases until its budget is spent, but never fewer than its minimum, so that it
proves something on any machine and ends in time on a slow one. ``make deep`` gives each campaign a
few seconds; ``make campaign`` gives it no limit. The end of a run prints how much was tried.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

import pytest
from hypothesis.strategies import DataObject

from tests.rigs.counting import recorded_values

T = TypeVar("T")

PROPERTY = "campaign"
EXAMPLES_MIN = 10
"""Examples that hypothesis tries in any case, in each campaign of generated examples."""


class Budget:
    """The seconds that one campaign may take; ``seconds`` of 0 is no limit.

    ``tried`` and ``planned`` count cases over all calls of ``spend``.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self.tried = 0
        self.planned = 0

    @property
    def seconds(self) -> float:
        """Seconds of the whole budget; 0 without a limit."""
        return self._seconds

    @property
    def is_spent(self) -> bool:
        """Return whether the time has passed."""
        return self._seconds > 0 and time.monotonic() >= self._deadline

    def spend(self, cases: Sequence[T], minimum: int) -> Iterator[T]:
        """Yield ``cases`` in a fixed random order until the budget is spent, at least ``minimum``.

        With enough time every case is yielded once, in the order of ``cases`` if there is no limit.
        """
        order = list(range(len(cases)))
        if self._seconds > 0:
            random.Random(len(cases)).shuffle(order)
        self.planned += len(cases)
        for count, index in enumerate(order):
            if count >= minimum and self.is_spent:
                return
            self.tried += 1
            yield cases[index]

    @contextmanager
    def bounding(self, handle: Any) -> Iterator[None]:
        """Let a test of hypothesis do nothing once the budget is spent.

        ``handle`` is the test's ``hypothesis`` attribute. At least ``EXAMPLES_MIN`` examples reach
        the test. A test that draws interactively (``st.data()``, ``st.randoms()``) is not bounded:
        hypothesis reports a test as flaky that draws at first, and later does not.
        """
        test = handle.inner_test

        @wraps(test)
        def bounded(*args: Any, **kwargs: Any) -> None:
            self.planned += 1
            is_interactive = any(
                isinstance(one, DataObject | random.Random) for one in (*args, *kwargs.values())
            )
            if self.tried >= EXAMPLES_MIN and self.is_spent and not is_interactive:
                return
            self.tried += 1
            test(*args, **kwargs)

        handle.inner_test = bounded
        try:
            yield
        finally:
            handle.inner_test = test


def add_option(parser: pytest.Parser) -> None:
    """Add ``--campaign-seconds``."""
    parser.addoption(
        "--campaign-seconds",
        type=float,
        default=1.0,
        help="seconds that each campaign may take beyond its minimum; 0: no limit",
    )


def budget_of(config: pytest.Config) -> Budget:
    """Return a new budget, as the command line of pytest sets it."""
    return Budget(float(config.getoption("--campaign-seconds")))


def report(terminal: Any) -> None:
    """Print how many cases the campaigns of a run tried, in all processes."""
    counts = recorded_values(terminal, PROPERTY)
    if counts:
        tried, planned = (sum(column) for column in zip(*counts, strict=True))
        cut = sum(tried < planned for tried, planned in counts)
        terminal.write_line(
            f"{tried} of {planned} cases in {len(counts)} campaigns; "
            f"{cut} campaigns spent their time first"
        )

"""Shared parts of all tests: hypothesis profiles, time budgets, real programs, compiled modules."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from journal.engine.trust import approvals
from tests.rigs.counting import count_states, report_states
from tests.support import budget as budgets
from tests.support.budget import Budget
from tests.support.programs import ROOT, program

__all__ = ["count_states"]

_DEEP_SECONDS_MAX = 1800
_SLOW_MACHINES = [HealthCheck.too_slow, HealthCheck.data_too_large]

# "quick" and "deep" try the same examples in each run, so that a failure comes from a change of the
# code. "campaign" tries new examples.
for name, count, known in (("quick", 30, True), ("deep", 200, True), ("campaign", 3000, False)):
    settings.register_profile(
        name,
        deadline=None,
        max_examples=count,
        derandomize=known,
        suppress_health_check=_SLOW_MACHINES,
    )
settings.load_profile("quick")


def pytest_configure() -> None:
    """Let child processes receive signals even if the tests run in the background or with nohup."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    keep_bytecode()
    keep_approvals_apart()
    os.environ["JOURNALTOOL_PROGRESS_DELAY"] = "3600"  # A slow machine prints nothing else.


def keep_bytecode() -> None:
    """Let this process and its children keep what they compile, whatever the environment says.

    Without it, each of the thousand commands that the tests start compiles all its modules again,
    which takes longer than the rest of the command.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def keep_approvals_apart() -> None:
    """Let this process and its children store approvals in a temporary directory."""
    state = tempfile.mkdtemp(prefix="journal-state-")
    atexit.register(shutil.rmtree, state, ignore_errors=True)
    os.environ["XDG_STATE_HOME"] = state
    directory = Path(state) / "wasm-journal" / "approvals"
    approvals.get_default_directory = lambda: directory


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this project."""
    budgets.add_option(parser)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give campaigns the time that they take on a busy machine."""
    for item in items:
        if item.get_closest_marker("deep"):
            item.add_marker(pytest.mark.timeout(_DEEP_SECONDS_MAX))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Bound a campaign of generated examples by its budget, and count the cases of each."""
    budget: Budget | None = getattr(item, "funcargs", {}).get("budget")
    test = getattr(getattr(item, "obj", None), "hypothesis", None)
    try:
        if test is None or item.get_closest_marker("deep") is None:
            return (yield)
        budget = budget or budgets.budget_of(item.config)
        with budget.bounding(test):
            return (yield)
    finally:
        if budget is not None and budget.planned:
            item.user_properties.append((budgets.PROPERTY, (budget.tried, budget.planned)))


@pytest.fixture
def budget(request: pytest.FixtureRequest) -> Budget:
    """Return the time budget of a campaign."""
    return budgets.budget_of(request.config)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many cases and crash states all tests tried."""
    budgets.report(terminalreporter)
    report_states(terminalreporter)


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Return the cache of compiled modules, which all tests, commands and later sessions share."""
    folder = ROOT / ".cache" / "wasm-journal" / "modules"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def quickjs() -> Path:
    """QuickJS, its command line."""
    return program("quickjs")


@pytest.fixture(scope="session")
def cpython() -> Path:
    """CPython 3.12 with its library inside."""
    return program("cpython")


@pytest.fixture(scope="session")
def micropython() -> Path:
    """MicroPython; it imports two functions that are not WASI's."""
    return program("micropython")

"""What all tests share: hypothesis profiles, the programs they run, and compiled modules."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.rigs.counting import count_states, pytest_terminal_summary
from tests.support.programs import ROOT, program

__all__ = ["count_states", "pytest_terminal_summary"]

_DEEP_SECONDS_MAX = 1800
_SLOW_MACHINES = [HealthCheck.too_slow, HealthCheck.data_too_large]

# The same examples in each run: what fails, fails by what was changed. A campaign has new ones.
for name, count, known in (("quick", 30, True), ("deep", 300, True), ("campaign", 3000, False)):
    settings.register_profile(
        name,
        deadline=None,
        max_examples=count,
        derandomize=known,
        suppress_health_check=_SLOW_MACHINES,
    )
settings.load_profile("quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give campaigns the time that they take on a busy machine."""
    for item in items:
        if item.get_closest_marker("deep"):
            item.add_marker(pytest.mark.timeout(_DEEP_SECONDS_MAX))


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Where compiled modules are kept, for all tests and for the next session."""
    folder = ROOT / ".cache" / "modules"
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

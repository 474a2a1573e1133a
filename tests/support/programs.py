"""Where the programs stand that the tests run: guests of our own, and real ones, fetched once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import programs

ROOT = Path(__file__).resolve().parents[2]
GUESTS = ROOT / "fixtures" / "guests"


def guest(name: str) -> Path:
    """The guest called `name`; its source stands beside it."""
    path = GUESTS / f"{name}.wasm"
    assert path.exists(), f"there is no guest {name}"
    return path


def program(name: str) -> Path:
    """The real program called `name`: quickjs, cpython, micropython or sqlite.

    A test is skipped where it needs one that cannot be built.
    """
    try:
        return programs.fetch(name)
    except programs.Unavailable as reason:
        pytest.skip(str(reason))

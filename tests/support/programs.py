"""Paths of the programs for tests: guests of this project, and real programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import programs

ROOT = Path(__file__).resolve().parents[2]
GUESTS = ROOT / "fixtures" / "guests"


def guest(name: str) -> Path:
    """Return the path of a guest. Its source is in the same directory."""
    path = GUESTS / f"{name}.wasm"
    assert path.exists(), f"there is no guest {name}"
    return path


def program(name: str) -> Path:
    """Return the path of quickjs, cpython, micropython, sqlite or words, fetched at the first use.

    Skip the test if the program cannot be built.
    """
    try:
        return programs.fetch(name)
    except programs.Unavailable as reason:
        pytest.skip(str(reason))

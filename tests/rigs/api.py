"""Names of the journal library that the rigs use, in one place."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from journal import Writer
from journal.log import CommitPolicy, RollPolicy

_LEVELS = {
    "every": CommitPolicy.EVERY,
    "explicit": CommitPolicy.EXPLICIT,
    "none": CommitPolicy.NONE,
    "group": CommitPolicy.group(events=8, milliseconds=1),
    "interval": CommitPolicy.interval(0.001),
}


class Plan(NamedTuple):
    """Options of a journal: the commit level by name, and the roll size, 0 for one file."""

    level: str = "explicit"
    roll_size: int = 0
    compress: bool = True

    def __str__(self) -> str:
        return f"{self.level} into {'a directory' if self.roll_size else 'a file'}"


def open_writer(path: Path, plan: Plan) -> Writer:
    """Open a journal for writing."""
    roll = RollPolicy(size_bytes=plan.roll_size) if plan.roll_size else None
    return Writer(path, compress=plan.compress, commit=_LEVELS[plan.level], roll=roll)

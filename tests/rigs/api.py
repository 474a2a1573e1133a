"""The journal's names that the rigs use, in one place."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, NamedTuple

import journal
from journal.writer import Writer

IS_NEW = "commit" in inspect.signature(Writer.__init__).parameters


class Plan(NamedTuple):
    """How a journal is written: the level by its name, and the size to roll at, 0 for one file."""

    level: str = "explicit"
    roll_size: int = 0
    compress: bool = True

    def __str__(self) -> str:
        return f"{self.level} into {'a directory' if self.roll_size else 'a file'}"


def open_writer(path: Path, plan: Plan) -> Writer:
    """Open a journal to write it."""
    if not IS_NEW:
        return Writer(path, compress=plan.compress)
    module: Any = journal
    levels = {
        "every": module.Commit.EVERY,
        "explicit": module.Commit.EXPLICIT,
        "none": module.Commit.NONE,
        "group": module.Commit.group(events=8, milliseconds=1),
        "interval": module.Commit.interval(0.001),
    }
    options: dict[str, Any] = {"compress": plan.compress, "commit": levels[plan.level]}
    if plan.roll_size:
        options["roll"] = module.Roll(size_bytes=plan.roll_size)
    return Writer(path, **options)


def durable_upto(writer: Writer) -> int:
    """Give the number below which all events survive a power cut."""
    return int(getattr(writer, "durable_upto", getattr(writer, "durable_seq", 0)))


def now(plans: list[Plan]) -> list[Plan]:
    """Keep the plans that can be carried out."""
    return [plan for plan in plans if IS_NEW or (plan.level == "explicit" and not plan.roll_size)]

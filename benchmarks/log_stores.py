"""What can keep events, and what each promises: ours, its peers, and raw writes.

A store gives its work as a context manager: what comes before and behind (opening, closing) is not
timed, and the deed that it gives is.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.figures import Side
from benchmarks.log_events import Events

Deed = Callable[[], object]
Work = AbstractContextManager[Deed]
Commit = Callable[[int, Sequence[bytes]], object]
"""Makes events durable, the first of which has the given number; several threads may call it."""


class Store(ABC):
    """One thing that keeps events."""

    name: str
    promises: str
    side: Side = Side.PEER
    module: ClassVar[str] = ""
    """What must be installed for it."""

    @classmethod
    def installed(cls) -> bool:
        """Whether its module is there."""
        return not cls.module or importlib.util.find_spec(cls.module) is not None


class Appends(Store):
    """A store that is filled without waiting for the disk."""

    ways: tuple[str, ...]
    """How it can be filled, the best way for reading it afterwards first."""

    @abstractmethod
    def append(self, path: Path, events: Events, way: str) -> Work:
        """All events into a new store at ``path``, as far as the page cache."""


class Reads(Appends):
    """A store that gives back what it was filled with, in order."""

    @abstractmethod
    def scan(self, path: Path) -> Work:
        """Every event: its number (or key), and its tag and bytes in whatever form they have."""

    @abstractmethod
    def keep(self, path: Path, tag: int) -> Work:
        """The bytes of the events of one tag."""


class Finds(Reads):
    """A store that finds an event by its number."""

    @abstractmethod
    def find(self, path: Path, numbers: Sequence[int]) -> Work:
        """The events of these numbers, one after the other."""


class Commits(Store):
    """A store that says when an event is safe from a power cut."""

    @abstractmethod
    def commits(self, path: Path) -> AbstractContextManager[Commit]:
        """A new store at ``path``."""


def imported(name: str) -> Any:
    """A module that need not be installed."""
    return importlib.import_module(name)


def remove(path: Path) -> None:
    """Remove a store, and what it keeps beside itself."""
    if path.is_dir():
        shutil.rmtree(path)
    for one in (path, *path.parent.glob(f"{path.name}-*")):
        one.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a store's files."""
    found = path.rglob("*") if path.is_dir() else (path, *path.parent.glob(f"{path.name}-*"))
    return sum(one.stat().st_size for one in found if one.is_file())

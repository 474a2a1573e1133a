"""Stores for events and their promises: the journal, its peers, and raw writes.

A store returns its work as a context manager that yields the operation to time. Opening and closing
are not timed.
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

Operation = Callable[[], object]
Work = AbstractContextManager[Operation]
Commit = Callable[[int, Sequence[bytes]], object]
"""Function that makes events durable. The number is that of the first event. Thread-safe."""


class Store(ABC):
    """A store for events."""

    name: str
    promises: str
    side: Side = Side.PEER
    module: ClassVar[str] = ""
    """Module that must be installed for the store."""

    @classmethod
    def is_installed(cls) -> bool:
        """Return whether the module of the store is installed."""
        return not cls.module or importlib.util.find_spec(cls.module) is not None


class AppendStore(Store):
    """A store that is filled without waiting for the disk."""

    ways: tuple[str, ...]
    """Ways to fill the store, the best for later reads first."""

    @abstractmethod
    def append(self, path: Path, events: Events, way: str) -> Work:
        """Append all events to a new store at ``path``, without waiting for the disk."""


class ReadStore(AppendStore):
    """A store that returns its events in order."""

    @abstractmethod
    def scan(self, path: Path) -> Work:
        """Read the sequence number or key, the tag and the payload of every event."""

    @abstractmethod
    def select(self, path: Path, tag: int) -> Work:
        """Read the payloads of the events of one tag."""


class LookupStore(ReadStore):
    """A store that finds an event by its sequence number."""

    @abstractmethod
    def find(self, path: Path, numbers: Sequence[int]) -> Work:
        """Find the events with these sequence numbers, one by one."""


class CommitStore(Store):
    """A store that reports when an event survives a power cut."""

    @abstractmethod
    def commits(self, path: Path) -> AbstractContextManager[Commit]:
        """Open a new store at ``path``."""


def import_optional(name: str) -> Any:
    """Import a module that may be missing."""
    return importlib.import_module(name)


def remove(path: Path) -> None:
    """Remove a store and its auxiliary files."""
    if path.is_dir():
        shutil.rmtree(path)
    for file in (path, *path.parent.glob(f"{path.name}-*")):
        file.unlink(missing_ok=True)


def store_size(path: Path) -> int:
    """Return the bytes of a store's files."""
    files = path.rglob("*") if path.is_dir() else (path, *path.parent.glob(f"{path.name}-*"))
    return sum(file.stat().st_size for file in files if file.is_file())

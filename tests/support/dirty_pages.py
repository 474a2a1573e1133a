"""Memories of a process and trackers of their dirty pages."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self

from journal.engine.memory.dirty_pages import (
    PAGE_SIZE,
    ComparedDirtyPages,
    DirtyPages,
    DirtyPageTracking,
    KernelDirtyPages,
    track_dirty_pages,
)
from journal.engine.memory.mapping import Mirror
from journal.errors import EngineError

PAGES_MAX = 96


def why_not_by_kernel() -> str:
    try:
        with memory() as ours:
            track_dirty_pages(ours.address, 8 * PAGE_SIZE, 0, DirtyPageTracking.KERNEL).close()
    except EngineError as error:
        return str(error)
    return ""


class Memory:
    """A memory that may grow in place, as a guest's memory."""

    def __init__(self) -> None:
        self.bytes = mmap.mmap(-1, PAGES_MAX * PAGE_SIZE, flags=mmap.MAP_PRIVATE)
        self._anchor: ctypes.c_char | None = ctypes.c_char.from_buffer(self.bytes)
        self.address = ctypes.addressof(self._anchor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._anchor = None
        self.bytes.close()

    def watched_by(self, make: type[KernelDirtyPages | ComparedDirtyPages], size: int) -> Watching:
        return Watching(self, make, size)

    def page(self, number: int) -> bytes:
        return self.bytes[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]


class Watching:
    """A tracker with a mirror that is updated after each query, as in a capture."""

    def __init__(
        self, ours: Memory, make: type[KernelDirtyPages | ComparedDirtyPages], size: int
    ) -> None:
        self._memory = ours
        self._mirror = Mirror(PAGES_MAX * PAGE_SIZE)
        self._keep(range(size // PAGE_SIZE))
        if make is KernelDirtyPages:
            self.by: DirtyPages = KernelDirtyPages(ours.address, size)
        else:
            self.by = ComparedDirtyPages(ours.address, self._mirror.address)

    def take(self, size: int) -> list[tuple[int, int]]:
        told = self.by.collect(size)
        self._keep(pages(told))
        return told

    def _keep(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._mirror.write(number, self._memory.page(number))

    def close(self) -> None:
        self.by.close()
        self._mirror.close()


@contextmanager
def memory() -> Iterator[Memory]:
    with Memory() as ours:
        yield ours


def pages(runs: list[tuple[int, int]]) -> list[int]:
    assert all(start < stop for start, stop in runs)
    return [page for start, stop in runs for page in range(start, stop)]

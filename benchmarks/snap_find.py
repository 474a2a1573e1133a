"""Detection of dirty pages: by the kernel, by comparison with a copy, and by hashing all pages."""

from __future__ import annotations

import ctypes
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from statistics import median

from xxhash import xxh3_64_intdigest

from benchmarks.figures import RATIO, Figure, Side, ratios
from benchmarks.peers import Span
from benchmarks.stopwatch import Stopwatch
from journal.engine.memory.dirty_pages import (
    PAGE_SIZE,
    ComparedDirtyPages,
    DirtyPages,
    KernelDirtyPages,
)
from journal.engine.memory.mapping import Mirror

WRITTEN_COUNT = 100
MILLISECONDS_MAX = 0.2
HASHING_RATIO_MIN = 50.0

_MEBIBYTE = 1 << 20
_REPEATS = 15
_KERNEL, _COMPARISON, _HASH = "kernel tracking", "comparison with a copy", "hash of all pages"
_SIDES = {_KERNEL: Side.OURS, _COMPARISON: Side.OURS, _HASH: Side.PEER}


def figures(rounds: int, mebibytes: int) -> Iterator[Figure]:
    """Yield the median of each round for finding a hundred scattered pages."""
    group = f"snapshots: {WRITTEN_COUNT} written pages in {mebibytes} MiB"
    spans_by_name: dict[str, list[Span]] = {}
    with ExitStack() as stack:
        finder = stack.enter_context(closing(_PageFinder(mebibytes)))
        for index in range(rounds + 1):
            for name, span in finder.round():
                if index:
                    spans_by_name.setdefault(name, []).append(span)
    for clock in ("cpu", "wall"):
        times = {
            name: tuple(getattr(s, clock) for s in spans) for name, spans in spans_by_name.items()
        }
        for name, values in times.items():
            yield Figure(
                group=group,
                name=f"{name}, {clock}",
                unit="ms",
                values=tuple(value * 1000 for value in values),
                limit=MILLISECONDS_MAX if name == _KERNEL else None,
                side=_SIDES[name] if clock == "cpu" else Side.NONE,
            )
        for name, floor in ((_KERNEL, HASHING_RATIO_MIN), (_COMPARISON, None)):
            if name in times:
                yield Figure(
                    group=group,
                    name=f"{_HASH} / {name}, {clock}",
                    unit=RATIO,
                    values=ratios(times[_HASH], times[name]),
                    floor=floor,
                )


class _PageFinder:
    """A memory with its copy, and the trackers of its dirty pages."""

    def __init__(self, mebibytes: int) -> None:
        self._size = mebibytes * _MEBIBYTE
        self._memory, self._copy = Mirror(self._size), Mirror(self._size)
        self._random = random.Random(mebibytes)
        block = os.urandom(_MEBIBYTE)
        for number in range(self._size // PAGE_SIZE):
            at = number * PAGE_SIZE % _MEBIBYTE
            for target in (self._memory, self._copy):
                target.write(number, block[at : at + PAGE_SIZE])
        self._finders: dict[str, DirtyPages] = {}
        try:
            self._finders[_KERNEL] = KernelDirtyPages(self._memory.address, self._size)
        except OSError:
            print("this kernel cannot track dirty pages, so its rows are omitted")
        self._finders[_COMPARISON] = ComparedDirtyPages(self._memory.address, self._copy.address)

    def round(self) -> Iterator[tuple[str, Span]]:
        """Yield the time of each method; for the kernel, the median of several measurements."""
        for name, finder in self._finders.items():
            times = _REPEATS if name == _KERNEL else 1
            spans = [self._measure_finder(finder) for _ in range(times)]
            yield (
                name,
                Span(*(median(getattr(s, clock) for s in spans) for clock in Span.__slots__)),
            )
        yield _HASH, self._measure(self._hash)

    def _measure_finder(self, finder: DirtyPages) -> Span:
        numbers = self._random.sample(range(self._size // PAGE_SIZE), WRITTEN_COUNT)
        for number in numbers:
            page = self._memory.read(number)
            self._memory.write(number, bytes([page[0] ^ 1]) + page[1:])
        ranges: list[tuple[int, int]] = []
        span = self._measure(lambda: ranges.extend(finder.collect(self._size)))
        pages = {number for start, stop in ranges for number in range(start, stop)}
        assert pages >= set(numbers), "a written page is missing"
        for number in numbers:
            self._copy.write(number, self._memory.read(number))
        return span

    def _hash(self) -> None:
        array = (ctypes.c_ubyte * self._size).from_address(self._memory.address)
        with memoryview(array).cast("B") as view:
            for at in range(0, self._size, PAGE_SIZE):
                xxh3_64_intdigest(view[at : at + PAGE_SIZE])

    def _measure(self, work: Callable[[], None]) -> Span:
        watch = Stopwatch()
        work()
        return watch.lap()

    def close(self) -> None:
        """Release the memories."""
        for finder in self._finders.values():
            finder.close()
        for memory in (self._memory, self._copy):
            memory.close()

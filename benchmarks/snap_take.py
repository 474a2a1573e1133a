"""Taking a snapshot, made durable while the guest is suspended, beside a raw write of its bytes.

The guest's own clock measures the suspension. Snapshots and raw writes alternate, because the speed
of the disk changes within tenths of a second.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

import journal
from benchmarks import snap_guests
from benchmarks.figures import RATIO, Figure, Side, ratios
from benchmarks.peers import Span
from benchmarks.snap_guests import PAGE_SIZE
from benchmarks.stopwatch import FOLDER, Stopwatch, module_folder
from journal.engine import Durability, SnapshotOptions
from journal.snapshots import Trigger

RATIO_MAX = 2.0
MILLISECONDS_MAX = 5.0

_ANSWER_SIZE = 8
_RAW_SIZE = 1 << 28
_WORDS = {"r": "all bytes of each changed", "p": "64 bytes of each changed"}
_CHANGED = {"r": PAGE_SIZE, "p": 64}
_SNAPSHOT, _PAGES, _BYTES = "snapshot", "a bare write of its pages", "a bare write of what changed"
_SIDES = {_SNAPSHOT: Side.OURS, _PAGES: Side.PEER, _BYTES: Side.PEER}


def figures(rounds: int, mebibytes: int, each: int) -> Iterator[Figure]:
    """Yield the median of each round, for ``each`` snapshots with one changed page in a hundred."""
    pages = snap_guests.hundredth(mebibytes)
    wasm = snap_guests.make_pausing_guest(mebibytes, pages)
    found: dict[tuple[str, str], list[Span]] = {}
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder, _GuestRig(wasm, Path(folder)) as stand:
        for index in range(rounds + 1):
            for order in _WORDS:
                laps = [stand.lap(order, pages) for _ in range(each)]
                for name, spans in zip(_SIDES, zip(*laps, strict=True), strict=True):
                    if index:
                        found.setdefault((order, name), []).append(_typical(spans))
    for order, words in _WORDS.items():
        group = f"snapshots: {pages} pages of {mebibytes} MiB, {words}, made durable"
        yield from _compared(group, {name: found[order, name] for name in _SIDES})


class Lap(NamedTuple):
    """Time of a snapshot, of a raw write of its pages, and of a raw write of the changed bytes."""

    snapshot: Span
    pages: Span
    bytes: Span


class _GuestRig:
    """A guest that obeys commands, and a file for raw writes; a context manager."""

    def __init__(self, wasm: Path, folder: Path) -> None:
        self._stack = ExitStack()
        self._answers, answers = os.pipe()
        for descriptor in (self._answers, answers):
            self._stack.callback(os.close, descriptor)
        self._path, self._at = folder / "journal", 0
        self._raw = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT)
        self._stack.callback(os.close, self._raw)
        os.posix_fallocate(self._raw, 0, _RAW_SIZE)
        os.fsync(self._raw)
        self._guest = journal.record(
            wasm,
            self._path,
            stdout=answers,
            cache=module_folder(),
            durability=Durability.NONE,  # for host results; only the snapshot syncs
            snapshots=SnapshotOptions(on=frozenset({Trigger.EXPLICIT})),
        )

    def __enter__(self) -> _GuestRig:
        self._stack.enter_context(self._guest)
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._guest.close_stdin()
        self._guest.wait()
        self._stack.close()

    def lap(self, order: str, pages: int) -> Lap:
        """Change pages, take a snapshot, and write the same amount without one."""
        self._told(order)
        nothing, _ = self._told("n")
        taken, nanoseconds = self._told("s")
        return Lap(
            Span(taken.cpu - nothing.cpu, nanoseconds / 1e9),
            self._written(pages * PAGE_SIZE),
            self._written(pages * _CHANGED[order]),
        )

    def _told(self, order: str) -> tuple[Span, int]:
        """Return the time of a command, and the suspension that the guest reports."""
        watch = Stopwatch()
        self._guest.feed(order.encode())
        nanoseconds = self._answer()
        return watch.lap(), nanoseconds

    def _answer(self) -> int:
        return int.from_bytes(os.read(self._answers, _ANSWER_SIZE), "little")

    def _written(self, size: int) -> Span:
        data = os.urandom(size)
        if self._at + size > _RAW_SIZE:
            self._at = 0
        watch = Stopwatch()
        os.pwrite(self._raw, data, self._at)
        os.fdatasync(self._raw)
        span = watch.lap()
        self._at += size
        return span


def _typical(spans: tuple[Span, ...]) -> Span:
    return Span(median(span.cpu for span in spans), median(span.wall for span in spans))


def _compared(group: str, found: dict[str, list[Span]]) -> Iterator[Figure]:
    for clock in ("wall", "cpu"):
        times = {name: tuple(getattr(s, clock) for s in spans) for name, spans in found.items()}
        for name, values in times.items():
            stands = name == _SNAPSHOT and clock == "wall"
            yield Figure(
                group=group,
                name="the guest stands still" if stands else f"{name}, {clock}",
                unit="ms",
                values=tuple(value * 1000 for value in values),
                limit=MILLISECONDS_MAX if stands else None,
                side=_SIDES[name] if clock == "wall" else Side.NONE,
            )
        for name in (_PAGES, _BYTES):
            yield Figure(
                group=group,
                name=f"{_SNAPSHOT} / {name}, {clock}",
                unit=RATIO,
                values=ratios(times[_SNAPSHOT], times[name]),
                limit=RATIO_MAX if name == _PAGES and clock == "wall" else None,
            )

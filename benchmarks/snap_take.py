"""Durable snapshots of a suspended guest, compared with raw writes of the same bytes.

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
_SNAPSHOT, _PAGES, _BYTES = (
    "snapshot",
    "a raw write of its pages",
    "a raw write of the changed bytes",
)
_SIDES = {_SNAPSHOT: Side.OURS, _PAGES: Side.PEER, _BYTES: Side.PEER}


def figures(rounds: int, mebibytes: int, count: int) -> Iterator[Figure]:
    """Yield the medians of ``count`` snapshots per round, with one changed page in a hundred."""
    pages = snap_guests.count_hundredth(mebibytes)
    wasm = snap_guests.make_pausing_guest(mebibytes, pages)
    spans_by_kind: dict[tuple[str, str], list[Span]] = {}
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder, _GuestRig(wasm, Path(folder)) as rig:
        for index in range(rounds + 1):
            for command in _WORDS:
                laps = [rig.lap(command, pages) for _ in range(count)]
                for name, spans in zip(_SIDES, zip(*laps, strict=True), strict=True):
                    if index:
                        spans_by_kind.setdefault((command, name), []).append(_median_span(spans))
    for command, words in _WORDS.items():
        group = f"snapshots: {pages} pages of {mebibytes} MiB, {words}, made durable"
        yield from _make_figures(group, {name: spans_by_kind[command, name] for name in _SIDES})


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
        self._path, self._offset = folder / "journal", 0
        self._raw = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT)
        self._stack.callback(os.close, self._raw)
        os.posix_fallocate(self._raw, 0, _RAW_SIZE)
        os.fsync(self._raw)
        self._guest = journal.record(
            wasm,
            self._path,
            stdout=answers,
            cache=module_folder(),
            durability=Durability.NONE,  # Only the snapshot syncs.
            snapshots=SnapshotOptions(on=frozenset({Trigger.EXPLICIT})),
        )

    def __enter__(self) -> _GuestRig:
        self._stack.enter_context(self._guest)
        self._read_answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._guest.close_stdin()
        self._guest.wait()
        self._stack.close()

    def lap(self, command: str, pages: int) -> Lap:
        """Change pages, take a snapshot, and write the same amount without a snapshot."""
        self._run_command(command)
        empty, _ = self._run_command("n")
        snapshot, nanoseconds = self._run_command("s")
        return Lap(
            Span(snapshot.cpu - empty.cpu, nanoseconds / 1e9),
            self._write_raw(pages * PAGE_SIZE),
            self._write_raw(pages * _CHANGED[command]),
        )

    def _run_command(self, command: str) -> tuple[Span, int]:
        """Return the time of a command, and the suspension that the guest reports."""
        watch = Stopwatch()
        self._guest.feed(command.encode())
        nanoseconds = self._read_answer()
        return watch.lap(), nanoseconds

    def _read_answer(self) -> int:
        return int.from_bytes(os.read(self._answers, _ANSWER_SIZE), "little")

    def _write_raw(self, size: int) -> Span:
        data = os.urandom(size)
        if self._offset + size > _RAW_SIZE:
            self._offset = 0
        watch = Stopwatch()
        os.pwrite(self._raw, data, self._offset)
        os.fdatasync(self._raw)
        span = watch.lap()
        self._offset += size
        return span


def _median_span(spans: tuple[Span, ...]) -> Span:
    return Span(median(span.cpu for span in spans), median(span.wall for span in spans))


def _make_figures(group: str, spans_by_kind: dict[str, list[Span]]) -> Iterator[Figure]:
    for clock in ("wall", "cpu"):
        times = {
            name: tuple(getattr(s, clock) for s in spans) for name, spans in spans_by_kind.items()
        }
        for name, values in times.items():
            is_suspension = name == _SNAPSHOT and clock == "wall"
            yield Figure(
                group=group,
                name="suspension of the guest" if is_suspension else f"{name}, {clock}",
                unit="ms",
                values=tuple(value * 1000 for value in values),
                limit=MILLISECONDS_MAX if is_suspension else None,
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

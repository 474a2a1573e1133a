"""Fork of a running guest: the time until each of ten children has answered."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import wasmtime

import journal
from benchmarks.figures import Figure, Side
from benchmarks.peers import Span
from benchmarks.stopwatch import FOLDER, Stopwatch, module_folder
from journal.engine import Durability, SnapshotOptions
from journal.snapshots import Trigger

CHILDREN = 10
MILLISECONDS_MAX = 20.0
_PAUSE_SECONDS = 0.0001
_WAYS = {"first fork": 0, "later fork": 1}
"""Ways of a fork, by the number of forks before it: the first one reads the events of files."""


def figures(rounds: int, mebibytes: int) -> Iterator[Figure]:
    """Yield the times of a fork of a guest of this size, whose memory has no zero pages."""
    spans_by_way: dict[str, list[Span]] = {way: [] for way in _WAYS}
    for index in range(rounds + 1):
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            spans = list(_measure(Path(folder), mebibytes))
        if index:
            for way, number in _WAYS.items():
                spans_by_way[way].append(spans[number])
    for clock in ("cpu", "wall"):
        for way, spans in spans_by_way.items():
            yield Figure(
                group=f"fork: {CHILDREN} children of a guest of {mebibytes} MiB, {clock}",
                name=way,
                unit="ms",
                values=tuple(getattr(span, clock) * 1000 for span in spans),
                limit=MILLISECONDS_MAX if way == "later fork" and clock == "cpu" else None,
                side=Side.OURS if clock == "cpu" else Side.NONE,
            )


def _measure(folder: Path, mebibytes: int) -> Iterator[Span]:
    """Yield the time of one fork after the other of the same guest."""
    with journal.record(
        _make_guest(mebibytes),
        folder / "parent",
        cache=module_folder(),
        durability=Durability.NONE,
        snapshots=SnapshotOptions(on=frozenset({Trigger.EXPLICIT})),
    ) as parent:
        parent.feed(b"x")
        _wait_for_answers([parent])
        parent.snapshot()
        for number in _WAYS.values():
            with ExitStack() as stack:
                watch = Stopwatch()
                children = parent.fork(CHILDREN, into=folder / f"child-{number}")
                for child in children:
                    stack.enter_context(child)
                    child.feed(b"x")
                _wait_for_answers(children)
                yield watch.lap()


def _wait_for_answers(recorders: list[journal.Recorder]) -> None:
    while not all(recorder.stdout for recorder in recorders):
        time.sleep(_PAUSE_SECONDS)


def _make_guest(mebibytes: int) -> bytes:
    """Return a guest that fills its memory, and prints a byte for each byte of its input."""
    return bytes(
        wasmtime.wat2wasm(f"""(module
        (import "wasi_snapshot_preview1" "fd_read"
            (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") {mebibytes * 16})
        (data (i32.const 0) "\\40\\00\\00\\00\\01\\00\\00\\00")
        (func (export "_start") (local $at i32) (local $value i64)
            (local.set $at (i32.const 4096))
            (local.set $value (i64.const 88172645463325252))
            (loop $fill
                (local.set $value (i64.xor (local.get $value)
                    (i64.shl (local.get $value) (i64.const 13))))
                (local.set $value (i64.xor (local.get $value)
                    (i64.shr_u (local.get $value) (i64.const 7))))
                (local.set $value (i64.xor (local.get $value)
                    (i64.shl (local.get $value) (i64.const 17))))
                (i64.store (local.get $at) (local.get $value))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $fill (i32.lt_u (local.get $at) (i32.const {mebibytes << 20}))))
            (loop $next
                (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
                (if (i32.load (i32.const 16)) (then
                    (drop (call $write
                        (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
                    (br $next))))))""")
    )

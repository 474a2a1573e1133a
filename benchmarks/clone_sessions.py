"""Sessions with a clone in one process: begin, one call, and the return to the snapshot."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import journal
from benchmarks.figures import Figure, Side
from benchmarks.peers import Span
from benchmarks.snap_guests import make_pausing_guest
from benchmarks.stopwatch import FOLDER, Stopwatch
from journal.engine import Durability, SnapshotOptions
from journal.engine.clones.clone import Clone
from journal.engine.clones.template import CloneTemplate
from journal.engine.session.recorder import start_guest_thread
from journal.snapshots import Trigger
from tools import programs

SESSIONS = 1000
QUICK_SESSIONS = 100

_CACHE = FOLDER / "wasm-journal" / "modules"
_PAUSE_SECONDS = 0.001
_PARTS = ("begin", "one call", "return to the snapshot")
_MEBIBYTES, _PAGES = 256, 100
_RETURN_MILLISECONDS_MAX = 0.5
_DIRTY_COMMAND = b"p"
_SCRIPTS = {
    "quickjs": (
        "-m",
        "-e",
        """import * as std from "qjs:std";
for (let line; (line = std.in.getline()) !== null; std.out.flush())
    std.out.puts((0, eval)(line) + "\\n");""",
    ),
    "cpython": (
        "-c",
        "import sys\nfor line in sys.stdin: print(repr(eval(line)), flush=True)",
    ),
}
"""Arguments with which an interpreter evaluates each line of its input."""
_LINES = {
    "quickjs": b"[1, 2, 3].map(x => x * x).join()\n",
    "cpython": b"sum(x * x for x in range(3))\n",
}
MILLISECONDS_MAX = {"quickjs": 0.25, "cpython": 0.5}
"""Targets of a whole session."""


def figures(name: str, rounds: int, session_count: int) -> Iterator[Figure]:
    """Yield the time of a session with a warm interpreter, and of its parts."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        path = Path(folder) / "warm.journal"
        line = warm_interpreter(name, path)
        with CloneTemplate.load(path, cache=_CACHE) as template, template.make_clone() as clone:
            _run(clone, line, session_count // 10)
            laps = _run_in_slot(template, clone, line, rounds, session_count)
    peer_laps = _run_peer(line.decode(), rounds, session_count) if name == "cpython" else []
    group = f"clones: {name}, a session in one process"
    yield Figure(
        group=group,
        name="begin, one call and return, CPU",
        unit="ms",
        values=tuple(sum(span.cpu for span in lap) / session_count * 1000 for lap in laps),
        limit=MILLISECONDS_MAX[name],
        side=Side.OURS,
    )
    yield Figure(
        group=group,
        name="begin, one call and return, wall",
        unit="ms",
        values=tuple(sum(span.wall for span in lap) / session_count * 1000 for lap in laps),
    )
    for index, part in enumerate(_PARTS):
        yield Figure(
            group=group,
            name=f"{part}, CPU",
            unit="ms",
            values=tuple(lap[index].cpu / session_count * 1000 for lap in laps),
        )
    if peer_laps:
        yield Figure(
            group=group,
            name="pydantic-monty, a subset of Python, wall",
            unit="ms",
            values=tuple(span.wall / session_count * 1000 for span in peer_laps),
            side=Side.PEER,
        )


def warm_interpreter(name: str, path: Path) -> bytes:
    """Record an interpreter until it is warm, and return a line of input that it evaluates."""
    _warm_up(programs.fetch(name), (name, *_SCRIPTS[name]), path, _LINES[name])
    return _LINES[name]


def return_figures(rounds: int, session_count: int) -> Iterator[Figure]:
    """Yield the time of the return after some pages of a large memory were written."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        path = Path(folder) / "warm.journal"
        with journal.record(
            make_pausing_guest(_MEBIBYTES, _PAGES),
            path,
            cache=_CACHE,
            durability=Durability.NONE,
            snapshots=SnapshotOptions(on=frozenset({Trigger.FIRST_STDIN}), stop_after=True),
        ) as recorder:
            recorder.wait()
        with CloneTemplate.load(path, cache=_CACHE) as template, template.make_clone() as clone:
            _run(clone, _DIRTY_COMMAND, 3)
            laps = [_run(clone, _DIRTY_COMMAND, session_count) for _ in range(rounds)]
    yield Figure(
        group=f"clones: return after {_PAGES} written pages of {_MEBIBYTES} MiB",
        name="CPU",
        unit="ms",
        values=tuple(lap[2].cpu / session_count * 1000 for lap in laps),
        limit=_RETURN_MILLISECONDS_MAX,
        side=Side.OURS,
    )


def _run_in_slot(
    template: CloneTemplate, clone: Clone, line: bytes, rounds: int, count: int
) -> list[list[Span]]:
    """Run rounds of sessions in a thread with the stack of a slot of a pool.

    The main thread does not run guests: it would hand each call to another thread.
    """
    laps: list[list[Span]] = []

    def work() -> None:
        laps.extend(_run(clone, line, count) for _ in range(rounds))

    start_guest_thread(work, template.stack.size).join()
    assert len(laps) == rounds, "a round has failed"
    return laps


def _run(clone: Clone, line: bytes, count: int) -> list[Span]:
    """Run sessions, and return the time of each of their parts."""
    totals = [Span(0.0, 0.0) for _ in _PARTS]
    for _ in range(count):
        watch = Stopwatch()
        clone.begin()
        begin = watch.lap()
        reply = clone.run(line)
        call = watch.lap()
        clone.reset()
        back = watch.lap()
        assert reply.is_alive, reply
        assert reply.stdout, reply
        totals = [total + span for total, span in zip(totals, (begin, call, back), strict=True)]
    return totals


def _warm_up(module: Path, args: tuple[str, ...], path: Path, line: bytes) -> None:
    """Record an interpreter until it has evaluated a line and waits for the next one."""
    with journal.record(
        module,
        path,
        args=args,
        cache=_CACHE,
        durability=Durability.NONE,
        snapshots=SnapshotOptions(on=frozenset({Trigger.EXPLICIT})),
    ) as recorder:
        recorder.feed(line)
        while b"\n" not in recorder.stdout:
            time.sleep(_PAUSE_SECONDS)
        recorder.snapshot()


def _run_peer(code: str, rounds: int, count: int) -> list[Span]:
    """Evaluate code with pydantic-monty in sessions of its own, if it is installed."""
    try:
        from pydantic_monty import Monty  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return []
    spans = []
    with Monty() as pool:
        for _ in range(rounds):
            watch = Stopwatch()
            for _ in range(count):
                with pool.checkout() as session:
                    session.feed_run(code)
            spans.append(watch.lap())
    return spans

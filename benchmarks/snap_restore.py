"""Restore of a guest: time until its first call, and time of its first page changes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import journal
from benchmarks import snap_guests
from benchmarks.figures import Figure, Side
from benchmarks.peers import Span
from benchmarks.stopwatch import FOLDER
from journal.engine import SnapshotOptions
from journal.engine.program.module import define_imports
from journal.engine.program.prepared import PreparedModule, prepare
from journal.engine.runtime.bindings import Instance
from journal.engine.session import preamble
from journal.engine.session.journal_writer import NullWriter
from journal.engine.session.process import Process
from journal.engine.session.recorded_run import RecordedRun
from journal.engine.session.recorder import start_guest_thread
from journal.engine.session.replay import Replay
from journal.engine.session.resume_plan import plan_resume
from journal.engine.session.run_config import SessionConfig
from journal.engine.session.run_result import RunResult
from journal.engine.session.standard_streams import StandardStreams, capture_outputs
from journal.engine.trust.access import HostAccess
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.signals import GuestSignals
from journal.engine.wasi.stdio.stdin import BytesSource, Interrupter
from journal.snapshots import Trigger

MILLISECONDS_MAX = 3.0
FEW, MANY = 100, 4000


class Times(NamedTuple):
    """Times of one restore: a bare instance, the first call, and changes of few and many pages."""

    instance: Span
    restore: Span
    few: Span
    many: Span


def figures(rounds: int, sizes: tuple[int, ...]) -> Iterator[Figure]:
    """Yield the figures for guests of several sizes in MiB; each is restored once in each round."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        rigs = {size: _Rig(size, Path(folder)) for size in sizes}
        times_by_size: dict[int, list[Times]] = {size: [] for size in sizes}
        for index in range(rounds + 1):
            for size in sizes if index % 2 else reversed(sizes):
                times = rigs[size].measure_restore()
                if index:
                    times_by_size[size].append(times)
        for rig in rigs.values():
            rig.recording.reader.close()
    figures = [
        figure for size, runs in times_by_size.items() for figure in _make_size_figures(size, runs)
    ]
    yield from sorted(figures, key=lambda figure: figure.group, reverse=True)
    yield from _make_page_figures(times_by_size)


def _make_size_figures(size: int, runs: list[Times]) -> Iterator[Figure]:
    for clock in ("wall", "cpu"):
        group = f"snapshots: a guest restored to its first call, {clock}"
        restore_times, instance_times = (
            tuple(1000 * getattr(getattr(run, name), clock) for run in runs)
            for name in ("restore", "instance")
        )
        yield Figure(
            group=group,
            name=f"{size} MiB, in addition to an instance",
            unit="ms",
            values=tuple(a - b for a, b in zip(restore_times, instance_times, strict=True)),
            limit=MILLISECONDS_MAX,
            side=Side.OURS,
        )
        yield Figure(
            group=group,
            name=f"{size} MiB: a bare instance",
            unit="ms",
            values=instance_times,
            side=Side.LIMIT,
        )


def _make_page_figures(times_by_size: dict[int, list[Times]]) -> Iterator[Figure]:
    for count, name in ((FEW, "few"), (MANY, "many")):
        for size, runs in times_by_size.items():
            yield Figure(
                group=f"snapshots: {count} pages changed by a restored guest, CPU",
                name=f"of {size} MiB",
                unit="µs a page",
                values=tuple(getattr(run, name).cpu / count * 1e6 for run in runs),
                side=Side.OURS,
            )


class _Rig:
    """A journal that ends with a snapshot, and its compiled and cached files."""

    def __init__(self, mebibytes: int, folder: Path) -> None:
        self._cache = folder / "modules"
        path = folder / f"{mebibytes}.journal"
        with journal.record(
            snap_guests.make_touching_guest(mebibytes, FEW, MANY),
            path,
            cache=self._cache,
            durability=journal.engine.Durability.NONE,
            snapshots=SnapshotOptions(on=frozenset({Trigger.EXPLICIT}), stop_after=True),
        ) as guest:
            guest.wait()
        with journal.Reader(path) as reader:
            (last,) = reader.last(1)
        self.recording = RecordedRun(path, last.seq + 1)
        module = preamble.find_module(self.recording.identity, None, HostAccess())
        self._config = SessionConfig(cache=self._cache, note=print)
        self._module = module
        self._program: PreparedModule | None = None

    def measure_restore(self) -> Times:
        """Restore the guest once. Caches are warm after the first time."""
        recording, identity = self.recording, self.recording.identity
        variant, start = plan_resume(recording, self._module, self._config)
        assert start is not None
        program = self._program = self._program or prepare(
            variant, identity.configuration, self._cache
        )
        instance = _measure_instance(program, identity)
        process = Process(
            program,
            identity,
            NullWriter(),
            StandardStreams(BytesSource(b""), capture_outputs(), terminals=()),
            Interrupter(),
            self._config,
            replay=Replay(batches=recording.batches(start.info.seq + 1), start=start),
        )
        calls = _Calls(process.context)
        results: list[RunResult] = []

        def work() -> None:
            calls.end_span()
            results.append(process.run())

        start_guest_thread(work, process.stack_size).join()
        assert [outcome.code for outcome in results] == [0], results
        return Times(instance, *calls.spans)


class _Calls:
    """Times of the guest's clock reads, by both host clocks."""

    def __init__(self, state: CallContext) -> None:
        self.spans: list[Span] = []
        self._last: Span | None = None
        realtime, self._read = state.clocks.live
        state.clocks.live = (realtime, self._read_clock)

    def end_span(self) -> None:
        """End a span and begin the next. Runs in the guest's thread."""
        now, last = _now(), self._last
        if last is not None:
            self.spans.append(Span(now.cpu - last.cpu, now.wall - last.wall))
        self._last = _now()

    def _read_clock(self) -> bytes:
        self.end_span()
        return self._read()


def _now() -> Span:
    return Span(time.thread_time(), time.perf_counter())


def _measure_instance(program: PreparedModule, identity: preamble.Identity) -> Span:
    """Return the time to create an instance."""
    instance = Instance(program.engine, lambda: None)
    context: Any = SimpleNamespace()
    context.signals = GuestSignals(context)
    define_imports(instance, program.compiled, identity.configuration, context)
    begin = _now()
    instance.instantiate(program.compiled)
    end = _now()
    return Span(end.cpu - begin.cpu, end.wall - begin.wall)

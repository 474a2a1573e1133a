"""Adapters before a writer: what a forked child and a missing close do to the events they hold."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from journal import WrongProcess, events
from journal.adapters import AutoClose, CompactingLog, CompactingSink, CountingSink, Transaction
from journal.adapters.protocols import ForwardingSink, Sink
from journal.compaction import BackgroundCompactor, CompactionSchedule, compact_online
from journal.log import Reader, Writer
from tests.support.forks import error_of, run_in_child
from tests.support.journals import read_rows
from tests.support.scheduled_writers import begin, overwriting

Make = Callable[[Sink], ForwardingSink]
SINKS: list[Make] = [
    AutoClose,
    CompactingSink,
    CountingSink,
    Transaction,
    lambda sink: AutoClose(CountingSink(CompactingSink(sink))),
]
FACTOR = CompactionSchedule(factor=2.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def open_descriptor(sink: Sink) -> None:
    sink.append(events.descriptors.CreateEvent(fd=5, initial_val=0, flags=0))


@pytest.mark.parametrize("make", SINKS)
def test_a_child_gives_a_sink_no_event_and_leaves_its_block_without_an_error(
    path: Path, make: Make
) -> None:
    with Writer(path) as writer, make(writer) as sink:
        open_descriptor(sink)

        def use() -> list[BaseException | None]:
            calls = (lambda: sink.append_frame(200, b"child"), sink.flush, sink.sync)
            leave = (sink.close, lambda: sink.__exit__(None, None, None))
            return [error_of(call) for call in (*calls, *leave)]

        *refused, close, leave = run_in_child(use)
        assert all(isinstance(error, WrongProcess) for error in refused)
        assert (close, leave) == (None, None)
        sink.append_frame(200, b"parent")
    rows = read_rows(path)
    assert (200, b"parent") in rows
    assert (200, b"child") not in rows


def test_a_child_neither_closes_nor_compacts_a_log(path: Path) -> None:
    schedule = CompactionSchedule(on_close=True, every_events=1000)
    with CompactingLog(path, schedule) as log:
        for _ in range(3):
            open_descriptor(log)
        log.sync()
        before = path.read_bytes()

        def use() -> list[BaseException | None]:
            calls = (lambda: log.append_frame(200, b"child"), log.flush, log.sync)
            leave = (log.close, lambda: log.__exit__(None, None, None))
            return [error_of(call) for call in (*calls, *leave)]

        *refused, close, leave = run_in_child(use)
        assert all(isinstance(error, WrongProcess) for error in refused)
        assert (close, leave) == (None, None)
        assert path.read_bytes() == before
        log.append_frame(200, b"parent")
    assert read_rows(path)[-1] == (200, b"parent")


def test_a_child_of_a_closed_log_does_not_replace_the_journal(path: Path) -> None:
    log = CompactingLog(path, CompactionSchedule(on_close=True))
    begin(log)
    overwriting(log, 20)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(told, 1)
        os._exit(error_of(log.close) is not None)
    log.inner.close()  # The lock is free, and the journal can be compacted.
    before = path.stat().st_ino
    os.write(tell, b"!")
    assert os.waitpid(child, 0)[1] == 0
    assert path.stat().st_ino == before
    log.close()
    assert path.stat().st_ino != before
    os.close(told)
    os.close(tell)


def test_a_child_starts_no_compaction(path: Path) -> None:
    with Writer(path) as writer:
        writer.append_frame(200, b"x")
        with BackgroundCompactor(writer, FACTOR) as compactor:
            errors = run_in_child(
                lambda: [
                    error_of(call)
                    for call in (
                        compactor.start,
                        lambda: compact_online(writer),
                        lambda: BackgroundCompactor(writer, FACTOR).start(),
                        compactor.close,
                    )
                ]
            )
            assert [type(error) for error in errors] == [WrongProcess] * 3 + [type(None)]


def test_a_compacting_log_that_nobody_closed_is_closed_with_one_warning(path: Path) -> None:
    def append() -> None:
        log = CompactingLog(path, FACTOR)
        log.append_frame(200, b"x")

    with pytest.warns(ResourceWarning, match=r"the compacting log .*a\.journal") as warned:
        append()
    assert len(warned) == 1
    assert read_rows(path) == [(200, b"x")]


def test_events_that_a_sink_held_back_are_written_when_nobody_closes_it(path: Path) -> None:
    def append() -> None:
        sink = CompactingSink(Writer(path))
        sink.append_frame(200, b"x")

    with pytest.warns(ResourceWarning, match=r"compacts events for .*a\.journal"):
        append()
    assert read_rows(path) == [(200, b"x")]


def test_an_event_in_a_cycle_is_written_too(path: Path) -> None:
    def append_and_collect() -> None:
        append()
        gc.collect()

    def append() -> None:
        writer = Writer(path)
        cycle: list[object] = [writer]
        cycle.append(cycle)
        writer.append_frame(200, b"x")

    with pytest.warns(ResourceWarning):
        append_and_collect()
    with Reader(path) as reader:
        assert [frame.payload for frame in reader.frames()] == [b"x"]

"""Online compaction of the journal of a live writer, which pauses briefly at the end."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from journal._arguments import check_callable, check_optional, check_type
from journal.compaction.compactor import CompactionResult
from journal.compaction.retention import RetentionPolicy
from journal.compaction.schedule import CompactionSchedule, GrowthMeter
from journal.compaction.worker_process import compact_in_worker
from journal.errors import JournalError, StorageError
from journal.fs import atomic_file
from journal.fs.open_resources import OPEN_RESOURCES, OwnThread, close_unclosed
from journal.log import segment_files
from journal.log.switchover import SwitchoverStats
from journal.log.writer import Writer

POLL_PERIOD_SECONDS = 0.1
"""Interval at which the background thread checks its writer."""


class OnlineCompactionResult(NamedTuple):
    """Result of an online compaction. ``switchover`` is None if nothing could be dropped.

    ``size`` is the size of the journal's blocks afterwards, in bytes.
    """

    compaction: CompactionResult
    switchover: SwitchoverStats | None
    size: int


def compact_online(
    writer: Writer,
    *,
    policy: RetentionPolicy = RetentionPolicy(),  # noqa: B008 - an immutable value
    stop: threading.Event | None = None,
) -> OnlineCompactionResult:
    """Compact the journal of a live writer, in a worker process.

    Events appended meanwhile are copied to the compacted journal, which then replaces the old one;
    appends wait only while the last of these events are copied. After a crash the path holds one of
    the two journals. Raises WorkerFailed if the compaction is not possible or ``stop`` is set, and
    StorageError if the disk fails; the journal is then unchanged.
    """
    check_type("writer", writer, Writer)
    check_type("policy", policy, RetentionPolicy)
    check_optional("stop", stop, check_type, threading.Event)
    writer.flush()
    path = Path(os.path.realpath(writer.path))
    sibling = atomic_file.make_temporary_path(path)
    try:
        result = compact_in_worker(path, sibling, policy, writer.roll, stop, writer.key)
        size = segment_files.journal_size(sibling)
    except BaseException:
        segment_files.remove_journal(sibling)
        raise
    if result.is_unchanged:
        segment_files.remove_journal(sibling)
        return OnlineCompactionResult(result, None, size)
    switchover = writer.switch_to(sibling)
    return OnlineCompactionResult(
        result, switchover, size + switchover.copied_size + switchover.rest_size
    )


ResultCallback = Callable[["OnlineCompactionResult | JournalError"], object]


def ignore_result(result: "OnlineCompactionResult | JournalError") -> None:
    """Ignore the result of a compaction."""


class BackgroundCompactor:
    """Thread that compacts a writer's journal by a ``schedule``; a context manager.

    The thread compacts only while ``is_allowed()`` is true, and calls ``report`` with each result
    or error; after an error the journal is unchanged, and the next attempt follows when the journal
    has grown by the scheduled amount again. ``count`` is the number of completed compactions.
    In a forked child ``start`` raises WrongProcess, and ``close`` does nothing.
    """

    def __init__(
        self,
        writer: Writer,
        schedule: CompactionSchedule,
        *,
        is_allowed: Callable[[], bool] = lambda: True,
        report: ResultCallback = ignore_result,
    ) -> None:
        self.count = 0
        self._writer = check_type("writer", writer, Writer)
        self._schedule = check_type("schedule", schedule, CompactionSchedule)
        self._is_allowed = check_callable("is_allowed", is_allowed)
        self._report = check_callable("report", report)
        path = Path(os.path.realpath(writer.path))
        size = segment_files.journal_size(path) if path.exists() else 0
        self._meter = GrowthMeter(schedule, writer.next_seq, max(0, size - writer.size))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        OPEN_RESOURCES.release_in_children(self)
        OPEN_RESOURCES.close_at_exit(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the thread, if the schedule needs one."""
        if self._writer.is_inherited:
            self._writer.flush()  # Raises WrongProcess.
        if self._schedule.is_active and self._thread is None:
            name = f"compaction of {self._writer.path.name}"
            self._thread = OwnThread(target=self._run, name=name, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop the thread, and cancel a running compaction, unless the switchover has begun."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def __del__(self) -> None:
        if getattr(self, "_thread", None) is not None:
            close_unclosed(self, f"the compactor of {self._writer.path}")

    def _abandon(self, owner: int) -> None:
        del owner
        self._thread = None
        self._stop = threading.Event()  # A thread of the parent may hold the old event's lock.

    def _run(self) -> None:
        writer = self._writer
        while not self._stop.wait(POLL_PERIOD_SECONDS):
            if self._is_allowed() and self._meter.is_due(writer.next_seq, writer.size):
                try:
                    self._compact()
                except JournalError as error:
                    self._report_failure(error)
                except OSError as error:
                    reason = f"cannot compact {writer.path}: {error.strerror or error}"
                    self._report_failure(StorageError(reason, writer.durable_upto))

    def _compact(self) -> None:
        writer = self._writer
        result = compact_online(writer, policy=self._schedule.policy, stop=self._stop)
        self._meter.reset(writer.next_seq, writer.size, result.size if result.switchover else None)
        self.count += result.switchover is not None
        self._report(result)

    def _report_failure(self, error: JournalError) -> None:
        self._meter.reset(self._writer.next_seq, self._writer.size)
        if not self._stop.is_set():
            self._report(error)

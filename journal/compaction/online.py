"""CompactionResult beside a live writer: it goes on, and stands still for a moment at the end."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from journal.compaction.compactor import CompactionResult
from journal.compaction.retention import RetentionPolicy
from journal.compaction.schedule import CompactionSchedule, GrowthMeter
from journal.compaction.worker_process import compact_in_worker
from journal.errors import JournalError, StorageError
from journal.fs import atomic_file
from journal.log import segment_files
from journal.log.switchover import SwitchoverStats
from journal.log.writer import Writer

POLL_PERIOD_SECONDS = 0.1
"""How often a tended writer is looked at."""


class OnlineCompactionResult(NamedTuple):
    """What a compaction beside a writer did; ``handover`` is None where nothing could go.

    ``size`` is that of the journal's blocks behind it, in bytes.
    """

    compaction: CompactionResult
    switchover: SwitchoverStats | None
    size: int


def compact_online(
    writer: Writer,
    *,
    policy: RetentionPolicy = RetentionPolicy(),  # noqa: B008 - it is a value
    stop: threading.Event | None = None,
) -> OnlineCompactionResult:
    """Compact the journal of a writer, which goes on meanwhile, in a process apart.

    What is appended meanwhile is copied to the compacted journal, which then takes the place of the
    old one: appends wait only for the rest of that. A crash leaves the one or the other. Raises
    Unfinished where it cannot be done, or is given up by ``stop``, and StorageError where the disk
    fails; the journal is as it was then.
    """
    writer.flush()
    path = Path(os.path.realpath(writer.path))
    beside = atomic_file.make_temporary_path(path)
    try:
        found = compact_in_worker(path, beside, policy, writer.roll, stop)
        size = segment_files.journal_size(beside)
    except BaseException:
        segment_files.remove_journal(beside)
        raise
    if found.is_unchanged:
        segment_files.remove_journal(beside)
        return OnlineCompactionResult(found, None, size)
    handover = writer.switch_to(beside)
    return OnlineCompactionResult(found, handover, size + handover.copied_size + handover.rest_size)


ResultCallback = Callable[["OnlineCompactionResult | JournalError"], object]


def ignore_result(found: "OnlineCompactionResult | JournalError") -> None:
    """Nobody listens."""


class BackgroundCompactor:
    """Compacts the journal of a writer whenever ``upkeep`` says so; a context manager.

    A thread of its own looks after it, and does nothing while ``may`` says no. ``tell`` hears, in
    that thread, what was done, and what could not be: then the journal is as it was, and is tried
    again when it has grown as much again. ``count`` is how often it was compacted.
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
        self._writer = writer
        self._schedule = schedule
        self._is_allowed = is_allowed
        self._report = report
        path = Path(os.path.realpath(writer.path))
        size = segment_files.journal_size(path) if path.exists() else 0
        self._meter = GrowthMeter(schedule, writer.next_seq, max(0, size - writer.size))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

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
        """Begin to look after it."""
        if self._schedule.is_active and self._thread is None:
            name = f"upkeep of {self._writer.path.name}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Look after it no more; what is being done is given up, if it is not nearly done."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        writer = self._writer
        while not self._stop.wait(POLL_PERIOD_SECONDS):
            if self._is_allowed() and self._meter.is_due(writer.next_seq, writer.size):
                try:
                    self._compact()
                except JournalError as error:
                    self._report_failure(error)
                except OSError as error:
                    reason = f"{writer.path} cannot be compacted: {error.strerror or error}"
                    self._report_failure(StorageError(reason, writer.durable_upto))

    def _compact(self) -> None:
        writer = self._writer
        found = compact_online(writer, policy=self._schedule.policy, stop=self._stop)
        self._meter.reset(writer.next_seq, writer.size, found.size if found.switchover else None)
        self.count += found.switchover is not None
        self._report(found)

    def _report_failure(self, error: JournalError) -> None:
        self._meter.reset(self._writer.next_seq, self._writer.size)
        if not self._stop.is_set():
            self._report(error)

"""Compaction beside a live writer: it goes on, and stands still for a moment at the end."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from journal.compaction.compactor import Compaction
from journal.compaction.retention import Policy
from journal.compaction.schedule import Meter, Upkeep
from journal.compaction.worker_process import compact_apart
from journal.errors import JournalError, StorageError
from journal.fs import atomic_file as durable
from journal.log import segment_files
from journal.log.switchover import SwitchoverStats
from journal.log.writer import Writer

LOOK_SECONDS = 0.1
"""How often a tended writer is looked at."""


class Online(NamedTuple):
    """What a compaction beside a writer did; ``handover`` is None where nothing could go.

    ``size`` is that of the journal's blocks behind it, in bytes.
    """

    compaction: Compaction
    handover: SwitchoverStats | None
    size: int


def compact_online(
    writer: Writer,
    *,
    policy: Policy = Policy(),  # noqa: B008 - it is a value
    stop: threading.Event | None = None,
) -> Online:
    """Compact the journal of a writer, which goes on meanwhile, in a process apart.

    What is appended meanwhile is copied to the compacted journal, which then takes the place of the
    old one: appends wait only for the rest of that. A crash leaves the one or the other. Raises
    Unfinished where it cannot be done, or is given up by ``stop``, and StorageError where the disk
    fails; the journal is as it was then.
    """
    writer.flush()
    path = Path(os.path.realpath(writer.path))
    beside = durable.make_temporary_path(path)
    try:
        found = compact_apart(path, beside, policy, writer.roll, stop)
        size = segment_files.journal_size(beside)
    except BaseException:
        segment_files.remove_journal(beside)
        raise
    if found.is_needless:
        segment_files.remove_journal(beside)
        return Online(found, None, size)
    handover = writer.switch_to(beside)
    return Online(found, handover, size + handover.copied_size + handover.rest_size)


Tell = Callable[["Online | JournalError"], object]


def unheard(found: "Online | JournalError") -> None:
    """Nobody listens."""


class Tending:
    """Compacts the journal of a writer whenever ``upkeep`` says so; a context manager.

    A thread of its own looks after it, and does nothing while ``may`` says no. ``tell`` hears, in
    that thread, what was done, and what could not be: then the journal is as it was, and is tried
    again when it has grown as much again. ``count`` is how often it was compacted.
    """

    def __init__(
        self,
        writer: Writer,
        upkeep: Upkeep,
        *,
        may: Callable[[], bool] = lambda: True,
        tell: Tell = unheard,
    ) -> None:
        self.count = 0
        self._writer = writer
        self._upkeep = upkeep
        self._may = may
        self._tell = tell
        path = Path(os.path.realpath(writer.path))
        size = segment_files.journal_size(path) if path.exists() else 0
        self._meter = Meter(upkeep, writer.next_seq, max(0, size - writer.size))
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
        if self._upkeep.is_wished and self._thread is None:
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
        while not self._stop.wait(LOOK_SECONDS):
            if self._may() and self._meter.is_due(writer.next_seq, writer.size):
                try:
                    self._compact()
                except JournalError as error:
                    self._failed(error)
                except OSError as error:
                    reason = f"{writer.path} cannot be compacted: {error.strerror or error}"
                    self._failed(StorageError(reason, writer.durable_upto))

    def _compact(self) -> None:
        writer = self._writer
        found = compact_online(writer, policy=self._upkeep.policy, stop=self._stop)
        self._meter.settle(writer.next_seq, writer.size, found.size if found.handover else None)
        self.count += found.handover is not None
        self._tell(found)

    def _failed(self, error: JournalError) -> None:
        self._meter.settle(self._writer.next_seq, self._writer.size)
        if not self._stop.is_set():
            self._tell(error)

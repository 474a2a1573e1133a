"""Journal file that is compacted while it grows."""

import os
from types import TracebackType
from typing import Any

from journal._arguments import check_callable, check_type
from journal.adapters.protocols import ForwardingSink
from journal.compaction.in_place import compact_in_place
from journal.compaction.online import BackgroundCompactor, ResultCallback, ignore_result
from journal.compaction.schedule import CompactionSchedule
from journal.fs.open_resources import OPEN_RESOURCES, close_unclosed
from journal.log.writer import Writer


class CompactingLog(ForwardingSink):
    """Journal file that is compacted by a schedule: while it grows, and when it is closed.

    ``inner`` is the ``Writer`` of that file, created with the other ``options``. ``report``
    receives the results in another thread. A log that nobody closed is closed with a
    ResourceWarning, as a ``Writer`` is.
    """

    inner: Writer
    _is_open = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        schedule: CompactionSchedule,
        *,
        report: ResultCallback = ignore_result,
        **options: Any,
    ) -> None:
        self._schedule = check_type("schedule", schedule, CompactionSchedule)
        check_callable("report", report)
        super().__init__(Writer(path, **options))
        self._compactor = BackgroundCompactor(self.inner, schedule, report=report)
        self._compactor.start()
        self._is_open = True
        OPEN_RESOURCES.close_at_exit(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_open = False
        self._compactor.close()
        super().__exit__(kind, error, trace)
        self._compact_closed()

    def __del__(self) -> None:
        if self._is_open and not self.is_inherited:
            close_unclosed(self, f"the compacting log {self.inner.path}")

    @property
    def compactions(self) -> int:
        """Number of compactions while the journal was open."""
        return self._compactor.count

    def close(self) -> None:
        """Make all events durable and close the journal; compact it if the schedule requires it."""
        self._is_open = False
        self._compactor.close()
        self.inner.close()
        self._compact_closed()

    def _compact_closed(self) -> None:
        if self._schedule.on_close and self.inner.durable_upto and not self.is_inherited:
            compact_in_place(self.inner.path, policy=self._schedule.policy)

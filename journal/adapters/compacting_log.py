"""The shape of a log file that is compacted as it grows."""

import os
from types import TracebackType
from typing import Any

from journal.adapters.protocols import ForwardingSink
from journal.compaction.in_place import compact_in_place
from journal.compaction.online import Tell, Tending, unheard
from journal.compaction.schedule import Upkeep
from journal.log.writer import Writer


class CompactingLog(ForwardingSink):
    """A log file that is compacted as ``upkeep`` says: while it grows, and when it is closed.

    ``inner`` is its ``Writer``, made with all other ``options``. ``tell`` hears of what was done,
    in a thread of its own.
    """

    inner: Writer

    def __init__(
        self,
        path: str | os.PathLike[str],
        upkeep: Upkeep,
        *,
        tell: Tell = unheard,
        **options: Any,
    ) -> None:
        super().__init__(Writer(path, **options))
        self._upkeep = upkeep
        self._tending = Tending(self.inner, upkeep, tell=tell)
        self._tending.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tending.close()
        super().__exit__(kind, error, trace)
        self._compact_closed()

    @property
    def compactions(self) -> int:
        """How often it was compacted while it was open."""
        return self._tending.count

    def close(self) -> None:
        """Make all durable, let go, and compact it a last time if that is wished."""
        self._tending.close()
        self.inner.close()
        self._compact_closed()

    def _compact_closed(self) -> None:
        if self._upkeep.on_close and self.inner.durable_upto:
            compact_in_place(self.inner.path, policy=self._upkeep.policy)

"""Journal combined from a sink and a source, and a journal split into a sink and a source."""

from collections.abc import Container, Iterator
from typing import Protocol

from journal.adapters.protocols import (
    Adapter,
    ForwardingSink,
    Sink,
    Source,
    check_sink,
    check_source,
)
from journal.format.frame import Frame


class ReadWriteJournal(Sink, Source, Protocol):
    """A journal that can be written and read."""


class CombinedJournal(ForwardingSink):
    """Journal that writes to ``sink`` and reads from ``source``, which are independent."""

    def __init__(self, sink: Sink, source: Source) -> None:
        check_sink("sink", sink)
        self.source = check_source("source", source)
        super().__init__(sink)

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Yield the frames of the source."""
        return self.source.frames(start, stop=stop, tags=tags)

    def __exit__(self, *how: object) -> None:
        try:
            super().__exit__(*how)  # type: ignore[arg-type]
        finally:
            self.source.close()

    def close(self) -> None:
        """Close the sink, then the source."""
        try:
            self.inner.close()
        finally:
            self.source.close()


def split(journal: ReadWriteJournal) -> tuple[Sink, Source]:
    """Return a sink and a source of one journal, which is closed when both are closed."""
    check_sink("journal", journal)
    check_source("journal", journal)
    halves = _Halves(journal)
    return _SinkHalf(halves), _SourceHalf(halves)


class _Halves:
    """A journal, and the set of its halves that are still open."""

    def __init__(self, journal: ReadWriteJournal) -> None:
        self.journal = journal
        self._open = {"sink", "source"}

    def close(self, half: str) -> None:
        """Close one half, and the journal with the second one."""
        if half in self._open:
            self._open.remove(half)
            if not self._open:
                self.journal.close()
            elif half == "sink":
                self.journal.flush()


class _SinkHalf(ForwardingSink):
    """Half that is written."""

    def __init__(self, halves: _Halves) -> None:
        super().__init__(halves.journal)
        self._halves = halves

    def __enter__(self) -> "_SinkHalf":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End writing. The events written so far are flushed for the reader."""
        self._halves.close("sink")


class _SourceHalf(Adapter):
    """Half that is read."""

    def __init__(self, halves: _Halves) -> None:
        self._halves = halves

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Yield the frames of the journal."""
        return self._halves.journal.frames(start, stop=stop, tags=tags)

    def close(self) -> None:
        """End reading."""
        self._halves.close("source")

"""Transaction: events that are appended together or not at all."""

from types import TracebackType
from typing import Self

from journal.adapters.endpoints import BUFFER_SIZE_MAX, MemoryJournal
from journal.adapters.protocols import ForwardingSink, Sink


class Transaction(ForwardingSink):
    """Sink that holds events back from ``inner`` until ``commit``; ``rollback`` discards them.

    The end of its ``with`` block commits, or rolls back after an error, and leaves ``inner`` open.
    ``close`` rolls back and also leaves ``inner`` open. Returned sequence numbers are valid if
    nothing else is appended to ``inner`` meanwhile; times are those of the commit. Raises
    LimitExceeded for more than ``size_max`` bytes of events. A crash during a commit may leave only
    the first of its events.
    """

    def __init__(self, inner: Sink, *, size_max: int = BUFFER_SIZE_MAX) -> None:
        super().__init__(inner)
        self._held = MemoryJournal(inner.next_seq, size_max=size_max)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and not self.is_inherited:
            self.commit()
        else:
            self.rollback()

    @property
    def next_seq(self) -> int:
        """Sequence number of the next event."""
        return self.inner.next_seq + len(self)

    @property
    def time(self) -> int:
        """Time of the last event in µs since the epoch."""
        return self._held.time if len(self) else self.inner.time

    def __len__(self) -> int:
        """Return the number of events held back."""
        return self._held.next_seq - self._held.first_seq

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Hold an event back, and return its future sequence number."""
        self.check_process()
        seq = self.next_seq
        self._held.append_frame(tag, payload)
        return seq

    def commit(self) -> range:
        """Forward the events held back, and return their sequence numbers.

        If ``inner`` rejects an event, that event and those after it remain held back.
        """
        self.check_process()
        first_seq, count = self.inner.next_seq, 0
        try:
            for frame in self._held.frames():
                self.inner.append_frame(frame.tag, frame.payload)
                count += 1
        finally:
            self._held.drop(count)
        return range(first_seq, self.inner.next_seq)

    def rollback(self) -> None:
        """Discard the events held back."""
        self._held.clear(self.inner.next_seq)

    def flush(self) -> None:
        """Flush ``inner``. Events held back remain held back."""
        self.inner.flush()

    def close(self) -> None:
        """Roll back."""
        self.rollback()

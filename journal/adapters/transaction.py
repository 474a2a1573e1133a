"""A transaction: events that come together, or not at all."""

from types import TracebackType
from typing import Self

from journal.adapters.endpoints import BUFFER_SIZE_MAX, MemoryJournal
from journal.adapters.protocols import ForwardingSink, Sink


class Transaction(ForwardingSink):
    """Holds events back from ``inner`` until ``commit``; ``rollback`` forgets them.

    Leaving its block commits, or rolls back where there was an error, and leaves ``inner`` open; so
    does ``close``, which rolls back. The numbers that it gives hold if nobody else appends to
    ``inner`` meanwhile; times are those of the commit. It takes up to ``size_max`` bytes of events,
    and then refuses with LimitExceeded. A crash during a commit may leave the first of its events.
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
        if kind is None:
            self.commit()
        else:
            self.rollback()

    @property
    def next_seq(self) -> int:
        """The number that the next event will get."""
        return self.inner.next_seq + len(self)

    @property
    def time(self) -> int:
        """The time of the last event, µs since the epoch."""
        return self._held.time if len(self) else self.inner.time

    def __len__(self) -> int:
        """How many events are held back."""
        return self._held.next_seq - self._held.first_seq

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Hold an event back; give the number that it will get."""
        seq = self.next_seq
        self._held.append_frame(tag, payload)
        return seq

    def commit(self) -> range:
        """Pass on what is held back; give the numbers.

        Where ``inner`` refuses one, that and those behind it are still held back.
        """
        first_seq, count = self.inner.next_seq, 0
        try:
            for frame in self._held.frames():
                self.inner.append_frame(frame.tag, frame.payload)
                count += 1
        finally:
            self._held.drop(count)
        return range(first_seq, self.inner.next_seq)

    def rollback(self) -> None:
        """Forget what is held back."""
        self._held.clear(self.inner.next_seq)

    def flush(self) -> None:
        """Flush ``inner``; what is held back stays so."""
        self.inner.flush()

    def close(self) -> None:
        """Roll back."""
        self.rollback()

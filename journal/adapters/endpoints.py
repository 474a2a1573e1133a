"""Journals that discard events, reject them, or keep them in memory."""

from collections.abc import Callable, Container, Iterator
from typing import NoReturn

from journal._arguments import check_bytes, check_callable, check_int, check_optional, check_text
from journal.adapters.protocols import Adapter, check_selection, is_selected
from journal.errors import LimitExceeded, OptionError
from journal.format.frame import TAG_MAX, TAG_MIN, Frame
from journal.log.clock import current_microseconds

BUFFER_SIZE_MAX = 1 << 28
"""Default limit of bytes kept in memory."""
EVENT_OVERHEAD_SIZE = 128
"""Bytes that an event counts towards a limit, besides its payload."""


class NullJournal(Adapter):
    """Journal that accepts, numbers and discards all events, and reads as empty."""

    def __init__(self, first_seq: int = 0, clock: Callable[[], int] = current_microseconds) -> None:
        self.next_seq = check_int("first_seq", first_seq)
        self.time = 0
        self._clock = check_callable("clock", clock)

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Discard an event and return its sequence number."""
        check_frame(tag, payload)
        self.time = self._clock()
        self.next_seq += 1
        return self.next_seq - 1

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Return an empty iterator."""
        check_selection(start, stop, tags)
        return iter(())

    def flush(self) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""


class RejectingJournal(Adapter):
    """Journal that rejects all events with a given ``reason``, and reads as empty."""

    next_seq = 0
    time = 0

    def __init__(self, reason: str = "it is read-only") -> None:
        self.reason = check_text("reason", reason)

    def append_frame(self, tag: int, payload: bytes) -> NoReturn:
        """Raise OptionError."""
        raise OptionError(f"this journal cannot be written: {self.reason}")

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Return an empty iterator."""
        check_selection(start, stop, tags)
        return iter(())

    def flush(self) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""


class MemoryJournal(Adapter):
    """Journal in memory: a sink, and a source of the events appended so far.

    Raises LimitExceeded for events above ``size_max`` bytes in total.
    """

    def __init__(
        self,
        first_seq: int = 0,
        *,
        size_max: int = BUFFER_SIZE_MAX,
        clock: Callable[[], int] = current_microseconds,
    ) -> None:
        self.first_seq = check_int("first_seq", first_seq)
        self.time = 0
        self.size = 0
        self._size_max = check_int("size_max", size_max)
        self._clock = check_callable("clock", clock)
        self._frames: list[Frame] = []

    @property
    def next_seq(self) -> int:
        """Sequence number of the next event."""
        return self.first_seq + len(self._frames)

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Store an event and return its sequence number."""
        tag, payload = check_frame(tag, payload)
        size = self.size + len(payload) + EVENT_OVERHEAD_SIZE
        if size > self._size_max:
            raise LimitExceeded(
                f"events in memory must be at most {self._size_max} bytes, got {size}"
            )
        self.time, self.size = self._clock(), size
        self._frames.append(Frame(self.next_seq, tag, payload, self.time, 0))
        return self.next_seq - 1

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Yield the selected frames of those stored at the time of the first call."""
        check_selection(start, stop, tags)
        return self._frames_of(start, stop, tags)

    def _frames_of(
        self, start: int, stop: int | None, tags: Container[int] | None
    ) -> Iterator[Frame]:
        for index in range(max(start - self.first_seq, 0), len(self._frames)):
            if is_selected(self._frames[index], start, stop, tags):
                yield self._frames[index]

    def clear(self, first_seq: int | None = None) -> None:
        """Remove all events. Sequence numbers continue, or start at ``first_seq``."""
        first = check_optional("first_seq", first_seq, check_int)
        self.first_seq = self.next_seq if first is None else first
        self.size = 0
        self._frames = []

    def drop(self, count: int) -> None:
        """Remove the first ``count`` events. The others keep their sequence numbers."""
        check_int("count", count)
        dropped, self._frames = self._frames[:count], self._frames[count:]
        self.first_seq += len(dropped)
        self.size -= sum(len(frame.payload) + EVENT_OVERHEAD_SIZE for frame in dropped)

    def flush(self) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing: nothing in memory is durable."""


def check_frame(tag: int, payload: bytes) -> tuple[int, bytes]:
    """Return a tag and a payload. Raises OptionError for invalid ones, as a writer does."""
    return check_int("tag", tag, TAG_MIN, TAG_MAX), check_bytes("payload", payload)

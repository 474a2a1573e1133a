"""Where events end, or begin: nowhere, not at all, or in memory."""

from collections.abc import Callable, Container, Iterator
from typing import NoReturn

from journal.adapters.protocols import Adapter, current_microseconds, is_selected
from journal.errors import LimitExceeded, OptionError
from journal.format.frame import TAG_MAX, TAG_MIN, Frame

BUFFER_SIZE_MAX = 1 << 28
"""Bytes of payloads that are kept in memory, unless somebody says otherwise."""
EVENT_OVERHEAD_SIZE = 128
"""What an event takes of them besides its payload."""


class NullJournal(Adapter):
    """Takes everything, numbers it and forgets it; reads as empty."""

    def __init__(self, first_seq: int = 0, clock: Callable[[], int] = current_microseconds) -> None:
        self.next_seq = first_seq
        self.time = 0
        self._clock = clock

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Take an event and forget it; give its number."""
        check_tag(tag)
        self.time = max(self.time, self._clock())
        self.next_seq += 1
        return self.next_seq - 1

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Give nothing."""
        return iter(())

    def flush(self) -> None:
        """Nothing is there."""

    def sync(self) -> None:
        """Nothing is there."""


class RejectingJournal(Adapter):
    """Reads as empty, and refuses to be written, for the ``reason`` given."""

    next_seq = 0
    time = 0

    def __init__(self, reason: str = "it is there to be read only") -> None:
        self.reason = reason

    def append_frame(self, tag: int, payload: bytes) -> NoReturn:
        """Refuse with an OptionError."""
        raise OptionError(f"this journal cannot be written: {self.reason}")

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Give nothing."""
        return iter(())

    def flush(self) -> None:
        """Nothing is there."""

    def sync(self) -> None:
        """Nothing is there."""


class MemoryJournal(Adapter):
    """Keeps everything in memory: a sink, and a source of what it was given so far.

    It takes up to ``size_max`` bytes, and then refuses with LimitExceeded.
    """

    def __init__(
        self,
        first_seq: int = 0,
        *,
        size_max: int = BUFFER_SIZE_MAX,
        clock: Callable[[], int] = current_microseconds,
    ) -> None:
        self.first_seq = first_seq
        self.time = 0
        self.size = 0
        self._size_max = size_max
        self._clock = clock
        self._frames: list[Frame] = []

    @property
    def next_seq(self) -> int:
        """The number that the next event will get."""
        return self.first_seq + len(self._frames)

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Keep an event; give its number."""
        check_tag(tag)
        size = self.size + len(payload) + EVENT_OVERHEAD_SIZE
        if size > self._size_max:
            raise LimitExceeded(
                f"more than {self._size_max} bytes of events are not kept in memory"
            )
        self.time, self.size = max(self.time, self._clock()), size
        self._frames.append(Frame(self.next_seq, tag, payload, self.time, 0))
        return self.next_seq - 1

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Give what was kept, up to what was there when asked."""
        for index in range(max(start - self.first_seq, 0), len(self._frames)):
            if is_selected(self._frames[index], start, stop, tags):
                yield self._frames[index]

    def clear(self, first_seq: int | None = None) -> None:
        """Forget everything; numbers go on, or begin at ``first_seq``."""
        self.first_seq = self.next_seq if first_seq is None else first_seq
        self.size = 0
        self._frames = []

    def drop(self, count: int) -> None:
        """Forget the first events; numbers stay."""
        dropped, self._frames = self._frames[:count], self._frames[count:]
        self.first_seq += len(dropped)
        self.size -= sum(len(frame.payload) + EVENT_OVERHEAD_SIZE for frame in dropped)

    def flush(self) -> None:
        """Memory is all there is."""

    def sync(self) -> None:
        """Memory is all there is: nothing of it is durable."""


def check_tag(tag: int) -> None:
    """Refuse what no event has for a tag, as a writer does."""
    if not TAG_MIN <= tag <= TAG_MAX:
        raise OptionError(f"an event's tag is {TAG_MIN} to {TAG_MAX}, not {tag}")

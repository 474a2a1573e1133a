"""A pipe: what one thread appends, another reads, with a bounded number of bytes between them."""

import threading
from collections import deque
from collections.abc import Callable, Container, Iterator

from journal.adapters.endpoints import EVENT_OVERHEAD_SIZE, check_tag
from journal.adapters.protocols import Adapter, current_microseconds, is_selected
from journal.errors import OptionError
from journal.format.frame import Frame

PIPE_SIZE = 1 << 20
"""Bytes that are in a pipe at most, unless somebody says otherwise; one event always fits."""


class _Pipe:
    """What the two ends share."""

    def __init__(self, first_seq: int, size_max: int, clock: Callable[[], int]) -> None:
        self.changed = threading.Condition()
        self.next_seq = first_seq
        self.time = 0
        self.size_max = size_max
        self.size = 0
        self.clock = clock
        self.frames: deque[Frame] = deque()
        self.is_writer_closed = False
        self.is_reader_closed = False

    def put(self, tag: int, payload: bytes) -> int:
        """Wait for room, and put an event in."""
        size = len(payload) + EVENT_OVERHEAD_SIZE
        with self.changed:
            self.changed.wait_for(lambda: self._can_put(size))
            if self.is_reader_closed:
                raise OptionError("nobody reads from this pipe any more")
            if self.is_writer_closed:
                raise OptionError("this pipe is closed")
            seq, self.time = self.next_seq, max(self.time, self.clock())
            self.frames.append(Frame(seq, tag, payload, self.time, 0))
            self.next_seq += 1
            self.size += size
            self.changed.notify_all()
            return seq

    def take(self) -> Frame | None:
        """Wait for the next event; None when there will be none."""
        with self.changed:
            self.changed.wait_for(
                lambda: self.frames or self.is_writer_closed or self.is_reader_closed
            )
            if not self.frames or self.is_reader_closed:
                return None
            frame = self.frames.popleft()
            self.size -= len(frame.payload) + EVENT_OVERHEAD_SIZE
            self.changed.notify_all()
            return frame

    def close(self, *, writing: bool) -> None:
        """One end is not used any more; whoever waits at the other is told."""
        with self.changed:
            if writing:
                self.is_writer_closed = True
            else:
                self.is_reader_closed = True
                self.frames.clear()
            self.changed.notify_all()

    def _can_put(self, size: int) -> bool:
        fits = not self.frames or self.size + size <= self.size_max
        return fits or self.is_reader_closed or self.is_writer_closed


class PipeSink(Adapter):
    """The end that is written: it waits while the pipe is full.

    Where the other end was closed, ``append`` raises OptionError.
    """

    def __init__(self, shared: _Pipe) -> None:
        self._pipe = shared

    @property
    def next_seq(self) -> int:
        """The number that the next event will get."""
        return self._pipe.next_seq

    @property
    def time(self) -> int:
        """The time of the last event, µs since the epoch."""
        return self._pipe.time

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Put an event in, when there is room; give its number."""
        check_tag(tag)
        return self._pipe.put(tag, payload)

    def flush(self) -> None:
        """What is in the pipe can be read already."""

    def sync(self) -> None:
        """What is in the pipe is in memory: nothing of it is durable."""

    def close(self) -> None:
        """Write no more: the other end comes to its end when it has read the rest."""
        self._pipe.close(writing=True)


class PipeSource(Adapter):
    """The end that is read: it waits for events, and gives each once."""

    def __init__(self, shared: _Pipe) -> None:
        self._pipe = shared

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Take events out as they come; those that are not asked for are dropped."""
        while stop is None or start < stop:
            frame = self._pipe.take()
            if frame is None:
                return
            if is_selected(frame, start, stop, tags):
                yield frame
            if stop is not None and frame.seq + 1 >= stop:
                return

    def close(self) -> None:
        """Read no more: whoever writes is told."""
        self._pipe.close(writing=False)


def pipe(
    first_seq: int = 0,
    *,
    size_max: int = PIPE_SIZE,
    clock: Callable[[], int] = current_microseconds,
) -> tuple[PipeSink, PipeSource]:
    """The two ends of a new pipe."""
    shared = _Pipe(first_seq, size_max, clock)
    return PipeSink(shared), PipeSource(shared)

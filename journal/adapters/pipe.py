"""Pipe: one thread appends events and another reads them, with a limit on the bytes in between."""

import threading
from collections import deque
from collections.abc import Callable, Container, Iterator

from journal._arguments import check_callable, check_int
from journal.adapters.endpoints import EVENT_OVERHEAD_SIZE, check_frame
from journal.adapters.protocols import Adapter, check_selection, is_selected
from journal.errors import OptionError
from journal.format.frame import Frame
from journal.log.clock import current_microseconds

PIPE_SIZE = 1 << 20
"""Default limit of bytes in a pipe. One event always fits."""


class _Pipe:
    """State shared by the two ends."""

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
        """Wait for space, then add an event."""
        size = len(payload) + EVENT_OVERHEAD_SIZE
        with self.changed:
            self.changed.wait_for(lambda: self._can_put(size))
            if self.is_reader_closed:
                raise OptionError("the reading end of this pipe is closed")
            if self.is_writer_closed:
                raise OptionError("the writing end of this pipe is closed")
            seq, self.time = self.next_seq, self.clock()
            self.frames.append(Frame(seq, tag, payload, self.time, 0))
            self.next_seq += 1
            self.size += size
            self.changed.notify_all()
            return seq

    def take(self) -> Frame | None:
        """Wait for the next event and return it, or None at the end."""
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
        """Close one end and wake the thread that waits at the other."""
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
    """Writing end of a pipe. Waits while the pipe is full.

    After the other end is closed, ``append`` raises OptionError.
    """

    def __init__(self, shared: _Pipe) -> None:
        self._pipe = shared

    @property
    def next_seq(self) -> int:
        """Sequence number of the next event."""
        return self._pipe.next_seq

    @property
    def time(self) -> int:
        """Time of the last event in µs since the epoch."""
        return self._pipe.time

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Wait for space, add an event, and return its sequence number."""
        return self._pipe.put(*check_frame(tag, payload))

    def flush(self) -> None:
        """Do nothing: events in the pipe are readable immediately."""

    def sync(self) -> None:
        """Do nothing: a pipe is in memory, and none of it is durable."""

    def close(self) -> None:
        """End writing. The reader ends after the remaining events."""
        self._pipe.close(writing=True)


class PipeSource(Adapter):
    """Reading end of a pipe. Waits for events, and yields each of them once."""

    def __init__(self, shared: _Pipe) -> None:
        self._pipe = shared

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Remove events as they arrive, and yield the selected ones."""
        check_selection(start, stop, tags)
        return self._frames(start, stop, tags)

    def _frames(self, start: int, stop: int | None, tags: Container[int] | None) -> Iterator[Frame]:
        while stop is None or start < stop:
            frame = self._pipe.take()
            if frame is None:
                return
            if is_selected(frame, start, stop, tags):
                yield frame
            if stop is not None and frame.seq + 1 >= stop:
                return

    def close(self) -> None:
        """End reading. The writer's next append raises."""
        self._pipe.close(writing=False)


def pipe(
    first_seq: int = 0,
    *,
    size_max: int = PIPE_SIZE,
    clock: Callable[[], int] = current_microseconds,
) -> tuple[PipeSink, PipeSource]:
    """Return the two ends of a new pipe."""
    check_int("first_seq", first_seq)
    check_int("size_max", size_max)
    check_callable("clock", clock)
    shared = _Pipe(first_seq, size_max, clock)
    return PipeSink(shared), PipeSource(shared)

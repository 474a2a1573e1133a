"""What all shapes have in common: what a sink is, what a source is, and passing things on."""

import time
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from journal.events.codec import encode
from journal.events.definition import Event
from journal.format.frame import Frame


class Sink(Protocol):
    """Takes events, and numbers them: ``Writer`` is one."""

    @property
    def next_seq(self) -> int:
        """The number that the next event will get."""

    @property
    def time(self) -> int:
        """The time of the last event, µs since the epoch."""

    def append(self, event: Event) -> int:
        """Take an event; give its number."""

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Take an event that is encoded already; give its number."""

    def flush(self) -> None:
        """Let everybody who reads see what was taken."""

    def sync(self) -> None:
        """Make durable what was taken, where something is to be durable."""

    def close(self) -> None:
        """Take no more."""


class Source(Protocol):
    """Gives frames: ``Reader`` is one."""

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Give the frames numbered ``start`` up to ``stop``, of any of ``tags``, in order."""

    def close(self) -> None:
        """Give no more."""


class Adapter:
    """What a shape is by itself: a context manager that closes it, and encodes for a sink."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, event: Event) -> int:
        """Take an event; give its number."""
        return self.append_frame(event.tag, encode(event))

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Take an event that is encoded already; give its number."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""


class ForwardingSink(Adapter):
    """A sink in front of another, ``inner``, that passes everything on.

    Leaving its block leaves that of ``inner``: a writer is closed, a transaction committed.
    """

    def __init__(self, inner: Sink) -> None:
        self.inner = inner

    def __enter__(self) -> Self:
        if isinstance(self.inner, AbstractContextManager):
            self.inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.finish()
        except BaseException as failure:
            self._leave(type(failure), failure, failure.__traceback__)
            raise
        self._leave(kind, error, trace)

    def _leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(self.inner, AbstractContextManager):
            self.inner.__exit__(kind, error, trace)
        else:
            self.inner.close()

    def finish(self) -> object:
        """Pass on what is left to be passed on, as before ``inner`` is closed: here nothing."""

    @property
    def next_seq(self) -> int:
        """The number that the next event will get."""
        return self.inner.next_seq

    @property
    def time(self) -> int:
        """The time of the last event, µs since the epoch."""
        return self.inner.time

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Take an event that is encoded already; give its number."""
        return self.inner.append_frame(tag, payload)

    def flush(self) -> None:
        """Let everybody who reads see what was taken."""
        self.inner.flush()

    def sync(self) -> None:
        """Make durable what was taken."""
        self.inner.sync()

    def close(self) -> None:
        """Pass on what is left, and close what it is passed on to."""
        try:
            self.finish()
        finally:
            self.inner.close()


def copy(source: Source, sink: Sink) -> int:
    """Append all events of ``source`` to ``sink``, which numbers them anew; give how many."""
    count = 0
    for frame in source.frames():
        sink.append_frame(frame.tag, frame.payload)
        count += 1
    return count


def is_selected(frame: Frame, start: int, stop: int | None, tags: Container[int] | None) -> bool:
    """Whether a frame is among those that ``frames`` was asked for."""
    return (
        frame.seq >= start
        and (stop is None or frame.seq < stop)
        and (tags is None or frame.tag in tags)
    )


def current_microseconds() -> int:
    """The system's time, µs since the epoch."""
    return time.time_ns() // 1000

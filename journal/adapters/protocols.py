"""Sink and Source protocols, and base classes of the adapters."""

from collections.abc import Container, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from journal._arguments import check_int, check_methods, check_optional, check_tags, check_type
from journal.errors import OptionError
from journal.events.codec import encode
from journal.events.definition import Event
from journal.format.frame import Frame


class Sink(Protocol):
    """Receiver that accepts events and numbers them, as ``Writer`` does."""

    @property
    def next_seq(self) -> int:
        """Sequence number of the next event."""

    @property
    def time(self) -> int:
        """Time of the last event in µs since the epoch."""

    def append(self, event: Event) -> int:
        """Append an event and return its sequence number."""

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Append an encoded event and return its sequence number."""

    def flush(self) -> None:
        """Make all events visible to readers."""

    def sync(self) -> None:
        """Make all events durable, if the sink can."""

    def close(self) -> None:
        """Close the sink. It accepts no more events."""


class Source(Protocol):
    """Origin of frames, as ``Reader`` is."""

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Yield the frames from ``start`` to below ``stop`` with one of ``tags``, in order."""

    def close(self) -> None:
        """Close the source. It yields no more frames."""


class Adapter:
    """Base class of adapters: a context manager that closes itself, and encodes events."""

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
        """Append an event and return its sequence number."""
        payload = encode(check_type("event", event, Event))
        return self.append_frame(event.tag, payload)

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Append an encoded event and return its sequence number."""
        raise OptionError(f"a {type(self).__name__} is only read: it accepts no events")

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class ForwardingSink(Adapter):
    """Sink that forwards everything to another sink, ``inner``.

    The end of its ``with`` block also ends that of ``inner``: a writer is closed, a transaction
    committed. In a forked child, to which ``inner`` does not belong, the end changes nothing.
    """

    def __init__(self, inner: Sink) -> None:
        self.inner = check_sink("inner", inner)

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
            if not self.is_inherited:
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

    @property
    def is_inherited(self) -> bool:
        """Whether this process was forked from the one to which ``inner`` belongs."""
        return bool(getattr(self.inner, "is_inherited", False))

    def check_process(self) -> None:
        """Raise WrongProcess in a forked child. A sink that holds events back calls this."""
        if self.is_inherited:
            self.inner.flush()  # Raises WrongProcess.

    def finish(self) -> object:
        """Forward remaining events before ``inner`` is closed. The base class has none."""

    @property
    def next_seq(self) -> int:
        """Sequence number of the next event."""
        return self.inner.next_seq

    @property
    def time(self) -> int:
        """Time of the last event in µs since the epoch."""
        return self.inner.time

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Append an encoded event and return its sequence number."""
        return self.inner.append_frame(tag, payload)

    def flush(self) -> None:
        """Make all events visible to readers."""
        self.inner.flush()

    def sync(self) -> None:
        """Make all events durable."""
        self.inner.sync()

    def close(self) -> None:
        """Forward remaining events, and close ``inner``."""
        try:
            if not self.is_inherited:
                self.finish()
        finally:
            self.inner.close()


def copy(source: Source, sink: Sink) -> int:
    """Append all events of ``source`` to ``sink``, which renumbers them, and return their count."""
    check_source("source", source)
    check_sink("sink", sink)
    count = 0
    for frame in source.frames():
        sink.append_frame(frame.tag, frame.payload)
        count += 1
    return count


def check_sink(name: str, sink: Sink) -> Sink:
    """Return an object with the methods of a sink."""
    check_methods(name, sink, "append_frame", "flush", "sync", "close")
    return sink


def check_source(name: str, source: Source) -> Source:
    """Return an object with the methods of a source."""
    check_methods(name, source, "frames", "close")
    return source


def check_selection(start: int, stop: int | None, tags: Container[int] | None) -> None:
    """Check the arguments of ``frames``."""
    check_int("start", start)
    check_optional("stop", stop, check_int)
    check_optional("tags", tags, check_tags)


def is_selected(frame: Frame, start: int, stop: int | None, tags: Container[int] | None) -> bool:
    """Return whether a frame is selected by these arguments of ``frames``."""
    return (
        frame.seq >= start
        and (stop is None or frame.seq < stop)
        and (tags is None or frame.tag in tags)
    )

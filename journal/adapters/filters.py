"""Sinks and sources that count, print or filter the events that they forward."""

from collections import Counter
from collections.abc import Callable, Container, Iterator

from journal._arguments import check_callable, check_tags
from journal.adapters.endpoints import check_frame
from journal.adapters.protocols import (
    Adapter,
    ForwardingSink,
    Sink,
    Source,
    check_selection,
    check_source,
    is_selected,
)
from journal.errors import MalformedEvent, UnknownEvent
from journal.events.codec import decode
from journal.format.frame import Frame

EventPredicate = Callable[[int, bytes], bool]
"""Function that returns, by tag and payload, whether to keep an event."""


class CountingSink(ForwardingSink):
    """Sink that counts, by tag, the events and payload bytes that ``inner`` accepted."""

    def __init__(self, inner: Sink) -> None:
        super().__init__(inner)
        self.events_of: Counter[int] = Counter()
        self.size_of: Counter[int] = Counter()

    @property
    def events(self) -> int:
        """Number of forwarded events."""
        return self.events_of.total()

    @property
    def size(self) -> int:
        """Number of forwarded payload bytes."""
        return self.size_of.total()

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Forward an event, and count it if ``inner`` accepts it."""
        seq = self.inner.append_frame(tag, payload)
        self.events_of[tag] += 1
        self.size_of[tag] += len(payload)
        return seq


class PrintingSink(ForwardingSink):
    """Sink that calls ``write_line``, such as ``print``, for each event that ``inner`` accepted."""

    def __init__(self, inner: Sink, write_line: Callable[[str], object]) -> None:
        super().__init__(inner)
        self._write_line = check_callable("write_line", write_line)

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Forward an event, and print it if ``inner`` accepts it."""
        seq = self.inner.append_frame(tag, payload)
        self._write_line(f"{seq}  {describe_event(tag, payload)}")
        return seq


class FilteredSink(ForwardingSink):
    """Sink that forwards only events that ``keep``, a predicate or a set of tags, accepts.

    A dropped event has no sequence number: ``append`` returns the number of the next kept event.
    """

    def __init__(self, inner: Sink, keep: EventPredicate | Container[int]) -> None:
        super().__init__(inner)
        self._keep = _as_predicate(keep)

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Forward or drop an event."""
        tag, payload = check_frame(tag, payload)
        if self._keep(tag, payload):
            return self.inner.append_frame(tag, payload)
        return self.inner.next_seq


class FilteredSource(Adapter):
    """Source of the frames of ``inner`` that ``keep`` accepts, with their sequence numbers."""

    def __init__(self, inner: Source, keep: EventPredicate | Container[int]) -> None:
        self.inner = check_source("inner", inner)
        self._keep = _as_predicate(keep)

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Yield the selected frames that ``keep`` accepts."""
        check_selection(start, stop, tags)
        return self._frames(start, stop, tags)

    def _frames(self, start: int, stop: int | None, tags: Container[int] | None) -> Iterator[Frame]:
        for frame in self.inner.frames(start, stop=stop, tags=tags):
            if self._keep(frame.tag, frame.payload) and is_selected(frame, start, stop, tags):
                yield frame

    def close(self) -> None:
        """Close ``inner``."""
        self.inner.close()


def describe_event(tag: int, payload: bytes) -> str:
    """Return a one-line description of an event, valid or not."""
    try:
        return repr(decode(tag, payload))
    except (UnknownEvent, MalformedEvent):
        return f"an event of tag {tag} and {len(payload)} bytes"


def _as_predicate(keep: EventPredicate | Container[int]) -> EventPredicate:
    if callable(keep):
        return keep
    tags = check_tags("keep", keep)
    return lambda tag, _: tag in tags

"""Shapes in front of others: they count, print or hold back what passes through them."""

from collections import Counter
from collections.abc import Callable, Container, Iterator

from journal.adapters.protocols import Adapter, ForwardingSink, Sink, Source, is_selected
from journal.errors import MalformedEvent, UnknownEvent
from journal.events.codec import decode
from journal.format.frame import Frame

EventPredicate = Callable[[int, bytes], bool]
"""Whether to keep an event, by its tag and payload."""


class CountingSink(ForwardingSink):
    """Counts events and bytes of payloads, by tag, of what ``inner`` took."""

    def __init__(self, inner: Sink) -> None:
        super().__init__(inner)
        self.events_of: Counter[int] = Counter()
        self.size_of: Counter[int] = Counter()

    @property
    def events(self) -> int:
        """How many events passed."""
        return self.events_of.total()

    @property
    def size(self) -> int:
        """How many bytes of payloads passed."""
        return self.size_of.total()

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Pass an event on, and count it when it was taken."""
        seq = self.inner.append_frame(tag, payload)
        self.events_of[tag] += 1
        self.size_of[tag] += len(payload)
        return seq


class PrintingSink(ForwardingSink):
    """Tells ``say``, such as ``print``, a line for each event that ``inner`` took."""

    def __init__(self, inner: Sink, write_line: Callable[[str], object]) -> None:
        super().__init__(inner)
        self._write_line = write_line

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Pass an event on, and tell of it when it was taken."""
        seq = self.inner.append_frame(tag, payload)
        self._write_line(f"{seq}  {describe_event(tag, payload)}")
        return seq


class FilteredSink(ForwardingSink):
    """Passes on those events alone that ``keep`` says yes to, or whose tags it holds.

    What is dropped has no number: ``append`` gives the number of the next event that is kept.
    """

    def __init__(self, inner: Sink, keep: EventPredicate | Container[int]) -> None:
        super().__init__(inner)
        self._keep = _as_predicate(keep)

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Pass an event on, or drop it."""
        if self._keep(tag, payload):
            return self.inner.append_frame(tag, payload)
        return self.inner.next_seq


class FilteredSource(Adapter):
    """Gives those frames of ``inner`` alone that ``keep`` says yes to; they keep their numbers."""

    def __init__(self, inner: Source, keep: EventPredicate | Container[int]) -> None:
        self.inner = inner
        self._keep = _as_predicate(keep)

    def frames(
        self, start: int = 0, *, stop: int | None = None, tags: Container[int] | None = None
    ) -> Iterator[Frame]:
        """Give what is kept of the frames that are asked for."""
        for frame in self.inner.frames(start, stop=stop, tags=tags):
            if self._keep(frame.tag, frame.payload) and is_selected(frame, start, stop, tags):
                yield frame

    def close(self) -> None:
        """Close what it reads."""
        self.inner.close()


def describe_event(tag: int, payload: bytes) -> str:
    """An event on one line, whatever its bytes are."""
    try:
        return repr(decode(tag, payload))
    except (UnknownEvent, MalformedEvent):
        return f"an event of tag {tag} and {len(payload)} bytes"


def _as_predicate(keep: EventPredicate | Container[int]) -> EventPredicate:
    if callable(keep):
        return keep
    tags = keep
    return lambda tag, _: tag in tags

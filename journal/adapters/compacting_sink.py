"""Sink that compacts events in windows before it forwards them."""

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, runtime_checkable

from journal._arguments import check_callable, check_int, check_optional
from journal.adapters.endpoints import EVENT_OVERHEAD_SIZE, check_frame
from journal.adapters.protocols import ForwardingSink, Sink, Source, check_source
from journal.compaction.output import OutputRow
from journal.compaction.streaming import StreamCompactor, pack_rows
from journal.errors import LimitExceeded, OptionError
from journal.format.block import BLOCK_COUNT_MAX, TIME_SPAN_MAX, Block, make_compressor
from journal.format.frame import PAYLOAD_SIZE_MAX
from journal.fs.open_resources import OPEN_RESOURCES, close_unclosed
from journal.log.clock import current_microseconds

WINDOW_EVENTS_MAX = BLOCK_COUNT_MAX - 1
"""Maximum number of events in a window."""
WINDOW_SIZE_MAX = PAYLOAD_SIZE_MAX
"""Maximum bytes in a window, including ``EVENT_OVERHEAD_SIZE`` for each event."""
WINDOW_EVENTS = 1 << 14
WINDOW_SIZE = 1 << 22
"""Default limits of a window. One event always fits."""


@runtime_checkable
class BlockSink(Protocol):
    """A sink that accepts events with their sequence numbers, such as ``Writer``."""

    def append_block(self, source: Block) -> None:
        """Append the events of a block."""


class CompactingSink(ForwardingSink):
    """Sink that holds events back, and forwards only the live ones.

    Events are held until ``flush``, ``sync`` or ``close``, or until there are ``events_max`` of
    them or ``size_max`` bytes. The window is then compacted: the events forwarded to ``inner``
    replay to the same state as all events, at the end and at every snapshot. Superseded events of
    files, descriptors and sockets are dropped, and so are earlier events of a kind of which only
    the latest counts. Snapshots with all their parts, inputs, unknown kinds and all other events
    are forwarded unchanged. In a journal that records how its guest ran, only events before the
    last resumable snapshot of a window are dropped, because a resumed guest may execute everything
    after that snapshot again.

    If ``inner`` is a BlockSink, as a ``Writer`` is, events keep the sequence numbers that
    ``append`` returned and their times, and dropped events leave gaps. Each window is one block, so
    a crash leaves all of the window or nothing. The number of an event dropped after the last
    forwarded event is used again when another writer resumes. Any other ``inner`` assigns new
    numbers and times; the states are then equal except for numbers and times, since files are
    numbered by the events that create them. ``append`` then returns the number that the event gets
    if nothing is dropped, and a journal that records how its guest ran is forwarded whole.

    ``inner`` should be empty; otherwise ``before`` must yield its events. If the state cannot be
    analysed, everything is forwarded, and ``reason`` states why. ``dropped`` counts dropped events.
    Time and memory of the analysis grow with the number of files; if there are too many for the few
    events of a window, the window is forwarded whole.
    """

    def __init__(
        self,
        inner: Sink,
        *,
        events_max: int = WINDOW_EVENTS,
        size_max: int = WINDOW_SIZE,
        before: Source | None = None,
        clock: Callable[[], int] = current_microseconds,
    ) -> None:
        check_int("events_max", events_max, 1, WINDOW_EVENTS_MAX)
        check_int("size_max", size_max, 1, WINDOW_SIZE_MAX)
        check_optional("before", before, check_source)
        super().__init__(inner)
        self.dropped = 0
        self._is_closed = False
        self._events_max, self._size_max = events_max, size_max
        self._clock = check_callable("clock", clock)
        self._blocks = inner if isinstance(inner, BlockSink) else None
        self._compressor = make_compressor()
        self._windows = StreamCompactor(keeps_seqs=self._blocks is not None)
        self._held: list[OutputRow] = []
        self._size = 0
        self._outgoing: deque[OutputRow] = deque()
        self._next_seq, self._time = inner.next_seq, inner.time
        if before is not None:
            self._analyse_before(before)
        elif inner.next_seq:
            self._windows.stop_compacting("the earlier events of the journal were not given")
        OPEN_RESOURCES.close_at_exit(self)

    @property
    def reason(self) -> str:
        """Reason why everything is forwarded; empty if events are dropped."""
        return self._windows.reason

    @property
    def next_seq(self) -> int:
        """Sequence number of the next event, if it is not dropped."""
        if self._blocks is not None:
            return self._next_seq
        return self.inner.next_seq + len(self._outgoing) + len(self._held)

    @property
    def time(self) -> int:
        """Time of the last event in µs since the epoch."""
        return self._time

    def __len__(self) -> int:
        """Return the number of events held back."""
        return len(self._outgoing) + len(self._held)

    def __del__(self) -> None:
        # Without ``_time`` the constructor has failed.
        if hasattr(self, "_time") and len(self) and not self.is_inherited:
            path = getattr(self.inner, "path", type(self.inner).__name__)
            close_unclosed(self, f"the sink that compacts events for {path}")

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Hold an event back, and return its sequence number, valid if the event is not dropped."""
        self.check_process()
        if self._is_closed:
            raise OptionError("this sink is closed")
        tag, payload = check_frame(tag, payload)
        if len(payload) > PAYLOAD_SIZE_MAX:
            reason = f"payload must be at most {PAYLOAD_SIZE_MAX} bytes, got {len(payload)}"
            raise LimitExceeded(reason)
        time, size = self._clock(), len(payload) + EVENT_OVERHEAD_SIZE
        if self._held and (
            len(self._held) >= self._events_max
            or self._size + size > self._size_max
            or not self._held[-1].time <= time <= self._held[0].time + TIME_SPAN_MAX
        ):
            self.finish()
        seq = self.next_seq
        self._held.append(OutputRow(self._next_seq, tag, payload, time))
        self._next_seq += 1
        self._size += size
        self._time = time
        if len(self._held) >= self._events_max:
            self.finish()
        return seq

    def flush(self) -> None:
        """Forward the live events held back, and flush ``inner``."""
        self.finish()
        self.inner.flush()

    def sync(self) -> None:
        """Forward the live events held back, and make them durable."""
        self.finish()
        self.inner.sync()

    def close(self) -> None:
        """Forward the live events held back, and close ``inner``."""
        super().close()
        self._is_closed = True

    def _leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super()._leave(kind, error, trace)
        self._is_closed = True

    def _analyse_before(self, before: Source) -> None:
        """Analyse the events already in ``inner``, one window at a time."""
        rows: list[OutputRow] = []
        size = 0
        for frame in before.frames():
            size += len(frame.payload) + EVENT_OVERHEAD_SIZE
            full = len(rows) >= self._events_max or size > self._size_max
            fits = not rows or rows[-1].time <= frame.time <= rows[0].time + TIME_SPAN_MAX
            if rows and (full or not fits):
                self._windows.add_unchanged(rows)
                rows, size = [], len(frame.payload) + EVENT_OVERHEAD_SIZE
            rows.append(OutputRow(frame.seq, frame.tag, frame.payload, frame.time))
        self._windows.add_unchanged(rows)
        self._next_seq = max(self._next_seq, rows[-1].seq + 1) if rows else self._next_seq

    def finish(self) -> None:
        """Compact the events held back and forward the live ones.

        Events that ``inner`` rejects remain held back.
        """
        self.check_process()
        self._send_outgoing()
        if not self._held:
            return
        live = self._windows.compact_window(self._held)
        self.dropped += len(self._held) - len(live)
        self._outgoing.extend(live)
        self._held, self._size = [], 0
        self._send_outgoing()

    def _send_outgoing(self) -> None:
        outgoing = self._outgoing
        if outgoing and self._blocks is not None:
            self._blocks.append_block(pack_rows(outgoing, self._compressor))
            outgoing.clear()
        while outgoing:
            self.inner.append_frame(outgoing[0].tag, outgoing[0].payload)
            outgoing.popleft()

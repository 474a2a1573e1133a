"""A journal that is compacted while it is written: windows of it, before they are passed on."""

from collections import deque
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from journal.adapters.endpoints import EVENT_OVERHEAD_SIZE, check_tag
from journal.adapters.protocols import ForwardingSink, Sink, Source, current_microseconds
from journal.compaction.output import OutputRow
from journal.compaction.streaming import StreamCompactor, pack_rows
from journal.errors import LimitExceeded, OptionError
from journal.format.block import BLOCK_COUNT_MAX, TIME_SPAN_MAX, Block, make_compressor
from journal.format.frame import PAYLOAD_SIZE_MAX

WINDOW_EVENTS_MAX = BLOCK_COUNT_MAX - 1
"""Events of a window, at most."""
WINDOW_SIZE_MAX = PAYLOAD_SIZE_MAX
"""Bytes of a window, at most, each event's own ``EVENT_OVERHEAD_SIZE`` among them."""
WINDOW_EVENTS = 1 << 14
WINDOW_SIZE = 1 << 22
"""What a window has unless somebody says otherwise; one event always fits."""


@runtime_checkable
class BlockSink(Protocol):
    """A sink that takes events with their numbers: ``Writer`` is one."""

    def append_block(self, source: Block) -> None:
        """Take the events of a block."""


class CompactingSink(ForwardingSink):
    """Holds events back, and passes on those of them that the state is made of.

    They are held until ``flush``, ``sync`` or ``close``, or until there are ``events_max``, or
    ``size_max`` bytes. Then the window is judged as a compaction does: with what is passed on,
    ``inner`` plays to the state that all events lead to, there and at every snapshot. Of files,
    descriptors and sockets, and of what only the latest counts of, events go. Snapshots with all
    that they are made of, inputs, unknown kinds, and all else are passed on as they are. Of a
    journal that says what ran, that is all but what stands in front of the last snapshot of a
    window that a guest can go on from: a guest may have to be executed by anything behind it.

    Where ``inner`` takes blocks, as a ``Writer`` does, events keep the numbers that ``append`` gave
    and the times when they came; what goes leaves a hole. Each window is one block: a crash leaves
    all of it or nothing. The number of what went behind all that stays is given again when somebody
    else goes on. Any other ``inner`` numbers anew, at other times, and the states are equal but for
    numbers and times: files are numbered by the events that make them. ``append`` then gives the
    number that the event has if nothing goes, and a journal that says what ran is passed on whole.

    ``inner`` should be empty; else ``before`` has to give what is in it. Where it is not known what
    the state is made of, everything is passed on, and ``reason`` says why; ``dropped`` counts the
    events that went. Judging takes time and memory by the number of files: where there are many for
    the few events of a window, that is passed on whole.
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
        if not 0 < events_max <= WINDOW_EVENTS_MAX:
            raise OptionError(f"a window has 1 to {WINDOW_EVENTS_MAX} events, not {events_max}")
        if not 0 < size_max <= WINDOW_SIZE_MAX:
            raise OptionError(f"a window has 1 to {WINDOW_SIZE_MAX} bytes, not {size_max}")
        super().__init__(inner)
        self.dropped = 0
        self._events_max, self._size_max = events_max, size_max
        self._clock = clock
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
            self._windows.stop_compacting("nobody says what there was before")

    @property
    def reason(self) -> str:
        """Why everything is passed on; empty where it is not."""
        return self._windows.reason

    @property
    def next_seq(self) -> int:
        """The number that the next event will get, if it stays."""
        if self._blocks is not None:
            return self._next_seq
        return self.inner.next_seq + len(self._outgoing) + len(self._held)

    @property
    def time(self) -> int:
        """The time of the last event, µs since the epoch."""
        return max(self._time, self.inner.time)

    def __len__(self) -> int:
        """How many events are held back."""
        return len(self._outgoing) + len(self._held)

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Hold an event back; give the number that it has if it stays."""
        check_tag(tag)
        if len(payload) > PAYLOAD_SIZE_MAX:
            raise LimitExceeded(f"a payload of {len(payload)} bytes cannot be written")
        time, size = max(self.time, self._clock()), len(payload) + EVENT_OVERHEAD_SIZE
        if self._held and (
            len(self._held) >= self._events_max
            or self._size + size > self._size_max
            or time - self._held[0].time > TIME_SPAN_MAX
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
        """Pass on what is held back, and let everybody who reads see it."""
        self.finish()
        self.inner.flush()

    def sync(self) -> None:
        """Pass on what is held back, and make it durable."""
        self.finish()
        self.inner.sync()

    def _analyse_before(self, before: Source) -> None:
        """Play what there was before, a window at a time."""
        rows: list[OutputRow] = []
        size = 0
        for frame in before.frames():
            size += len(frame.payload) + EVENT_OVERHEAD_SIZE
            full = len(rows) >= self._events_max or size > self._size_max
            if rows and (full or not 0 <= frame.time - rows[0].time <= TIME_SPAN_MAX):
                self._windows.add_unchanged(rows)
                rows, size = [], len(frame.payload) + EVENT_OVERHEAD_SIZE
            rows.append(OutputRow(frame.seq, frame.tag, frame.payload, frame.time))
        self._windows.add_unchanged(rows)
        self._next_seq = max(self._next_seq, rows[-1].seq + 1) if rows else self._next_seq

    def finish(self) -> None:
        """Sift what is held back, and pass on what stays of it; what is refused is still held."""
        self._send_outgoing()
        if not self._held:
            return
        stay = self._windows.compact_window(self._held)
        self.dropped += len(self._held) - len(stay)
        self._outgoing.extend(stay)
        self._held, self._size = [], 0
        self._send_outgoing()

    def _send_outgoing(self) -> None:
        going = self._outgoing
        if going and self._blocks is not None:
            self._blocks.append_block(pack_rows(going, self._compressor))
            going.clear()
        while going:
            self.inner.append_frame(going[0].tag, going[0].payload)
            going.popleft()

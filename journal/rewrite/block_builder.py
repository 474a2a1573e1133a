"""Builders of blocks from events with given sequence numbers and times."""

from collections.abc import Callable, Sequence

from journal.errors import LimitExceeded, OptionError
from journal.format import block
from journal.format.block import BLOCK_SIZE_TARGET, TIME_SPAN_MAX, Block, Frames, build_block
from journal.format.columns import COLUMNS_SIZE_PER_EVENT, COLUMNS_SIZE_PER_EVENT_MAX, pick
from journal.format.frame import PAYLOAD_SIZE_MAX, TAG_MAX, TAG_MIN
from journal.log.tail_recovery import SEQ_LAST
from journal.log.writer import Writer

TIME_MAX = (1 << 63) - 1
_SEQ_SPAN_MAX = (1 << 32) - 1
"""Largest difference of sequence numbers in one block."""
_COUNT_MAX = 1 << 14
"""Maximum number of events in a new block."""

PayloadChange = Callable[[int, bytes], bytes]
"""Maps an event's tag and payload to its new payload."""


class BlockBuilder:
    """Builder that collects single frames into blocks for ``writer``. ``flush`` writes the last."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self._compressor = block.make_compressor()
        self._begin()

    @property
    def next_seq(self) -> int:
        """Lowest sequence number that the next frame may have."""
        return self._seqs[-1] + 1 if self._seqs else self.writer.next_seq

    def add(self, seq: int, tag: int, payload: bytes, time: int) -> None:
        """Add a frame. A gap in the sequence numbers is recorded as intended.

        Raises OptionError or LimitExceeded for values that no journal can contain.
        """
        self._check(seq, tag, payload, time)
        if self._seqs and not self._fits(seq, time):
            self.flush()
        self._seqs.append(seq)
        self._tags.append(tag)
        self._payloads.append(payload)
        self._times.append(time)
        self._space -= len(payload) + COLUMNS_SIZE_PER_EVENT_MAX
        if self._space <= 0:
            self.flush()

    def flush(self) -> None:
        """Write the collected frames."""
        if not self._seqs:
            return
        frames = Frames(bytes(self._tags), self._payloads, self._times)
        new_block = build_block(frames, self._seqs, self._compressor)
        self._begin()
        self.writer.append_block(new_block)

    def _begin(self) -> None:
        self._seqs: list[int] = []
        self._tags = bytearray()
        self._payloads: list[bytes] = []
        self._times: list[int] = []
        self._space = BLOCK_SIZE_TARGET

    def _fits(self, seq: int, time: int) -> bool:
        """Return whether the pending block can take the frame: times in a block never decrease."""
        is_near = seq - self._seqs[0] <= _SEQ_SPAN_MAX
        return is_near and self._times[-1] <= time <= self._times[0] + TIME_SPAN_MAX

    def _check(self, seq: int, tag: int, payload: bytes, time: int) -> None:
        if not TAG_MIN <= tag <= TAG_MAX:
            raise OptionError(f"event tag must be {TAG_MIN} to {TAG_MAX}, got {tag}")
        if not self.next_seq <= seq:
            raise OptionError(f"sequence number must be at least {self.next_seq}, got {seq}")
        if seq > SEQ_LAST:
            raise LimitExceeded(f"sequence number must be at most {SEQ_LAST}, got {seq}")
        if not 0 <= time <= TIME_MAX:
            raise LimitExceeded(f"time of event {seq} must be 0 to {TIME_MAX}, got {time}")
        if len(payload) > PAYLOAD_SIZE_MAX:
            size = len(payload)
            reason = f"payload of event {seq} must be at most {PAYLOAD_SIZE_MAX} bytes, got {size}"
            raise LimitExceeded(reason)


class BlockMerger:
    """Merger that passes blocks through, and collects single events into new blocks.

    The merger calls ``write(block, is_unchanged)`` in sequence order.
    """

    def __init__(self, write: Callable[[Block, bool], None]) -> None:
        self._write = write
        self._compressor = block.make_compressor()
        self._begin()

    def _begin(self) -> None:
        self._seqs: list[int] = []
        self._times: list[int] = []
        self._payloads: list[bytes] = []
        self._tags = bytearray()
        self._size = 0

    def add_block(self, source: Block) -> None:
        """Pass a whole block through."""
        self.flush()
        self._write(source, True)

    def add_events(
        self, source: Block, indices: Sequence[int], change: PayloadChange | None = None
    ) -> None:
        """Add the events of a block at ``indices``, with payloads changed by ``change``."""
        if not indices:
            return
        seqs, times = source.seqs_at(indices), source.times_at(indices)
        if not self._fits(seqs, times):
            self.flush()
        payloads, tags = source.payloads(indices), bytes(pick(source.tags, indices))
        if change is not None:
            payloads = list(map(change, tags, payloads))
        self._seqs += seqs
        self._times += times
        self._payloads += payloads
        self._tags += tags
        self._size += sum(map(len, payloads)) + COLUMNS_SIZE_PER_EVENT * len(payloads)
        if self._size >= BLOCK_SIZE_TARGET or len(self._seqs) >= _COUNT_MAX:
            self.flush()

    def flush(self) -> None:
        """Write the collected events."""
        if not self._seqs:
            return
        frames = Frames(self._tags, self._payloads, self._times)
        new_block = build_block(frames, self._seqs, self._compressor)
        self._begin()
        self._write(new_block, False)

    def _fits(self, seqs: Sequence[int], times: Sequence[int]) -> bool:
        """Return whether the pending block can take the events: times in a block never decrease."""
        if not self._seqs:
            return True
        is_near = seqs[-1] - self._seqs[0] <= _SEQ_SPAN_MAX
        return (
            is_near and self._times[-1] <= times[0] and times[-1] - self._times[0] <= TIME_SPAN_MAX
        )

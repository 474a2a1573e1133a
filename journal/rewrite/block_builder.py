"""Frames whose numbers and times are given, gathered into blocks."""

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
"""How far the numbers of one block reach."""
_COUNT_MAX = 1 << 14
"""Events that are gathered for one block, at most."""

PayloadChange = Callable[[int, bytes], bytes]
"""Gives the payload that takes the place of one, of an event of a tag."""


class BlockBuilder:
    """Adds frames to ``writer``, with their numbers and times; ``flush`` adds the last of them."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self._compressor = block.make_compressor()
        self._begin()

    @property
    def next_seq(self) -> int:
        """The number that the next frame must have, or one above it."""
        return self._seqs[-1] + 1 if self._seqs else self.writer.next_seq

    def add(self, seq: int, tag: int, payload: bytes, time: int) -> None:
        """Add a frame; where numbers are left out, readers know that it was on purpose.

        Raises OptionError and LimitExceeded for what no journal can have.
        """
        self._check(seq, tag, payload, time)
        if self._seqs and not self._fits(seq, time):
            self.flush()
        self._seqs.append(seq)
        self._tags.append(tag)
        self._payloads.append(payload)
        self._times.append(time)
        self._room -= len(payload) + COLUMNS_SIZE_PER_EVENT_MAX
        if self._room <= 0:
            self.flush()

    def flush(self) -> None:
        """Hand what was gathered to the writer."""
        if not self._seqs:
            return
        frames = Frames(bytes(self._tags), self._payloads, self._times)
        gathered = build_block(frames, self._seqs, self._compressor)
        self._begin()
        self.writer.append_block(gathered)

    def _begin(self) -> None:
        self._seqs: list[int] = []
        self._tags = bytearray()
        self._payloads: list[bytes] = []
        self._times: list[int] = []
        self._room = BLOCK_SIZE_TARGET

    def _fits(self, seq: int, time: int) -> bool:
        """Whether one block can have it with the others: its times never go back."""
        near = seq - self._seqs[0] <= _SEQ_SPAN_MAX
        return near and self._times[-1] <= time <= self._times[0] + TIME_SPAN_MAX

    def _check(self, seq: int, tag: int, payload: bytes, time: int) -> None:
        if not TAG_MIN <= tag <= TAG_MAX:
            raise OptionError(f"an event's tag is {TAG_MIN} to {TAG_MAX}, not {tag}")
        if not self.next_seq <= seq:
            raise OptionError(f"event {seq} comes too late: the next number is {self.next_seq}")
        if seq > SEQ_LAST:
            raise LimitExceeded(f"an event claims number {seq}")
        if not 0 <= time <= TIME_MAX:
            raise LimitExceeded(f"event {seq} claims the time {time}")
        if len(payload) > PAYLOAD_SIZE_MAX:
            raise LimitExceeded(f"event {seq} has a payload of {len(payload)} bytes")


class BlockMerger:
    """Blocks that stay as they are, and what stays of others in new ones; ``write`` gets each.

    It is told whether a block is one that stays as it is.
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
        """Let a block stay."""
        self.flush()
        self._write(source, True)

    def add_events(
        self, source: Block, places: Sequence[int], change: PayloadChange | None = None
    ) -> None:
        """Let some events of a block stay, with payloads that ``change`` makes of theirs."""
        if not places:
            return
        seqs, times = source.seqs_at(places), source.times_at(places)
        if not self._fits(seqs, times):
            self.flush()
        payloads, tags = source.payloads(places), bytes(pick(source.tags, places))
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
        """Write what has gathered."""
        if not self._seqs:
            return
        frames = Frames(self._tags, self._payloads, self._times)
        gathered = build_block(frames, self._seqs, self._compressor)
        self._begin()
        self._write(gathered, False)

    def _fits(self, seqs: Sequence[int], times: Sequence[int]) -> bool:
        """Whether one block can have them with the others: its times never go back."""
        if not self._seqs:
            return True
        near = seqs[-1] - self._seqs[0] <= _SEQ_SPAN_MAX
        return near and self._times[-1] <= times[0] and times[-1] - self._times[0] <= TIME_SPAN_MAX

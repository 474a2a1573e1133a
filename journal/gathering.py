"""Frames whose numbers and times are given, gathered into blocks of a writer."""

from journal import block, sealing
from journal.block import BLOCK_HEADER_SIZE, BLOCK_SIZE_TARGET, TIME_SPAN_MAX, Block, Frames
from journal.columns import COLUMNS_SIZE_EACH_MAX
from journal.errors import LimitExceeded, OptionError
from journal.frame import PAYLOAD_SIZE_MAX, TAG_MAX, TAG_MIN
from journal.header import Place
from journal.recovery import SEQ_LAST
from journal.writer import Writer

TIME_MAX = (1 << 63) - 1
_SPAN_MAX = (1 << 32) - 1
"""How far the numbers of one block reach."""


class Gatherer:
    """Adds frames to ``writer``, with their numbers and times; ``flush`` adds the last of them."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self._compressor = block.compressor()
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
        self._room -= len(payload) + COLUMNS_SIZE_EACH_MAX
        if self._room <= 0:
            self.flush()

    def flush(self) -> None:
        """Hand what was gathered to the writer."""
        if not self._seqs:
            return
        seqs, first = self._seqs, self._seqs[0]
        frames = Frames(bytes(self._tags), self._payloads, self._times)
        holes = seqs if seqs[-1] - first >= len(seqs) else None
        place = Place(0, first, 0, 0, 0, 0)
        data, header = sealing.encode(place, frames, self._compressor, holes)
        self._begin()
        self.writer.append_block(Block(header, data[BLOCK_HEADER_SIZE:], first, 0))

    def _begin(self) -> None:
        self._seqs: list[int] = []
        self._tags = bytearray()
        self._payloads: list[bytes] = []
        self._times: list[int] = []
        self._room = BLOCK_SIZE_TARGET

    def _fits(self, seq: int, time: int) -> bool:
        """Whether one block can have it with the others: its times never go back."""
        near = seq - self._seqs[0] <= _SPAN_MAX
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

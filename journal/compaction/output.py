"""Survivors into a new journal: blocks that stay whole as they are, the others packed anew."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, Self

from journal.compaction import event_classes as kinds
from journal.compaction.liveness.seq_bitset import Numbers
from journal.format import block_encoder as sealing
from journal.format.block import Block, build_block
from journal.format.block_header import BLOCK_COUNT_MAX, TIME_SPAN_MAX
from journal.format.columns import COLUMNS_SIZE_PER_EVENT_MAX, Frames, find_ones, read_u32

BLOCK_SIZE = 1 << 16
"""Survivors are gathered until a block has so many bytes; smaller whole blocks join others."""
_COUNT_MAX = BLOCK_COUNT_MAX - 1
_JOINED_SIZE_MAX = 1 << 13
_NUMBER_SPAN_MAX = (1 << 32) - 1


class Row(NamedTuple):
    """An event to be written: its number, and its time in µs since the epoch."""

    seq: int
    tag: int
    payload: bytes
    time: int


class Target(Protocol):
    """What takes blocks: a writer, or nobody."""

    def append_block(self, source: Block) -> None:
        """Take the events of a block."""

    def publish(self) -> None:
        """All is there."""


class Nobody:
    """Takes blocks, and keeps nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def append_block(self, source: Block) -> None:
        """Nothing happens."""

    def publish(self) -> None:
        """Nothing happens."""


class Tally:
    """Events and bytes of payloads, by tag."""

    def __init__(self) -> None:
        self.events: dict[int, int] = {}
        self.sizes: dict[int, int] = {}

    def add(self, tag: int, events: int, size: int) -> None:
        """Count some of one kind."""
        self.events[tag] = self.events.get(tag, 0) + events
        self.sizes[tag] = self.sizes.get(tag, 0) + size

    def add_block(self, block: Block) -> None:
        """Count the events of a block."""
        tags = set(block.tags)
        sizes = dict.fromkeys(tags, 0)
        if len(tags) == 1:
            sizes[block.tags[0]] = block.header.payload_raw_size
        else:
            start = 0
            for tag, end in zip(block.tags, _ends_of(block), strict=True):
                sizes[tag] += end - start
                start = end
        for tag, size in sizes.items():
            self.add(tag, block.tags.count(tag), size)


class Outflow:
    """Writes rows and blocks, in the order of their numbers, to ``target``."""

    def __init__(self, target: Target) -> None:
        self.tally = Tally()
        self._target = target
        self._compressor = sealing.make_compressor()
        self._seqs: list[int] = []
        self._tags: list[int] = []
        self._payloads: list[bytes] = []
        self._times: list[int] = []
        self._size = 0

    @property
    def time(self) -> int:
        """The time of the last row that waits to be written; 0 where none does."""
        return self._times[-1] if self._times else 0

    def put(self, row: Row) -> None:
        """Write an event."""
        self.tally.add(row.tag, 1, len(row.payload))
        self._put(row)

    def put_block(self, block: Block) -> None:
        """Write all events of a block."""
        self.tally.add_block(block)
        if block.size < _JOINED_SIZE_MAX and self._seqs:
            for (seq, tag, payload), time in zip(block.rows(), block.times, strict=True):
                self._put(Row(seq, tag, payload, time))
            return
        self.flush()
        self._target.append_block(block)

    def _put(self, row: Row) -> None:
        seq, tag, payload, time = row
        if self._seqs and (
            self._size >= BLOCK_SIZE
            or len(self._seqs) >= _COUNT_MAX
            or seq - self._seqs[0] > _NUMBER_SPAN_MAX
            or not self._times[-1] <= time <= self._times[0] + TIME_SPAN_MAX
        ):
            self.flush()
        self._seqs.append(seq)
        self._tags.append(tag)
        self._payloads.append(payload)
        self._times.append(time)
        self._size += len(payload) + COLUMNS_SIZE_PER_EVENT_MAX

    def flush(self) -> None:
        """Write what waits."""
        seqs = self._seqs
        if not seqs:
            return
        frames = Frames(self._tags, self._payloads, self._times)
        self._target.append_block(build_block(frames, seqs, self._compressor))
        self._seqs, self._tags, self._payloads, self._times = [], [], [], []
        self._size = 0


class Verdict:
    """Tells of each event of a block whether it is written as it is.

    ``kept`` are those that were judged to be; ``whole`` says from where to where snapshots are, of
    those with all that they are made of, ``marks`` are the numbers of all that stay. Behind
    ``upto`` everything is.
    """

    def __init__(
        self,
        kept: Numbers,
        upto: int,
        marks: Iterable[int],
        whole: Sequence[range] | None,
        *,
        inputs_go: bool,
        judges_staged: bool,
    ) -> None:
        self._kept, self._upto = kept, upto
        self._marks = frozenset(marks)
        self._whole = whole
        staged = _KEEP if whole is None else _LOOK
        table = bytearray([_KEEP]) * 256
        for tags, code in (
            (kinds.JUDGED, _ASK),
            (kinds.CONSUMED, _DROP if inputs_go else _KEEP),
            (kinds.REWRITTEN, _DROP),
            (kinds.STAGED, _ASK if judges_staged else staged),
            (kinds.MARKS, _LOOK),
        ):
            for tag in tags:
                table[tag] = code
        self._table = bytes(table)

    def flags(self, block: Block) -> bytes:
        """A byte for each event: 1 for one that is written."""
        if block.first_seq >= self._upto:
            return block.tags.translate(_BEHIND)
        codes = block.tags.translate(self._table)
        if block.last_seq >= self._upto:
            codes = self._cut(block, codes)
        if _ASK in codes:
            codes = self._asked(block, codes)
        if _LOOK in codes:
            codes = self._looked(block, codes)
        return codes

    def _cut(self, block: Block, codes: bytes) -> bytes:
        stop = sum(seq < self._upto for seq in block.seqs)
        return codes[:stop] + block.tags[stop:].translate(_BEHIND)

    def _asked(self, block: Block, codes: bytes) -> bytes:
        seqs = block.seqs
        if isinstance(seqs, range):
            flags = self._kept.flags(seqs[0], len(seqs))
        else:
            flags = bytes([seq in self._kept for seq in seqs])
        taken = _both(codes.translate(_IS[_ASK]), flags)
        rest = codes.translate(_WITHOUT_ASK)
        size = len(codes)
        either = int.from_bytes(taken, "little") | int.from_bytes(rest, "little")
        return either.to_bytes(size, "little")

    def _looked(self, block: Block, codes: bytes) -> bytes:
        found, seqs, tags = bytearray(codes), block.seqs, block.tags
        at = codes.find(_LOOK)
        while at >= 0:
            seq = seqs[at]
            if tags[at] in kinds.MARKS:
                found[at] = seq in self._marks
            else:
                found[at] = any(seq in part for part in self._whole or ())
            at = codes.find(_LOOK, at + 1)
        return bytes(found)


_DROP, _KEEP, _ASK, _LOOK = range(4)
_IS = [bytes(value == tag for value in range(256)) for tag in range(256)]
_WITHOUT_ASK = bytes(0 if value == _ASK else value for value in range(256))
_BEHIND = bytes(tag not in kinds.REWRITTEN for tag in range(256))


def _both(one: bytes, other: bytes) -> bytes:
    size = len(one)
    both = int.from_bytes(one, "little") & int.from_bytes(other, "little")
    return both.to_bytes(size, "little")


def _ends_of(block: Block) -> Sequence[int]:
    """Where each payload ends, without a look at any."""
    header, count = block.header, block.count
    if header.has_equal_sizes:
        size = header.payload_raw_size // count
        return range(size, header.payload_raw_size + 1, size) if size else [0] * count
    return read_u32(block.body, header.payload_size, count)


def rows_of(block: Block, flags: bytes) -> Iterator[Row]:
    """Give the events of a block that have a 1 in ``flags``."""
    indices = find_ones(flags)
    for row, time in zip(block.rows(indices), block.times_at(indices), strict=True):
        yield Row(*row, time)

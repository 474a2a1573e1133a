"""Output of a compaction, which passes whole blocks through and packs single events again."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, Self

from journal.compaction import event_classes
from journal.compaction.liveness.seq_bitset import SeqBitset
from journal.events import tag_sets
from journal.format import block_encoder
from journal.format.block import Block, build_block
from journal.format.block_header import BLOCK_COUNT_MAX, TIME_SPAN_MAX
from journal.format.columns import COLUMNS_SIZE_PER_EVENT_MAX, Frames, find_ones, read_u32

BLOCK_SIZE = 1 << 16
"""Size in bytes from which a block of single events is written."""
_COUNT_MAX = BLOCK_COUNT_MAX - 1
_SMALL_BLOCK_SIZE_MAX = 1 << 13
_SEQ_SPAN_MAX = (1 << 32) - 1


class OutputRow(NamedTuple):
    """An event to write: sequence number, tag, payload, and time in µs since the epoch."""

    seq: int
    tag: int
    payload: bytes
    time: int


class BlockTarget(Protocol):
    """Receiver of blocks: a writer, or NullTarget."""

    def append_block(self, source: Block) -> None:
        """Append the events of a block."""

    def publish(self) -> None:
        """Publish the target. No block follows."""


class NullTarget:
    """Target that discards all blocks, for a dry run."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def append_block(self, source: Block) -> None:
        """Discard a block."""

    def publish(self) -> None:
        """Do nothing."""


class TagTotals:
    """Number of events and payload bytes by tag."""

    def __init__(self) -> None:
        self.events: dict[int, int] = {}
        self.sizes: dict[int, int] = {}

    def add(self, tag: int, events: int, size: int) -> None:
        """Add events of one tag."""
        self.events[tag] = self.events.get(tag, 0) + events
        self.sizes[tag] = self.sizes.get(tag, 0) + size

    def add_block(self, block: Block) -> None:
        """Add the events of a block."""
        tags = set(block.tags)
        sizes = dict.fromkeys(tags, 0)
        if len(tags) == 1:
            sizes[block.tags[0]] = block.header.payload_raw_size
        else:
            start = 0
            for tag, end in zip(block.tags, _payload_ends(block), strict=True):
                sizes[tag] += end - start
                start = end
        for tag, size in sizes.items():
            self.add(tag, block.tags.count(tag), size)


class RowWriter:
    """Writer of rows and blocks to ``target``, in sequence order."""

    def __init__(self, target: BlockTarget) -> None:
        self.totals = TagTotals()
        self._target = target
        self._compressor = block_encoder.make_compressor()
        self._seqs: list[int] = []
        self._tags: list[int] = []
        self._payloads: list[bytes] = []
        self._times: list[int] = []
        self._size = 0

    @property
    def time(self) -> int:
        """Time of the last pending row; 0 if no row is pending."""
        return self._times[-1] if self._times else 0

    def put(self, row: OutputRow) -> None:
        """Write an event."""
        self.totals.add(row.tag, 1, len(row.payload))
        self._append(row)

    def put_block(self, block: Block) -> None:
        """Write all events of a block. Join a small block with the pending rows."""
        self.totals.add_block(block)
        if block.size < _SMALL_BLOCK_SIZE_MAX and self._seqs:
            for (seq, tag, payload), time in zip(block.rows(), block.times, strict=True):
                self._append(OutputRow(seq, tag, payload, time))
            return
        self.flush()
        self._target.append_block(block)

    def _append(self, row: OutputRow) -> None:
        seq, tag, payload, time = row
        if self._seqs and (
            self._size >= BLOCK_SIZE
            or len(self._seqs) >= _COUNT_MAX
            or seq - self._seqs[0] > _SEQ_SPAN_MAX
            or not self._times[-1] <= time <= self._times[0] + TIME_SPAN_MAX
        ):
            self.flush()
        self._seqs.append(seq)
        self._tags.append(tag)
        self._payloads.append(payload)
        self._times.append(time)
        self._size += len(payload) + COLUMNS_SIZE_PER_EVENT_MAX

    def flush(self) -> None:
        """Write the pending rows."""
        seqs = self._seqs
        if not seqs:
            return
        frames = Frames(self._tags, self._payloads, self._times)
        self._target.append_block(build_block(frames, seqs, self._compressor))
        self._seqs, self._tags, self._payloads, self._times = [], [], [], []
        self._size = 0


class EventSelector:
    """Selector of the events of a block that are written unchanged.

    ``live`` is the result of the liveness analysis. ``whole`` are the ranges of the snapshots kept
    with all their parts, or None to keep all parts; ``kept_snapshots`` are the sequence numbers of
    the kept snapshots. All events from ``upto`` on are written, except rewritten kinds.
    """

    def __init__(
        self,
        live: SeqBitset,
        upto: int,
        kept_snapshots: Iterable[int],
        whole: Sequence[range] | None,
        *,
        drops_inputs: bool,
        analyses_parts: bool,
    ) -> None:
        self._live, self._upto = live, upto
        self._kept_snapshots = frozenset(kept_snapshots)
        self._whole = whole
        parts_code = _KEEP if whole is None else _SPECIAL
        table = bytearray([_KEEP]) * 256
        for tags, code in (
            (event_classes.ANALYSED, _LOOK_UP),
            (event_classes.CONSUMED, _DROP if drops_inputs else _KEEP),
            (event_classes.REWRITTEN, _DROP),
            (tag_sets.SNAPSHOT_PARTS, _LOOK_UP if analyses_parts else parts_code),
            (event_classes.SNAPSHOT_MARKERS, _SPECIAL),
        ):
            for tag in tags:
                table[tag] = code
        self._table = bytes(table)

    def flags(self, block: Block) -> bytes:
        """Return one byte for each event: 1 if it is written."""
        if block.first_seq >= self._upto:
            return block.tags.translate(_AFTER_FRONTIER)
        codes = block.tags.translate(self._table)
        if block.last_seq >= self._upto:
            codes = self._flags_at_frontier(block, codes)
        if _LOOK_UP in codes:
            codes = self._look_up_live(block, codes)
        if _SPECIAL in codes:
            codes = self._select_special(block, codes)
        return codes

    def _flags_at_frontier(self, block: Block, codes: bytes) -> bytes:
        stop = sum(seq < self._upto for seq in block.seqs)
        return codes[:stop] + block.tags[stop:].translate(_AFTER_FRONTIER)

    def _look_up_live(self, block: Block, codes: bytes) -> bytes:
        seqs = block.seqs
        if isinstance(seqs, range):
            flags = self._live.flags(seqs[0], len(seqs))
        else:
            flags = bytes([seq in self._live for seq in seqs])
        live = _and_bytes(codes.translate(_EQUALS[_LOOK_UP]), flags)
        rest = codes.translate(_WITHOUT_LOOK_UP)
        size = len(codes)
        either = int.from_bytes(live, "little") | int.from_bytes(rest, "little")
        return either.to_bytes(size, "little")

    def _select_special(self, block: Block, codes: bytes) -> bytes:
        flags, seqs, tags = bytearray(codes), block.seqs, block.tags
        at = codes.find(_SPECIAL)
        while at >= 0:
            seq = seqs[at]
            if tags[at] in event_classes.SNAPSHOT_MARKERS:
                flags[at] = seq in self._kept_snapshots
            else:
                flags[at] = any(seq in part for part in self._whole or ())
            at = codes.find(_SPECIAL, at + 1)
        return bytes(flags)


_DROP, _KEEP, _LOOK_UP, _SPECIAL = range(4)
_EQUALS = [bytes(value == tag for value in range(256)) for tag in range(256)]
_WITHOUT_LOOK_UP = bytes(0 if value == _LOOK_UP else value for value in range(256))
_AFTER_FRONTIER = bytes(tag not in event_classes.REWRITTEN for tag in range(256))


def _and_bytes(left: bytes, right: bytes) -> bytes:
    size = len(left)
    both = int.from_bytes(left, "little") & int.from_bytes(right, "little")
    return both.to_bytes(size, "little")


def _payload_ends(block: Block) -> Sequence[int]:
    """Return the end of each payload, without decompressing any."""
    header, count = block.header, block.count
    if header.has_equal_sizes:
        size = header.payload_raw_size // count
        return range(size, header.payload_raw_size + 1, size) if size else [0] * count
    return read_u32(block.body, header.payload_size, count)


def read_rows(block: Block, flags: bytes) -> Iterator[OutputRow]:
    """Yield the events of a block whose byte in ``flags`` is 1."""
    indices = find_ones(flags)
    for row, time in zip(block.rows(indices), block.times_at(indices), strict=True):
        yield OutputRow(*row, time)

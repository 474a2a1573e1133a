"""Tables that map sequence numbers to block offsets, and a function that reads one block."""

from array import array
from bisect import bisect_right
from typing import NamedTuple

from journal.errors import CorruptBlock, LostAcknowledged, WrongKey
from journal.format import segment_header, segment_index
from journal.format.block import (
    BLOCK_HEADER_SIZE,
    Block,
    BlockHeader,
    find_flaw,
    is_body_intact,
    read_header,
)
from journal.format.block_header import SEALED
from journal.format.seal_cipher import TAG_SIZE
from journal.fs.byte_source import ByteSource
from journal.log import scan
from journal.log.header_scan import Segment
from journal.log.segment_files import SegmentFiles


class BlockRef(NamedTuple):
    """A block's header, its segment, and its offset in the file."""

    segment: Segment
    header: BlockHeader
    offset: int

    @property
    def first_seq(self) -> int:
        """Sequence number of the block's first event in the journal."""
        return self.header.first_seq + self.segment.shift

    def may_contain(self, seq: int) -> bool:
        """Return whether event ``seq`` can be in the block, as far as the header shows."""
        first_seq = self.first_seq
        end = first_seq + self.header.frame_count
        return first_seq <= seq and (seq < end or self.header.has_seqs)


class BlockTable:
    """Block offsets of some files of a journal.

    A row is one block, or several small adjacent blocks.

    > Why not a scan? A scan passes all headers before the requested one. A table is searched by
    bisection, and a sealed segment stores its own table.
    """

    def __init__(self) -> None:
        self.is_sparse = False
        self.segments: list[Segment] = []
        self.damage: list[scan.Damage] = []
        self._rows_before: list[int] = []
        self._offsets: array[int] = array("Q")
        self._ends: array[int] = array("Q")
        self._first_seqs: array[int] = array("Q")

    def __len__(self) -> int:
        return len(self._offsets)

    def add_segment(self, segment: Segment) -> None:
        """Add a segment. The blocks that are added next are in it."""
        self.segments.append(segment)
        self._rows_before.append(len(self._offsets))

    def add_block(self, scanned: scan.ScannedBlock) -> None:
        """Add a block with events, to the last row if it is adjacent and the row stays small."""
        offset, end = scanned.offset, scanned.offset + scanned.header.size
        if len(self._offsets) > self._rows_before[-1]:
            near = end - self._offsets[-1] <= segment_index.INDEX_STEP
            if near and offset == self._ends[-1]:
                self._ends[-1] = end
                return
        self._offsets.append(offset)
        self._ends.append(end)
        self._first_seqs.append(scanned.first_seq)

    def add_index(self, segment: Segment, rows: segment_index.SegmentIndex) -> None:
        """Add the index of a sealed segment that is a file of its own."""
        self.is_sparse = True
        self.add_segment(segment)
        self._offsets.extend(rows.offsets)
        self._ends.extend(rows.offsets[1:])
        if rows.offsets:
            self._ends.append(segment.limit)
        self._first_seqs.extend(rows.first_seqs)

    def find_row(self, seq: int) -> int:
        """Return the only row that can contain event ``seq``, -1 if ``seq`` precedes all rows."""
        return bisect_right(self._first_seqs, seq) - 1

    def missing_error(self, seq: int) -> Exception:
        """Return the error for a missing event: its damage, or KeyError if it never existed."""
        for damage in self.damage:
            if damage.first_seq <= seq and (seq <= damage.last_seq or damage.open_ended):
                return damage.error()
        return KeyError(f"there is no event with sequence number {seq}")

    def damage_between(self, after_seq: int, bound: int) -> list[scan.Damage]:
        """Return the damage that lost events after ``after_seq`` and below ``bound``."""
        return [
            damage
            for damage in self.damage
            if after_seq < damage.first_seq < bound
            and (damage.first_seq <= damage.last_seq or damage.open_ended)
        ]

    def block_refs(self, row: int, data: ByteSource) -> list[BlockRef] | None:
        """Return the blocks of a row; None if they do not form a chain up to the next row.

        > Why? An index stores the offsets of blocks, but not the debris between them.
        """
        segment = self.segments[bisect_right(self._rows_before, row) - 1]
        offset, end = self._offsets[row], self._ends[row]
        refs, link = [], None
        while offset < end or (self.is_sparse and offset < segment.limit):
            header = read_header(data, offset, segment.header.salt, offset - segment.offset)
            if header is None or find_flaw(header, is_sealed=segment.header.is_sealed):
                return None
            if link is not None and not header.follows(*link):
                return None
            if offset >= end:
                break
            if header.frame_count:
                refs.append(BlockRef(segment, header, offset))
            link = (header.end, header.hash)
            offset += header.size
        return refs

    def name_of(self, row: int) -> str:
        """Return the name of the file that contains a row."""
        return self.segments[bisect_right(self._rows_before, row) - 1].name


def load_sparse_table(files: SegmentFiles, name: str) -> BlockTable | None:
    """Return the table in the index of a sealed segment file; None if it has no valid index."""
    source = files.open(name)
    if source is None or not len(source):
        return None
    header = segment_header.read(source, 0)
    rows = segment_index.read(source, header)
    if rows is None:
        return None
    table, end = BlockTable(), len(source)
    table.add_index(Segment(0, end, header, {}, end, [], [], name=name), rows)
    return table


def build_table(files: SegmentFiles, names: list[str], following: str | None = None) -> BlockTable:
    """Build the table of these files with a scan.

    ``following`` is the file that continues the last one.

    > Why scan ``following`` too? Its header records the end of the last of these files, whatever
    bytes come after that end.
    """
    table = BlockTable()
    all_names = [*names, following] if following else names
    from_middle = names[:1] != files.names()[:1]

    def add_segment(segment: Segment) -> bool:
        if segment.name == following:
            return True
        table.add_segment(segment)
        return False

    items = scan.scan_files(files.sources(all_names), scan.headers_only, from_middle=from_middle)
    for scanned in scan.take_blocks(items, on_damage=table.damage.append, on_segment=add_segment):
        if scanned.header.frame_count:
            table.add_block(scanned)
    return table


def read_block(data: ByteSource, ref: BlockRef, *, verify: bool) -> Block:
    """Read one block. Raises CorruptBlock if the hash of its body does not match."""
    segment, header, offset = ref
    body = data[offset + BLOCK_HEADER_SIZE : offset + header.size]
    salt = segment.header.salt
    if len(body) != header.size - BLOCK_HEADER_SIZE or (
        verify and not is_body_intact(header, body, salt)
    ):
        reason = "the hash of the block's body does not match"
        last_seq = ref.first_seq + header.frame_count - 1
        kind = LostAcknowledged if segment.durable_upto > header.offset else CorruptBlock
        raise kind(
            reason,
            offset,
            size=header.size,
            first_seq=ref.first_seq,
            last_seq=last_seq,
            file=segment.name,
        )
    if header.flags & SEALED:
        header, body = _open_block(data, ref, body)
    return Block(header, body, ref.first_seq, offset)


def _open_block(data: ByteSource, ref: BlockRef, body: bytes) -> tuple[BlockHeader, bytes]:
    """Return a sealed block without its seal. Raises WrongKey without its key."""
    segment, header, offset = ref
    if segment.seal is None:
        raise WrongKey("the journal is sealed: its key is needed to read events")
    end = segment.offset + header.previous_end
    opened = segment.seal.open(header, data[end - TAG_SIZE : end], body)
    if opened is None:
        last_seq = ref.first_seq + header.frame_count - 1
        raise CorruptBlock(
            "the seal of the block is not genuine: it was changed, moved or mixed in",
            offset,
            size=header.size,
            first_seq=ref.first_seq,
            last_seq=last_seq,
            file=segment.name,
        )
    return opened

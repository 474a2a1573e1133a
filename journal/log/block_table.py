"""Where numbers stand: tables over the blocks of a journal's files, and one block by its number."""

from array import array
from bisect import bisect_right
from typing import NamedTuple

from journal.errors import CorruptBlock, LostAcknowledged
from journal.format import segment_header as segment
from journal.format import segment_index as index
from journal.format.block import (
    BLOCK_HEADER_SIZE,
    Block,
    BlockHeader,
    find_flaw,
    is_body_intact,
    read_header,
)
from journal.fs.byte_source import ByteSource
from journal.log import scan
from journal.log.header_scan import Segment
from journal.log.segment_files import SegmentFiles


class BlockRef(NamedTuple):
    """A block's header and its place in its file."""

    segment: Segment
    header: BlockHeader
    offset: int

    @property
    def first_seq(self) -> int:
        """The number of its first event, in the journal."""
        return self.header.first_seq + self.segment.shift

    def may_contain(self, seq: int) -> bool:
        """Whether an event of this number can be in the block, as far as its header tells."""
        first_seq = self.first_seq
        end = first_seq + self.header.frame_count
        return first_seq <= seq and (seq < end or self.header.has_seqs)


class BlockTable:
    """The blocks of some files of a journal, in rows: each a block, or a run of small ones.

    > Why not walk? A walk passes all headers in front of the one that is asked for; in a table
    it is found by bisection, and a sealed segment brings its own.
    """

    def __init__(self) -> None:
        self.is_sparse = False
        self.segments: list[Segment] = []
        self.damage: list[scan.Damage] = []
        self.tail: scan.Tail | None = None
        self.next_seq = 0
        self._rows_before: list[int] = []
        self._offsets: array[int] = array("Q")
        self._ends: array[int] = array("Q")
        self._first_seqs: array[int] = array("Q")

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, item: scan.ScanItem) -> None:
        """Take what a walk gives."""
        if isinstance(item, Segment):
            self.segments.append(item)
            self._rows_before.append(len(self._offsets))
        elif isinstance(item, scan.Damage):
            self.damage.append(item)
        elif isinstance(item, scan.Tail):
            self.tail, self.next_seq = item, item.next_seq
        elif isinstance(item, scan.ScannedBlock) and item.header.frame_count:
            self._add_block(item.offset, item.offset + item.header.size, item.first_seq)

    def _add_block(self, offset: int, end: int, first_seq: int) -> None:
        if len(self._offsets) > self._rows_before[-1]:
            near = end - self._offsets[-1] <= index.INDEX_STEP
            if near and offset == self._ends[-1]:
                self._ends[-1] = end
                return
        self._offsets.append(offset)
        self._ends.append(end)
        self._first_seqs.append(first_seq)

    def add_index(self, place: Segment, rows: index.SegmentIndex) -> None:
        """Take the index of a sealed segment that is a file of its own."""
        self.is_sparse = True
        self.add(place)
        self._offsets.extend(rows.offsets)
        self._ends.extend(rows.offsets[1:])
        if rows.offsets:
            self._ends.append(place.limit)
        self._first_seqs.extend(rows.first_seqs)
        self.next_seq = rows.next_seq

    def find_row(self, seq: int) -> int:
        """Give the row in which a number stands if it stands anywhere; -1 in front of the first."""
        return bisect_right(self._first_seqs, seq) - 1

    def missing_error(self, seq: int) -> Exception:
        """Say why there is no such event: it is lost, or never was."""
        for damage in self.damage:
            if damage.first_seq <= seq <= damage.last_seq:
                return damage.error()
        return KeyError(f"there is no event number {seq}")

    def damage_between(self, behind: int, bound: int) -> list[scan.Damage]:
        """Give damage that cost events from behind number ``behind`` to below ``bound``."""
        return [
            damage
            for damage in self.damage
            if behind < damage.first_seq < bound and damage.first_seq <= damage.last_seq
        ]

    def block_refs(self, row: int, data: ByteSource) -> list[BlockRef] | None:
        """Give the blocks of a row; None where they do not follow on each other up to the next.

        > Why? An index tells where blocks stand, and not the debris between them.
        """
        place = self.segments[bisect_right(self._rows_before, row) - 1]
        offset, end = self._offsets[row], self._ends[row]
        found, link = [], None
        while offset < end or (self.is_sparse and offset < place.limit):
            header = read_header(data, offset, place.header.salt, offset - place.offset)
            if header is None or find_flaw(header):
                return None
            if link is not None and not header.follows(*link):
                return None
            if offset >= end:
                break
            if header.frame_count:
                found.append(BlockRef(place, header, offset))
            link = (header.end, header.hash)
            offset += header.size
        return found

    def name_of(self, row: int) -> str:
        """Name the file in which a row stands."""
        return self.segments[bisect_right(self._rows_before, row) - 1].name


def headers_only(*_: object) -> bool:
    """Want no body of any block."""
    return False


def load_sparse_table(files: SegmentFiles, name: str) -> BlockTable | None:
    """Make the table of a segment file from its own index; None when it has none to believe."""
    source = files.open(name)
    if source is None or not len(source):
        return None
    header = segment.read(source, 0)
    rows = index.read(source, header)
    if rows is None:
        return None
    table, end = BlockTable(), len(source)
    table.add_index(Segment(0, end, header, {}, end, [], [], name=name), rows)
    return table


def build_table(files: SegmentFiles, names: list[str], following: str | None = None) -> BlockTable:
    """Make the table of these files by walking them; ``following`` is the one that goes on there.

    > Why look at that one? It tells where the last of them ends, whatever stands behind.
    """
    table = BlockTable()
    walked = [*names, following] if following else names
    from_middle = names[:1] != files.names()[:1]
    for item in scan.scan_files(files.sources(walked), headers_only, from_middle=from_middle):
        if isinstance(item, Segment) and following and item.name == following:
            break
        table.add(item)
    return table


def read_block(data: ByteSource, spot: BlockRef, *, verify: bool) -> Block:
    """Read one block; CorruptBlock when its body's hash does not hold."""
    place, header, offset = spot
    body = data[offset + BLOCK_HEADER_SIZE : offset + header.size]
    salt = place.header.salt
    if len(body) != header.size - BLOCK_HEADER_SIZE or (
        verify and not is_body_intact(header, body, salt)
    ):
        reason = "the hash of a block's body does not hold"
        last_seq = spot.first_seq + header.frame_count - 1
        kind = LostAcknowledged if place.durable_upto > header.offset else CorruptBlock
        raise kind(
            reason,
            offset,
            size=header.size,
            first_seq=spot.first_seq,
            last_seq=last_seq,
            file=place.name,
        )
    return Block(header, body, spot.first_seq, offset)

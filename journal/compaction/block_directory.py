"""Directory of a journal's blocks, with which later passes read only the blocks they need."""

from array import array
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from journal.compaction import event_classes
from journal.errors import JournalError
from journal.events import tag_sets
from journal.events.snapshots import DescriptorPositions
from journal.events.streams import StreamOpened
from journal.format.block import Block, read_header
from journal.fs.byte_source import ByteSource
from journal.log import block_table, scan
from journal.log.segment_files import SegmentFiles
from journal.rewrite.progress import ProgressCallback, ProgressScan

ANALYSED, REPLAYED, SNAPSHOT_PARTS, RETAINED = 1, 2, 4, 8
"""Contents of a block, as bit flags: events analysed one by one, other events that the analysis
replays, snapshot parts, and other events that may be kept.
"""
_ONLY_REPLAYED = (
    (event_classes.REPLAYED - event_classes.ANALYSED)
    | event_classes.BOUNDARIES
    | {DescriptorPositions.tag, StreamOpened.tag}
)
_RETAINED_TAGS = (
    tag_sets.KNOWN - event_classes.ANALYSED - tag_sets.SNAPSHOT_PARTS - event_classes.CONSUMED
)

BlockFilter = Callable[[int, int, int], bool]
"""Function that returns whether to read a block, from its content flags, its first sequence number,
and its last sequence number plus 1.
"""


def _accept_all(classes: int, start: int, stop: int) -> bool:
    return True


class SourceChanged(JournalError):
    """The journal changed between two passes."""


class BlockDirectory:
    """Directory of the blocks that contain events, filled by the first pass over a journal.

    > Why not scan again? The directory stores offsets and header hashes, so a skipped block costs
    nothing, and reading a block does not read its neighbours.
    """

    def __init__(self, path: Path, report: ProgressCallback) -> None:
        self._path = path
        self._report = report
        self._segments: list[scan.Segment] = []
        self._counts: list[int] = []  # Number of blocks in each segment.
        self._firsts, self._stops = array("Q"), array("Q")
        self._classes = bytearray()
        self._offsets, self._hashes = array("Q"), array("Q")
        self._ends = array("Q")  # File position after each block, counted over all files.
        self._size = 0

    def scan_all(self) -> Iterator[Block]:
        """Yield all blocks in the first pass. Raises a FormatError for damage."""
        end = 0

        def report(what: str, done: int, size: int) -> None:
            nonlocal end
            end, self._size = done, size
            self._report(what, done, size)

        with closing(SegmentFiles(self._path)) as files:
            items = ProgressScan(report, "scanning").items(files)
            for scanned in scan.take_blocks(items, on_segment=self._add_segment):
                if scanned.header.frame_count:
                    block = scanned.block()
                    self._record(block, end)
                    yield block

    def _add_segment(self, segment: scan.Segment) -> None:
        self._segments.append(segment)
        self._counts.append(0)

    def _record(self, block: Block, end: int) -> None:
        self._counts[-1] += 1
        self._firsts.append(block.first_seq)
        self._stops.append(block.last_seq + 1)
        self._classes.append(_classify(block))
        self._offsets.append(block.offset)
        self._hashes.append(block.header.hash)
        self._ends.append(end)

    def reread(self, what: str, accepts: BlockFilter = _accept_all) -> Iterator[Block]:
        """Yield the blocks that ``accepts`` selects. Reports no progress if ``what`` is empty.

        Raises a DamagedJournal if a block has since been damaged, and SourceChanged if another
        block is stored at its offset.
        """
        at = 0
        with closing(SegmentFiles(self._path)) as files:
            for segment, count in zip(self._segments, self._counts, strict=True):
                source = files.open(segment.name)
                for number in range(at, at + count):
                    if accepts(self._classes[number], self._firsts[number], self._stops[number]):
                        yield self._read(source, segment, number)
                        if what:
                            self._report(what, self._ends[number], self._size)
                at += count
        if what and at:
            self._report(what, self._size, self._size)

    def _read(self, source: ByteSource | None, segment: "scan.Segment", number: int) -> Block:
        offset = self._offsets[number]
        if source is not None:
            header = read_header(source, offset, segment.header.salt, offset - segment.offset)
            if header is not None and header.hash == self._hashes[number]:
                return block_table.read_block(
                    source, block_table.BlockRef(segment, header, offset), verify=True
                )
        raise SourceChanged(
            f"{self._path} changed during the compaction: block at offset {offset} differs"
        )


def _classify(block: Block) -> int:
    tags = set(block.tags)
    has_unknown = not tags <= tag_sets.KNOWN
    classes = ANALYSED * (not tags.isdisjoint(event_classes.ANALYSED))
    classes |= REPLAYED * (has_unknown or not tags.isdisjoint(_ONLY_REPLAYED))
    classes |= SNAPSHOT_PARTS * (not tags.isdisjoint(tag_sets.SNAPSHOT_PARTS))
    return classes | RETAINED * (has_unknown or not tags.isdisjoint(_RETAINED_TAGS))

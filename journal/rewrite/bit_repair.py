"""Search of a damaged journal for single flipped bits.

Nothing is written. The result is the set of bit flips with which to read the files.
"""

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from journal.errors import FormatError
from journal.format import bit_search, segment_header
from journal.format.block import BLOCK_HEADER_SIZE, BLOCK_MAGIC, find_flaw, read_header
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.fs.byte_source import ByteSource
from journal.log import scan
from journal.log.segment_files import SegmentFiles
from journal.rewrite.progress import ProgressCallback, ProgressScan

PASSES_MAX = 8
"""Maximum number of passes over the source: each repair can reveal damage that needs another."""

_BODY_SEARCHES_MIN = 16
"""Number of bodies of the maximum size that the search budget always allows."""


class BitRepair(NamedTuple):
    """A repaired bit of the byte at ``offset``. ``bit`` counts from 0, the lowest bit.

    Importable as ``journal.operations.BitRepair``. The repair restores the events ``first_seq`` to
    ``last_seq``, or none if ``last_seq`` is lower.
    """

    file: str
    offset: int
    bit: int
    what: str
    first_seq: int
    last_seq: int


class BitRepairer:
    """Search for flipped bits in damaged ranges, repeated until a pass finds no more."""

    def __init__(self, path: Path, body_size_max: int, report: ProgressCallback) -> None:
        self.path = path
        self.flips: dict[str, dict[int, int]] = {}
        self.repairs: dict[tuple[str, int], list[BitRepair]] = {}
        """Repairs by (file name, offset) of the block or segment header that they belong to."""
        self.unreadable_segments: set[tuple[str, int]] = set()
        """Positions (file name, offset) of apparent torn writes with blocks of a headless segment.
        """
        self._size_max = body_size_max
        self._report = report
        self._budget = bit_search.SearchBudget(
            max(bit_search.SEARCH_SIZE_MAX, _BODY_SEARCHES_MIN * 4 * body_size_max**2)
        )
        self._count = 0

    def repair(self) -> None:
        """Search the whole journal, as often as a pass finds another repair."""
        self._repair_first_headers()
        for _ in range(PASSES_MAX):
            before = self._count
            self.unreadable_segments.clear()
            self._make_pass()
            if self._count == before:
                return

    def files(self) -> SegmentFiles:
        """Open the source so that it is read with the repairs applied."""
        return SegmentFiles(self.path, patient=True, flips=self.flips)

    def _repair_first_headers(self) -> None:
        """Repair the first header of each file: a scan needs a segment header."""
        with closing(self.files()) as files:
            for data in files.sources(files.names()):
                raw = data[0:SEGMENT_HEADER_SIZE]
                if not _is_segment_header(raw):
                    self._repair_segment_header(data, 0)

    def _make_pass(self) -> None:
        segment: scan.Segment | None = None
        with closing(self.files()) as files:

            def set_segment(item: scan.Segment) -> None:
                nonlocal segment
                segment = item

            def repair_damage(item: scan.Damage) -> None:
                self._repair_range(files, item.name, item.offset, item.size, segment)

            def repair_tail(item: scan.Tail) -> None:
                if item.torn_size:
                    name, size = item.segment.name, item.torn_size
                    self._repair_range(files, name, item.offset, size, segment)
                    data = files.open(name)
                    if data is not None and _has_blocks(data, item.offset, item.offset + size):
                        self.unreadable_segments.add((name, item.offset))

            items = ProgressScan(self._report, "checking").items(files)
            for _ in scan.take_blocks(
                items, on_damage=repair_damage, on_segment=set_segment, on_tail=repair_tail
            ):
                pass

    def _repair_range(
        self, files: SegmentFiles, name: str, start: int, size: int, segment: scan.Segment | None
    ) -> None:
        data = files.open(name)
        if data is None:
            return
        if segment is not None and segment.name == name:
            base = segment.offset
            for position in bit_search.find_block_headers(data, start, start + size, base):
                self._repair_block(data, position, segment)
        for position in bit_search.find_segment_headers(data, start, start + size):
            self._repair_segment_header(data, position)

    def _repair_segment_header(self, data: ByteSource, position: int) -> None:
        bit = bit_search.repair_segment_header(
            data[position : position + SEGMENT_HEADER_SIZE], self._budget
        )
        if bit is not None:
            self._add_repair(data.name, position, bit, "segment header", position)

    def _repair_block(self, data: ByteSource, position: int, segment: scan.Segment) -> None:
        salt, offset = segment.header.salt, position - segment.offset
        raw = data[position : position + BLOCK_HEADER_SIZE]
        header = read_header(raw, 0, salt, offset)
        if header is None:
            bit = bit_search.repair_block_header(raw, salt, offset, self._budget)
            if bit is None:
                return
            header = read_header(bit_search.flip_bit(raw, bit), 0, salt, offset)
            self._add_repair(data.name, position, bit, "block header", position)
        if header is None or find_flaw(header, is_sealed=segment.header.is_sealed):
            return
        start = position + BLOCK_HEADER_SIZE
        body_size = header.payload_size + header.columns_size
        if body_size <= self._size_max:
            body = data[start : start + body_size]
            bit = bit_search.repair_block_body(body, header, salt, self._budget, self._size_max)
            if bit is not None:
                self._add_repair(data.name, start, bit, "block body", position)

    def _add_repair(self, file: str, start: int, bit: int, what: str, position: int) -> None:
        offset = start + (bit >> 3)
        flips = self.flips.setdefault(file, {})
        flips[offset] = flips.get(offset, 0) ^ (1 << (bit & 7))
        self.repairs.setdefault((file, position), []).append(
            BitRepair(file, offset, bit & 7, what, 0, -1)
        )
        self._count += 1


def _has_blocks(data: ByteSource, start: int, stop: int) -> bool:
    """Return whether a block in the range records that its segment began at or after ``start``.

    The journal of a guest, in the payload of a torn write, looks the same. Reporting it is safer.
    """
    position = data.find(BLOCK_MAGIC, start, stop)
    while position >= 0:
        raw = data[position : position + BLOCK_HEADER_SIZE]
        offset = int.from_bytes(raw[bit_search.OFFSET_AT : bit_search.OFFSET_AT + 8], "little")
        if start <= position - offset <= position - SEGMENT_HEADER_SIZE:
            return True
        position = data.find(BLOCK_MAGIC, position + 1, stop)
    return False


def _is_segment_header(raw: bytes) -> bool:
    try:
        segment_header.read(raw, 0)
    except FormatError:
        return False
    return True

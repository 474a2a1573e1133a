"""Mending of a damaged journal: the single bits that were turned over, found again everywhere.

Nothing is written: what is found are the flips with which the files are to be read.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from journal.errors import FormatError
from journal.format import segment_header as segment
from journal.format.block import BLOCK_HEADER_SIZE, BLOCK_MAGIC, BlockHeader, flaw, read_header
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.fs.byte_source import Source
from journal.log import scan as log
from journal.log.segment_files import Files
from journal.rewrite import bit_search as bits

PASSES_MAX = 8
"""How often the source is looked through for bits: what one repair reveals may need another."""

_BODIES_MIN = 16
"""So many bodies of the greatest size may be searched, whatever that is."""

Progress = Callable[[str, int, int], object]
"""Is told what is being done, and how many of how many bytes are."""


def _everything(place: log.Segment, header: BlockHeader, first_seq: int) -> bool:
    """Want every body."""
    return True


def nobody(what: str, done: int, size: int) -> None:
    """Take no notice of the progress."""


class Repair(NamedTuple):
    """A bit that was turned back: of the byte at ``offset``, ``bit`` counts from the lowest.

    The events ``first_seq`` to ``last_seq`` are there again for it (none when that is lower).
    """

    file: str
    offset: int
    bit: int
    what: str
    first_seq: int
    last_seq: int


class Mender:
    """Looks for single bits in what a walk calls damaged, until a pass finds no more."""

    def __init__(self, path: Path, body_size_max: int, report: Progress) -> None:
        self.path = path
        self.flips: dict[str, dict[int, int]] = {}
        self.found: dict[tuple[str, int], list[Repair]] = {}
        """What was mended of the block, or the segment header, that begins there."""
        self.headless: set[tuple[str, int]] = set()
        """Where what looks like a torn write holds blocks of a segment whose header is lost."""
        self._size_max = body_size_max
        self._report = report
        self._work = bits.Work(max(bits.WORK_SIZE_MAX, _BODIES_MIN * 4 * body_size_max**2))
        self._count = 0

    def mend(self) -> None:
        """Look through all of the journal, as often as there is more to find."""
        self._mend_heads()
        for _ in range(PASSES_MAX):
            before = self._count
            self.headless.clear()
            self._look_through()
            if self._count == before:
                return

    def files(self) -> Files:
        """Open the source, as it is with the bits turned back."""
        return Files(self.path, patient=True, flips=self.flips)

    def _mend_heads(self) -> None:
        """Mend what each file begins with: without a segment header there is no walk."""
        with closing(self.files()) as files:
            for data in files.sources(files.names()):
                raw = data[0:SEGMENT_HEADER_SIZE]
                if not _is_head(raw):
                    self._mend_segment(data, 0)

    def _look_through(self) -> None:
        place: log.Segment | None = None
        with closing(self.files()) as files:
            steps = Watched(files, self._report, "checking")
            for item in steps.items():
                if isinstance(item, log.Segment):
                    place = item
                elif isinstance(item, log.Damage):
                    self._mend_range(files, item.name, item.offset, item.size, place)
                elif isinstance(item, log.Tail) and item.torn_size:
                    name, size = item.segment.name, item.torn_size
                    self._mend_range(files, name, item.offset, size, place)
                    data = files.open(name)
                    if data is not None and _has_blocks(data, item.offset, item.offset + size):
                        self.headless.add((name, item.offset))

    def _mend_range(
        self, files: Files, name: str, start: int, size: int, place: log.Segment | None
    ) -> None:
        data = files.open(name)
        if data is None:
            return
        if place is not None and place.name == name:
            for position in bits.blocks_near(data, start, start + size, place.offset):
                self._mend_block(data, position, place)
        for position in bits.segments_near(data, start, start + size):
            self._mend_segment(data, position)

    def _mend_segment(self, data: Source, position: int) -> None:
        bit = bits.mend_segment_header(data[position : position + SEGMENT_HEADER_SIZE], self._work)
        if bit is not None:
            self._note(data.name, position, bit, "segment header", position)

    def _mend_block(self, data: Source, position: int, place: log.Segment) -> None:
        salt, offset = place.header.salt, position - place.offset
        raw = data[position : position + BLOCK_HEADER_SIZE]
        header = read_header(raw, 0, salt, offset)
        if header is None:
            bit = bits.mend_header(raw, salt, offset, self._work)
            if bit is None:
                return
            header = read_header(bits.flipped(raw, bit), 0, salt, offset)
            self._note(data.name, position, bit, "block header", position)
        if header is None or flaw(header):
            return
        start = position + BLOCK_HEADER_SIZE
        body_size = header.payload_size + header.columns_size
        if body_size <= self._size_max:
            body = data[start : start + body_size]
            bit = bits.mend_body(body, header, salt, self._work, self._size_max)
            if bit is not None:
                self._note(data.name, start, bit, "block body", position)

    def _note(self, file: str, start: int, bit: int, what: str, place: int) -> None:
        offset = start + (bit >> 3)
        flips = self.flips.setdefault(file, {})
        flips[offset] = flips.get(offset, 0) ^ (1 << (bit & 7))
        self.found.setdefault((file, place), []).append(Repair(file, offset, bit & 7, what, 0, -1))
        self._count += 1


class Watched:
    """A walk over the files, which tells how far it is; bodies are read unless not wanted."""

    def __init__(
        self, files: Files, report: Progress, what: str, wants: log.Wants = _everything
    ) -> None:
        self._files = files
        self._report = report
        self._what = what
        self._wants = wants
        self.size = 0

    def items(self) -> Iterator[log.Item]:
        """Give what stands there."""
        names = self._files.names()
        sizes = [len(data) for data in self._files.sources(names)]
        self.size, before, file = sum(sizes), 0, 0
        for item in log.walk(self._files.sources(names), self._wants):
            if isinstance(item, log.Segment) and item.file > file:
                before, file = sum(sizes[: item.file]), item.file
            elif isinstance(item, log.Placed):
                done = before + item.offset + item.header.size
                self._report(self._what, min(done, self.size), self.size)
            yield item
        self._report(self._what, self.size, self.size)


def _has_blocks(data: Source, start: int, stop: int) -> bool:
    """Whether there is a block that says its segment began behind ``start``.

    A guest's own journal, in the payload of a torn write, looks the same: better told than not.
    """
    position = data.find(BLOCK_MAGIC, start, stop)
    while position >= 0:
        raw = data[position : position + BLOCK_HEADER_SIZE]
        offset = int.from_bytes(raw[bits.OFFSET_AT : bits.OFFSET_AT + 8], "little")
        if start <= position - offset <= position - SEGMENT_HEADER_SIZE:
            return True
        position = data.find(BLOCK_MAGIC, position + 1, stop)
    return False


def _is_head(raw: bytes) -> bool:
    try:
        segment.read(raw, 0)
    except FormatError:
        return False
    return True

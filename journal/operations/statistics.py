"""Statistics of a journal: events and bytes by kind and over time, blocks, and memory pages.

All but the page statistics come from block headers and columns, so only blocks with memory pages
are decompressed.
"""

import os
from bisect import bisect_left
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from itertools import compress, pairwise
from operator import sub

from xxhash import xxh3_64_intdigest

from journal._arguments import check_flag, check_path
from journal.errors import FormatError
from journal.events import codec
from journal.events.memory import MemoryPages, PageKind
from journal.events.snapshots import Snapshot
from journal.format.block import Block
from journal.format.block_header import BLOCK_HEADER_SIZE
from journal.format.columns import read_u32
from journal.log import scan
from journal.log.segment_files import SegmentFiles
from journal.log.summary import Summary, summarize
from journal.pages.encoding import decode_pages
from journal.rewrite.progress import ProgressCallback, ProgressScan, check_progress

BINS = 60
"""Number of bins of the timeline."""
DISTINCT_MAX = 1 << 20
"""Maximum number of distinct pages, and of distinct contents, that are counted."""

_TAG_MASKS = [bytes(other == tag for other in range(256)) for tag in range(256)]


@dataclass(slots=True)
class KindStatistics:
    """Number of events of one kind, and the bytes of their payloads."""

    tag: int
    events: int = 0
    size: int = 0


@dataclass(slots=True)
class PageStatistics:
    """Number of memory pages by kind of encoding, and bytes of patches.

    ``distinct_pages`` counts page numbers, ``distinct_contents`` the contents of whole pages, both
    up to ``DISTINCT_MAX``.
    """

    kinds: dict[PageKind, int] = field(default_factory=lambda: dict.fromkeys(PageKind, 0))
    patch_size: int = 0
    distinct_pages: int = 0
    distinct_contents: int = 0
    malformed: int = 0

    @property
    def count(self) -> int:
        """Number of stored pages of all kinds."""
        return sum(self.kinds.values())


@dataclass(slots=True)
class StatisticsResult:
    """Statistics of a journal; sizes are bytes, times µs since the epoch.

    ``payload_size`` is the size of all payloads, ``stored_size`` their compressed size in the file.
    ``columns_size`` and ``headers_size`` are the rest of the blocks. ``timeline`` has the number of
    events in each bin between the first and the last event, ``sizes`` the bytes of their payloads.
    ``damaged`` counts damaged regions and unreadable blocks.
    """

    summary: Summary
    kinds: dict[int, KindStatistics] = field(default_factory=dict)
    payload_size: int = 0
    stored_size: int = 0
    columns_size: int = 0
    headers_size: int = 0
    compressed_blocks: int = 0
    timeline: list[int] = field(default_factory=lambda: [0] * BINS)
    sizes: list[int] = field(default_factory=lambda: [0] * BINS)
    pages: PageStatistics = field(default_factory=PageStatistics)
    damaged: int = 0

    @property
    def events(self) -> int:
        """Number of readable events."""
        return sum(kind.events for kind in self.kinds.values())

    @property
    def seconds(self) -> float:
        """Seconds from the first event to the last."""
        return max(0, self.summary.last_time - self.summary.first_time) / 1e6

    @property
    def snapshots(self) -> int:
        """Number of snapshots."""
        return self.kinds[Snapshot.tag].events if Snapshot.tag in self.kinds else 0


def collect_statistics(
    path: str | os.PathLike[str], *, pages: bool = True, progress: ProgressCallback | None = None
) -> StatisticsResult:
    """Return the statistics of a journal. With ``pages`` off, memory pages are not decoded.

    Damage is skipped and counted. Raises a FormatError if the file contains no journal segment.
    """
    source = check_path("path", path)
    check_flag("pages", pages)
    report = check_progress(progress)
    with closing(SegmentFiles(source, patient=True)) as files:
        collector = _StatisticsCollector(StatisticsResult(summarize(files)), pages)
        items = ProgressScan(report, "looking").items(files)
        for scanned in scan.take_blocks(items, on_damage=collector.add_damage):
            collector.add(scanned)
        return collector.finish()


class _StatisticsCollector:
    """Collector of statistics, block by block."""

    def __init__(self, result: StatisticsResult, pages: bool) -> None:
        self.result = result
        self._counts_pages = pages
        self._numbers: set[tuple[int, int]] = set()
        self._contents: set[int] = set()
        first, last = result.summary.first_time, result.summary.last_time
        self._first, self._span = first, max(1, last - first + 1)
        self._edges = [first - -self._span * step // BINS for step in range(1, BINS)]

    def add_damage(self, damage: scan.Damage) -> None:
        """Count a damaged region."""
        self.result.damaged += 1

    def add(self, scanned: scan.ScannedBlock) -> None:
        """Add a block."""
        header, result = scanned.header, self.result
        result.headers_size += BLOCK_HEADER_SIZE
        result.columns_size += header.columns_size
        if not header.frame_count:
            result.stored_size += header.payload_size
            return
        result.stored_size += header.payload_size
        result.payload_size += header.payload_raw_size
        result.compressed_blocks += header.payload_size < header.payload_raw_size
        try:
            block = scanned.block()
            self._count_kinds(block)
            self._count_times(block)
            if self._counts_pages and MemoryPages.tag in block.tags:
                self._count_pages(block)
        except FormatError:
            result.damaged += 1

    def finish(self) -> StatisticsResult:
        """Return the statistics."""
        self.result.pages.distinct_pages = len(self._numbers)
        self.result.pages.distinct_contents = len(self._contents)
        return self.result

    def _count_kinds(self, block: Block) -> None:
        tags, kinds = block.tags, self.result.kinds
        counts = Counter(tags)
        raw_size = block.header.payload_raw_size
        if len(counts) == 1 or block.header.has_equal_sizes:
            size = raw_size // block.count
            for tag, count in counts.items():
                kind = kinds.setdefault(tag, KindStatistics(tag))
                kind.events += count
                kind.size += raw_size if len(counts) == 1 else size * count
            return
        ends = read_u32(block.body, block.header.payload_size, block.count)
        sizes = list(map(sub, ends, (0, *ends)))
        for tag, count in counts.items():
            kind = kinds.setdefault(tag, KindStatistics(tag))
            kind.events += count
            kind.size += sum(compress(sizes, tags.translate(_TAG_MASKS[tag])))

    def _count_times(self, block: Block) -> None:
        """Add a block to the timeline. The bytes of a block in several bins are divided by the
        number of its events in each.
        """
        header, result = block.header, self.result
        first, last = self._find_bin(header.time_first), self._find_bin(header.time_last)
        if first == last:
            result.timeline[first] += block.count
            result.sizes[first] += header.payload_raw_size
            return
        times = block.times
        cuts = [bisect_left(times, edge) for edge in self._edges[first:last]]
        for step, (start, stop) in enumerate(pairwise([0, *cuts, block.count]), first):
            result.timeline[step] += stop - start
            result.sizes[step] += header.payload_raw_size * (stop - start) // block.count

    def _find_bin(self, time: int) -> int:
        """Return the bin of a time. Times of concatenated journals may precede the first event."""
        return min(BINS - 1, max(0, (time - self._first) * BINS // self._span))

    def _count_pages(self, block: Block) -> None:
        statistics = self.result.pages
        for payload in block.payloads_with_tags((MemoryPages.tag,)):
            try:
                event = codec.decode(MemoryPages.tag, payload, block.offset)
                assert isinstance(event, MemoryPages)
                for number, kind, data in decode_pages(event):
                    statistics.kinds[kind] += 1
                    if kind is PageKind.PATCHED:
                        statistics.patch_size += len(data)
                    elif kind is PageKind.WHOLE and len(self._contents) < DISTINCT_MAX:
                        self._contents.add(xxh3_64_intdigest(data))
                    if len(self._numbers) < DISTINCT_MAX:
                        self._numbers.add((event.memory, number))
            except FormatError:
                statistics.malformed += 1

"""Filtering: the events of a journal that are asked for, in a new one, with numbers and times.

Whole blocks go over as they are; the events of others gather in new ones, and of a block that has
nothing only the column of tags is looked at, to tell what was dropped. Pages of memory that stand
in what is dropped, and are named by what is kept, are given there.
"""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from journal.errors import FormatError
from journal.events.memory import MemoryPages
from journal.events.process import ProcessStart
from journal.format.block import Block, BlockHeader
from journal.format.block_header import BLOCK_HEADER_SIZE
from journal.format.columns import find_ones
from journal.format.tag_partition import partition_tags
from journal.fs.byte_source import ByteSource
from journal.log import scan
from journal.log.block_table import headers_only
from journal.log.segment_files import SegmentFiles
from journal.log.summary import summarize
from journal.pages import PageResolver
from journal.pages.dropped_pages import DroppedPages, LazyPageResolver
from journal.query.compiler import NO_TIMES
from journal.query.literals import JournalTimes
from journal.query.selection import Query, QueryFilter
from journal.rewrite.block_copier import check_output_path
from journal.rewrite.output_journal import OutputJournal, ResumeFlag
from journal.rewrite.progress import ProgressCallback, ProgressScan, ignore_progress
from journal.snapshots.resumability import ResumabilityAnalysis
from journal.snapshots.resume_flags import GAPS_ALLOWED, NOT_RESUMABLE


@dataclass(frozen=True, slots=True)
class FilterResult:
    """What a filter kept and dropped, and what the journal can still be used for.

    ``size`` is that of the source in bytes, ``written`` that of the ``blocks`` that were written,
    0 where it is only told; ``blocks_whole`` went over as they were, ``blocks_passed`` were not
    even read. ``kept`` and ``dropped`` count events by tag.
    """

    journal_id: bytes
    size: int
    written: int
    blocks: int
    blocks_copied: int
    blocks_skipped: int
    kept: dict[int, int]
    dropped: dict[int, int]
    next_seq: int
    resumable: bool
    reason: str

    @property
    def events(self) -> int:
        """How many events were kept."""
        return sum(self.kept.values())

    @property
    def events_dropped(self) -> int:
        """How many were not."""
        return sum(self.dropped.values())


def filter(  # the name is the command's
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None,
    query: Query,
    *,
    keep: bool = True,
    keep_preamble: bool = True,
    measure_size: bool = False,
    progress: ProgressCallback | None = None,
) -> FilterResult:
    """Write the events of ``source`` that ``which`` means, or all others, to ``target``.

    Numbers, times and the journal's id stay. With ``preamble`` what says what ran is kept in any
    case; a Seal is kept in none. Where a resume would not notice what is missing, the new journal
    says of itself that it cannot be resumed. Without a ``target`` nothing is written, and only
    told; what its size would be only where it is ``measured``, which takes as long as to write it.
    ``target`` is a new file, which gets its name when it is whole and durable. Raises OptionError
    where it exists or would stand in the source, and a FormatError for damage.
    """
    if target is not None:
        check_output_path(Path(target), [Path(source)])
    with closing(SegmentFiles(source)) as files:
        asks_times = query.since is not None or query.until is not None or query.where is not None
        # when it begins and ends a look at all headers tells, which takes as long as the rest
        clock, report = _read_times(files) if asks_times else NO_TIMES, progress or ignore_progress

        def sieve() -> QueryFilter:
            return QueryFilter(query, clock, keep=keep, keep_preamble=keep_preamble)

        if target is None and not measure_size:
            return _FilterPass(files, sieve(), "looking").run(report)
        path = None if target is None else Path(target)
        holds = sieve().may_pass(ProcessStart.tag)
        with LazyPageResolver(source) as pages:
            with OutputJournal(path, buffered=holds) as new:
                first = _FilterPass(files, sieve(), "looking" if holds else "filtering", new, pages)
                found = first.run(report)
                if not new.is_overfull:
                    return _publish(new, found, first.flag)
            with OutputJournal(path, flag=first.flag) as new:
                again = _FilterPass(files, sieve(), "filtering", new, pages)
                return _publish(new, again.run(report))


def _publish(
    new: OutputJournal, found: FilterResult, mark: ResumeFlag | None = None
) -> FilterResult:
    new.publish(mark)
    return replace(found, written=new.size, blocks=new.blocks, blocks_copied=new.blocks_whole)


def _read_times(files: SegmentFiles) -> JournalTimes:
    names = files.names()
    found = summarize(scan.scan_files(files.sources(names), headers_only), 0)
    return JournalTimes(found.first_time, found.last_time)


class _FilterPass:
    """A journal on its way through a sieve, to ``target``; without one it is only told.

    ``pages`` looks up what is named by what is kept, and is dropped.
    """

    def __init__(
        self,
        files: SegmentFiles,
        sieve: QueryFilter,
        what: str,
        target: OutputJournal | None = None,
        pages: LazyPageResolver | None = None,
    ) -> None:
        self._files = files
        self._filter = sieve
        self._what = what
        self._target = target
        self._pages = pages
        # where none is kept, none names what is dropped
        self._keeps_pages = target is not None and sieve.may_pass(MemoryPages.tag)
        self._dropped_pages = DroppedPages()
        self._analysis = ResumabilityAnalysis()
        self._blocks_skipped = 0
        self._opened: tuple[str, ByteSource | None] | None = None

    def run(self, report: ProgressCallback) -> FilterResult:
        """Hand on what is let through; tell about it."""
        walk = ProgressScan(self._files, report, self._what, self._needs_block)
        journal_id, is_begun = b"", False
        for item in walk.items():
            if isinstance(item, scan.ScannedBlock):
                if item.header.frame_count:
                    self._add(item)
                    if not is_begun:
                        is_begun = True
                        self._release_unless_process()
            elif isinstance(item, scan.Damage):
                raise item.error()
            elif isinstance(item, scan.Segment) and not journal_id:
                journal_id = item.header.journal_id
                if self._target is not None:
                    self._target.journal_id = journal_id
        use = self._analysis
        return FilterResult(
            journal_id=journal_id or bytes(16),
            size=walk.size,
            written=0,
            blocks=0,
            blocks_copied=0,
            blocks_skipped=self._blocks_skipped,
            kept=use.kept,
            dropped=use.dropped,
            next_seq=use.next_seq,
            resumable=use.result.resumable,
            reason=use.result.reason,
        )

    def _release_unless_process(self) -> None:
        """Say whether the journal is that of a process: no other is ever marked."""
        is_of_process = (
            ProcessStart.tag in self._analysis.kept or ProcessStart.tag in self._analysis.dropped
        )
        if self._target is not None and not is_of_process:
            self._target.release()

    @property
    def flag(self) -> ResumeFlag | None:
        """What a journal of what is kept has to say of itself."""
        use = self._analysis
        if use.needs_not_resumable_flag:
            return NOT_RESUMABLE, use.result.reason
        if use.result.resumable and use.has_gaps:
            return GAPS_ALLOWED, use.result.reason
        return None

    def _needs_block(self, segment: scan.Segment, header: BlockHeader, first_seq: int) -> bool:
        return bool(header.frame_count) and self._filter.needs_block(header, first_seq)

    def _add(self, item: scan.ScannedBlock) -> None:
        try:
            if item.is_selected:
                self._filter_block(item)
            else:
                self._skip_block(item)
        except FormatError as error:
            error.file = item.segment.name
            raise

    def _filter_block(self, item: scan.ScannedBlock) -> None:
        """Look at a block that may have something that is kept."""
        block = Block(item.header, item.body, item.first_seq, item.offset)
        mask = self._filter.compute_mask(block)
        self._analysis.add_block(*partition_tags(block.tags, mask), block.seqs, block.payload)
        if self._target is not None and not self._target.is_overfull:
            self._write(block, mask, self._target)

    def _write(self, block: Block, mask: bytes, target: OutputJournal) -> None:
        naming = (
            self._dropped_pages.find_referring_events(block, mask)
            if self._keeps_pages
            else frozenset()
        )
        if naming:
            self._write_resolved(block, mask, naming, target)
        elif 0 not in mask:
            target.add_block(block)
        elif 1 in mask:
            target.add_events(block, find_ones(mask))

    def _write_resolved(
        self, block: Block, mask: bytes, naming: frozenset[int], target: OutputJournal
    ) -> None:
        """Hand on events one by one: those that name pages that are dropped get large."""
        assert self._pages is not None
        resolver = self._pages.resolver
        for place in find_ones(mask):
            seq = block.seq(place)
            resolved = partial(_resolve_payload, resolver, seq) if seq in naming else None
            target.add_events(block, [place], resolved)

    def _skip_block(self, item: scan.ScannedBlock) -> None:
        """Take note of a block of which nothing is kept: its columns tell what it had."""
        header, count = item.header, item.header.frame_count
        self._blocks_skipped += 1
        source = self._open_source(item.segment.name)
        tags = b""
        if source is not None:
            start = item.offset + BLOCK_HEADER_SIZE + header.payload_size
            tags_at = start if header.has_equal_sizes else start + 4 * count
            tags = source[tags_at : tags_at + count]
        seqs: Sequence[int] = range(item.first_seq, item.first_seq + count)
        if header.has_seqs:  # what has numbers is read in any case
            seqs = Block(header, item.body, item.first_seq, item.offset).seqs
        self._analysis.add_dropped_block(tags, seqs)
        if self._keeps_pages and MemoryPages.tag in tags:
            for at in find_ones(tags.translate(_PAGES)):
                self._dropped_pages.add(seqs[at], is_kept=False)

    def _open_source(self, name: str) -> ByteSource | None:
        """The file of this name: most blocks stand in the one that the last stood in."""
        if self._opened is None or self._opened[0] != name:
            self._opened = name, self._files.open(name)
        return self._opened[1]


_PAGES = bytes(tag == MemoryPages.tag for tag in range(256))


def _resolve_payload(resolver: PageResolver, seq: int, tag: int, payload: bytes) -> bytes:
    return resolver.resolve_payload(seq, payload)

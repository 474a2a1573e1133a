"""Filter: copy the events that match a query to a new journal, with their sequence numbers and
times.

Blocks that pass whole are copied unchanged, and the passing events of other blocks form new blocks.
If no event of a block passes, only the tags are read, to count the dropped events. A page
reference of a kept event to a dropped event is replaced by the page.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from journal._arguments import check_flag, check_optional, check_path, check_type
from journal.errors import FormatError, MalformedEvent
from journal.events.memory import MemoryPages
from journal.events.process import ProcessStart
from journal.format.block import Block, BlockHeader
from journal.format.block_header import BLOCK_HEADER_SIZE
from journal.format.columns import find_ones
from journal.format.tag_partition import partition_tags
from journal.fs.byte_source import ByteSource
from journal.log import scan
from journal.log.declarations import read_declarations
from journal.log.reader import Reader
from journal.log.segment_files import SegmentFiles
from journal.log.summary import summarize
from journal.pages import PageResolver
from journal.pages.dropped_pages import DroppedPages, LazyPageResolver
from journal.query.compiler import NO_TIMES
from journal.query.fields import BUILT_IN, Vocabulary
from journal.query.literals import JournalTimes
from journal.query.selection import Query, QueryFilter
from journal.rewrite.block_copier import check_new_journal
from journal.rewrite.output_journal import OutputJournal, ResumeFlag
from journal.rewrite.progress import ProgressCallback, ProgressScan, check_progress
from journal.snapshots.resumability import ResumabilityAnalysis
from journal.snapshots.resume_flags import GAPS_ALLOWED, NOT_RESUMABLE


@dataclass(frozen=True, slots=True)
class FilterResult:
    """Counts of kept and dropped events, and the resumability of the new journal.

    ``size`` is that of the source in bytes, ``written`` that of the ``blocks`` written, 0 for a dry
    run without ``measure_size``. ``blocks_copied`` were copied unchanged, ``blocks_skipped`` were
    not read. ``kept`` and ``dropped`` count events by tag.
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
        """Number of kept events."""
        return sum(self.kept.values())

    @property
    def events_dropped(self) -> int:
        """Number of dropped events."""
        return sum(self.dropped.values())


def filter(  # The command has the same name.
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None,
    query: Query,
    *,
    keep: bool = True,
    keep_preamble: bool = True,
    measure_size: bool = False,
    progress: ProgressCallback | None = None,
) -> FilterResult:
    """Write the events of ``source`` that match ``query`` to ``target``.

    Without ``keep``, write all other events.

    Sequence numbers, times and the journal id do not change. With ``keep_preamble``, the events
    that identify the program are always kept, and a Seal is always dropped. If a resume would not
    notice the missing events, the new journal is flagged as not resumable.

    Without a ``target`` nothing is written, and the counts are returned. ``measure_size`` then
    computes the size of the new journal, which takes as long as writing it. ``target`` is a new
    file, which gets its name when it is complete and durable. Raises OptionError if it exists or
    would be part of the source, and a FormatError for damage.
    """
    path, new = check_path("source", source), check_optional("target", target, check_path)
    check_type("query", query, Query)
    check_flag("keep", keep)
    check_flag("keep_preamble", keep_preamble)
    check_flag("measure_size", measure_size)
    report = check_progress(progress)
    if new is not None:
        check_new_journal(new, [path])
    with closing(SegmentFiles(path)) as files:
        needs_times = query.since is not None or query.until is not None or query.where is not None
        if query.where is not None and query.vocabulary is BUILT_IN:
            query = replace(query, vocabulary=Vocabulary(read_declarations(files).kinds))
        # The first and last time need a scan of all headers, which takes as long as the rest.
        times = _read_times(files) if needs_times else NO_TIMES
        make_filter = partial(
            QueryFilter,
            query,
            times,
            keep=keep,
            keep_preamble=keep_preamble,
            on_malformed=partial(_passes_malformed, path, keep),
        )
        if new is None and not measure_size:
            return _FilterPass(files, make_filter(), "looking").run(report)
        return _write_events(files, new, make_filter, report)


def _passes_malformed(source: Path, keep: bool, error: MalformedEvent) -> bool:
    """Return whether an event passes whose payload does not fit its kind."""
    with Reader(source) as reader:
        if reader.records_process():
            raise error
    return not keep  # An event of an application has none of the fields in the query.


def _write_events(
    files: SegmentFiles,
    path: Path | None,
    make_filter: Callable[[], QueryFilter],
    report: ProgressCallback,
) -> FilterResult:
    """Write the kept events in one pass; in two if too many precede the decision on the flag."""
    may_flag = make_filter().may_pass(ProcessStart.tag)
    with LazyPageResolver(files.path) as pages:
        with OutputJournal(path, buffered=may_flag) as output:
            subject = "looking" if may_flag else "filtering"
            first = _FilterPass(files, make_filter(), subject, output, pages)
            result = first.run(report)
            if not output.is_overfull:
                return _publish(output, result, first.flag)
        with OutputJournal(path, flag=first.flag) as output:
            second = _FilterPass(files, make_filter(), "filtering", output, pages)
            return _publish(output, second.run(report))


def _publish(
    output: OutputJournal, result: FilterResult, flag: ResumeFlag | None = None
) -> FilterResult:
    output.publish(flag)
    return replace(
        result, written=output.size, blocks=output.blocks, blocks_copied=output.blocks_whole
    )


def _read_times(files: SegmentFiles) -> JournalTimes:
    summary = summarize(files)
    return JournalTimes(summary.first_time, summary.last_time)


class _FilterPass:
    """One pass of a journal through a filter to ``target``; without a target, events are only
    counted.

    ``pages`` resolves page references of kept events to dropped events.
    """

    def __init__(
        self,
        files: SegmentFiles,
        query_filter: QueryFilter,
        what: str,
        target: OutputJournal | None = None,
        pages: LazyPageResolver | None = None,
    ) -> None:
        self._files = files
        self._filter = query_filter
        self._what = what
        self._target = target
        self._pages = pages
        # Without a kept MemoryPages event there is no reference to resolve.
        self._keeps_pages = target is not None and query_filter.may_pass(MemoryPages.tag)
        self._dropped_pages = DroppedPages()
        self._analysis = ResumabilityAnalysis()
        self._blocks_skipped = 0
        self._open_file: tuple[str, ByteSource | None] | None = None

    def run(self, report: ProgressCallback) -> FilterResult:
        """Write the events that pass, and return the result."""
        blocks = ProgressScan(report, self._what, self._needs_block)
        is_begun = False

        def set_journal_id(_: scan.Segment) -> None:
            if self._target is not None:
                self._target.journal_id = blocks.journal_id

        items = blocks.items(self._files)
        for scanned in scan.take_blocks(items, on_segment=set_journal_id):
            if scanned.header.frame_count:
                self._add(scanned)
                if not is_begun:
                    is_begun = True
                    self._release_unless_process()
        analysis = self._analysis
        return FilterResult(
            journal_id=blocks.journal_id or bytes(16),
            size=blocks.size,
            written=0,
            blocks=0,
            blocks_copied=0,
            blocks_skipped=self._blocks_skipped,
            kept=analysis.kept,
            dropped=analysis.dropped,
            next_seq=analysis.next_seq,
            resumable=analysis.result.resumable,
            reason=analysis.result.reason,
        )

    def _release_unless_process(self) -> None:
        """Release the buffered blocks of a journal without a process, which never gets a flag."""
        has_process = (
            ProcessStart.tag in self._analysis.kept or ProcessStart.tag in self._analysis.dropped
        )
        if self._target is not None and not has_process:
            self._target.release()

    @property
    def flag(self) -> ResumeFlag | None:
        """Resume flag of the new journal, its name and its reason, or None."""
        analysis = self._analysis
        if analysis.needs_not_resumable_flag:
            return NOT_RESUMABLE, analysis.result.reason
        if analysis.result.resumable and analysis.has_gaps:
            return GAPS_ALLOWED, analysis.result.reason
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
        """Filter a block that may have passing events."""
        block = item.block()
        mask = self._filter.compute_mask(block)
        self._analysis.add_block(*partition_tags(block.tags, mask), block.seqs, block.payload)
        if self._target is not None and not self._target.is_overfull:
            self._write(block, mask, self._target)

    def _write(self, block: Block, mask: bytes, target: OutputJournal) -> None:
        referring = (
            self._dropped_pages.find_referring_events(block, mask)
            if self._keeps_pages
            else frozenset()
        )
        if referring:
            self._write_resolved(block, mask, referring, target)
        elif 0 not in mask:
            target.add_block(block)
        elif 1 in mask:
            target.add_events(block, find_ones(mask))

    def _write_resolved(
        self, block: Block, mask: bytes, referring: frozenset[int], target: OutputJournal
    ) -> None:
        """Write events one by one, because an event grows when its page references are resolved."""
        assert self._pages is not None
        resolver = self._pages.resolver
        for index in find_ones(mask):
            seq = block.seq(index)
            change = partial(_resolve_payload, resolver, seq) if seq in referring else None
            target.add_events(block, [index], change)

    def _skip_block(self, item: scan.ScannedBlock) -> None:
        """Count the events of a block without passing events from its tag column."""
        header, count = item.header, item.header.frame_count
        self._blocks_skipped += 1
        source = self._open_source(item.segment.name)
        tags = b""
        if header.is_sealed:  # The scan has opened it.
            tags = item.block().tags
        elif source is not None:
            start = item.offset + BLOCK_HEADER_SIZE + header.payload_size
            tags_at = start if header.has_equal_sizes else start + 4 * count
            tags = source[tags_at : tags_at + count]
        seqs: Sequence[int] = range(item.first_seq, item.first_seq + count)
        if header.has_seqs:  # A block with a column of sequence numbers is always read.
            seqs = item.block().seqs
        self._analysis.add_dropped_block(tags, seqs)
        if self._keeps_pages and MemoryPages.tag in tags:
            for index in find_ones(tags.translate(_PAGES)):
                self._dropped_pages.add(seqs[index], is_kept=False)

    def _open_source(self, name: str) -> ByteSource | None:
        """Return the file with this name. Most blocks are in the file of the previous block."""
        if self._open_file is None or self._open_file[0] != name:
            self._open_file = name, self._files.open(name)
        return self._open_file[1]


_PAGES = bytes(tag == MemoryPages.tag for tag in range(256))


def _resolve_payload(resolver: PageResolver, seq: int, tag: int, payload: bytes) -> bytes:
    return resolver.resolve_payload(seq, payload)

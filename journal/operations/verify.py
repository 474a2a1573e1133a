"""Checking a journal: every hash, the chain and every event; interruptible, and gone on with."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Self

from journal.errors import (
    DamagedJournal,
    FormatError,
    MalformedEvent,
    OptionError,
    UnknownEvent,
)
from journal.events import codec
from journal.events.memory import MemoryPages, PageKind
from journal.format.block import Block, BlockHeader, compute_tag_bitmap
from journal.format.frame import Frame
from journal.log import scan
from journal.log.reader import Reader
from journal.log.segment_files import SegmentFiles
from journal.log.summary import Finding, check_block
from journal.pages.resolver import PageResolver, has_references
from journal.rewrite.progress import ProgressCallback, ProgressScan, ignore_progress

_PAGES = compute_tag_bitmap({MemoryPages.tag})


@dataclass(slots=True)
class VerifyCounts:
    """What a check has counted; sizes are bytes.

    ``findings`` are the things that are wrong, ``gaps`` those of them that cost bytes: these bytes
    are ``lost_size``, and the events in them ``lost_events``, as far as anything tells.
    ``named_pages`` were looked up where their bytes are said to stand.
    """

    segments: int = 0
    blocks: int = 0
    events: int = 0
    unknown_events: int = 0
    findings: int = 0
    gaps: int = 0
    lost_events: int = 0
    lost_size: int = 0
    debris_count: int = 0
    debris_size: int = 0
    referenced_pages: int = 0


class VerifyCursor(NamedTuple):
    """Where a check was stopped: behind the block at ``offset`` of a file, and what it knew then.

    ``digest`` is the hash in that block's header. The text of it is for ``parse`` alone to read.
    """

    file: int
    offset: int
    digest: int
    counts: VerifyCounts

    def __str__(self) -> str:
        counts = (getattr(self.counts, one.name) for one in fields(VerifyCounts))
        return "-".join(f"{number:x}" for number in (self.file, self.offset, self.digest, *counts))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a cursor; OptionError when it is none."""
        try:
            file, offset, digest, *counts = (int(part, 16) for part in text.split("-"))
            names = (one.name for one in fields(VerifyCounts))
            return cls(file, offset, digest, VerifyCounts(**dict(zip(names, counts, strict=True))))
        except ValueError:
            raise OptionError(f"{text!r} is not a cursor that a check has given") from None


class Verifier:
    """One check of a journal; ``figures`` grow as it runs.

    ``tail`` is where the journal ends, None until then, and ``cursor`` where a check that was
    stopped goes on. With ``decode`` off, events are not looked into; with ``pages``, each page of
    memory is looked up that is named, and not given.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        cursor: VerifyCursor | None = None,
        decode: bool = True,
        pages: bool = False,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.counts = replace(cursor.counts) if cursor else VerifyCounts()
        self.tail: scan.Tail | None = None
        self.cursor: VerifyCursor | None = None
        self.size = 0
        self._path = path
        self._start = cursor
        self._decode = decode
        self._pages = _ReferenceChecker(path) if pages else None
        self._progress = progress or ignore_progress

    def run(self, stop: Callable[[], bool] | None = None) -> Iterator[Finding | scan.Debris]:
        """Give what is wrong, and the debris of crashes; a block at a time, until ``stop`` says so.

        At least one block is. Raises a FormatError where there is nothing to begin with, and
        OptionError when the journal has no block where the cursor is.
        """
        with closing(SegmentFiles(self._path)) as files:
            walk = ProgressScan(files, self._progress, "checking", self._needs_body)
            try:
                for item in self._skip_to_cursor(walk.items()):
                    self.size = walk.size
                    yield from self._check(item)
                    if isinstance(item, scan.ScannedBlock) and stop is not None and stop():
                        self.cursor = self._make_cursor(item)
                        return
            except FormatError as error:
                if not self.size:
                    raise
                self.counts.findings += 1
                yield Finding(error.offset, 0, 0, -1, error)
            finally:
                if self._pages is not None:
                    self._pages.close()

    def _needs_body(self, place: scan.Segment, header: BlockHeader, first_seq: int) -> bool:
        behind = self._start
        here = (place.file, place.offset + header.offset)
        return behind is None or here > (behind.file, behind.offset)

    def _make_cursor(self, item: scan.ScannedBlock) -> VerifyCursor:
        return VerifyCursor(item.segment.file, item.offset, item.header.hash, replace(self.counts))

    def _skip_to_cursor(self, items: Iterator[scan.ScanItem]) -> Iterator[scan.ScanItem]:
        """Pass over what was checked before."""
        behind = self._start
        for item in items:
            if behind is None:
                yield item
            elif isinstance(item, scan.ScannedBlock):
                here = (item.segment.file, item.offset)
                if here == (behind.file, behind.offset) and item.header.hash == behind.digest:
                    behind = None
        if behind is not None:
            raise OptionError(f"{self._path} has no block where the cursor stands: begin anew")

    def _check(self, item: scan.ScanItem) -> Iterator[Finding | scan.Debris]:
        figures = self.counts
        if isinstance(item, scan.ScannedBlock):
            figures.blocks += 1
            figures.events += item.header.frame_count
            for finding in check_block(item, self._decode):
                if self._count_finding(finding):
                    yield finding
            if self._pages is not None:
                for finding in self._pages.find_wrong_references(item, figures):
                    figures.findings += 1
                    yield finding
        elif isinstance(item, scan.Segment):
            figures.segments += 1
            if self.tail is not None and self.tail.torn_size:
                # a later segment stands behind it: the crash that left it is long over
                debris = scan.Debris(self.tail.offset, self.tail.torn_size, self.tail.segment.name)
                yield self._count_debris(debris)
            self.tail = None
        elif isinstance(item, scan.Debris):
            yield self._count_debris(item)
        elif isinstance(item, scan.Damage):
            offset, size, first, last, *_ = item
            figures.gaps += 1
            figures.lost_size += size
            figures.lost_events += max(0, last - first + 1)
            figures.findings += 1
            yield Finding(offset, size, first, last, item.error())
        else:
            self.tail = item

    def _count_finding(self, finding: Finding) -> bool:
        """Count it; whether it is wrong: events of a later version are not."""
        if isinstance(finding.error, UnknownEvent):
            self.counts.unknown_events += 1
            return False
        self.counts.findings += 1
        if isinstance(finding.error, DamagedJournal):
            self.counts.gaps += 1
            self.counts.lost_size += finding.size
            self.counts.lost_events += max(0, finding.last_seq - finding.first_seq + 1)
        return True

    def _count_debris(self, debris: scan.Debris) -> scan.Debris:
        self.counts.debris_count += 1
        self.counts.debris_size += debris.size
        return debris


class _ReferenceChecker:
    """Looks up the pages that events of memory name; the journal is opened once one does."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._reader: Reader | None = None
        self._resolver = PageResolver(self._find)

    def close(self) -> None:
        """Let go of the journal."""
        if self._reader is not None:
            self._reader.close()

    def find_wrong_references(
        self, item: scan.ScannedBlock, figures: VerifyCounts
    ) -> Iterator[Finding]:
        """Give the references of a whole block that lead nowhere, or to other bytes.

        What is wrong with its payloads is for others to tell.
        """
        if not item.header.tag_bitmap & _PAGES:
            return
        with suppress(FormatError):
            block = Block(item.header, item.body, item.first_seq, item.offset)
            for seq, _, payload in block.rows(block.select({MemoryPages.tag})):
                for reason in self._explain_wrong_references(seq, payload, figures):
                    error = MalformedEvent(reason, item.offset, item.segment.name)
                    yield Finding(item.offset, item.header.size, seq, seq, error)

    def _explain_wrong_references(
        self, seq: int, payload: bytes, figures: VerifyCounts
    ) -> Iterator[str]:
        if not has_references(payload):
            return
        with suppress(FormatError):
            event = codec.decode(MemoryPages.tag, payload)
            assert isinstance(event, MemoryPages)
            figures.referenced_pages += event.kinds.count(PageKind.SAME)
            try:
                yield from (wrong.reason for wrong in self._resolver.find_errors(seq, event))
            except MalformedEvent as error:
                yield error.reason

    def _find(self, seq: int) -> Frame:
        if self._reader is None:
            self._reader = Reader(self._path)
        return self._reader.frame(seq)

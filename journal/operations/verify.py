"""Verification of every hash, the hash chain and every event, which can be stopped and resumed."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

from journal._arguments import (
    check_callable,
    check_flag,
    check_optional,
    check_path,
    check_text,
    check_type,
)
from journal.errors import (
    DamagedJournal,
    FormatError,
    MalformedEvent,
    OptionError,
    UnknownEvent,
)
from journal.events import codec
from journal.events.memory import MemoryPages, PageKind
from journal.format.block import BlockHeader, compute_tag_bitmap
from journal.format.frame import Frame
from journal.log import scan
from journal.log.reader import Reader
from journal.log.segment_files import SegmentFiles
from journal.log.summary import Finding, check_block
from journal.pages.resolver import PageResolver, has_references
from journal.rewrite.progress import ProgressCallback, ProgressScan, check_progress

_PAGES = compute_tag_bitmap({MemoryPages.tag})


@dataclass(slots=True)
class VerifyCounts:
    """Counts of a verification; sizes are bytes.

    ``findings`` counts all errors, ``gaps`` the errors that lose bytes. These bytes are
    ``lost_size``, and the events in them ``lost_events``, as far as known. ``referenced_pages``
    counts the page references that were resolved.
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
    """Position at which a verification stopped: after the block at ``offset`` of a file.

    ``digest`` is the hash in the header of this block. The text form is opaque: only ``parse``
    reads it.
    """

    file: int
    offset: int
    digest: int
    counts: VerifyCounts

    def __str__(self) -> str:
        values = (getattr(self.counts, field.name) for field in fields(VerifyCounts))
        return "-".join(f"{number:x}" for number in (self.file, self.offset, self.digest, *values))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the cursor for its text form. Raises OptionError if the text is malformed."""
        check_text("cursor", text)
        try:
            file, offset, digest, *counts = (int(part, 16) for part in text.split("-"))
            names = (field.name for field in fields(VerifyCounts))
            return cls(file, offset, digest, VerifyCounts(**dict(zip(names, counts, strict=True))))
        except ValueError:
            raise OptionError(
                f"{text[:80]!r} is not a cursor; pass the cursor of a stopped verification"
            ) from None


class Verifier:
    """Verification of a journal; ``counts`` grow during the run.

    ``tail`` is the end of the journal, None until it is reached. ``cursor`` is the position from
    which a stopped verification resumes. With ``decode`` off, event payloads are not decoded. With
    ``pages``, each page reference is resolved. With ``headers``, only hashes and links are checked,
    which needs no key of a sealed journal.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        cursor: VerifyCursor | None = None,
        decode: bool = True,
        pages: bool = False,
        headers: bool = False,
        progress: ProgressCallback | None = None,
    ) -> None:
        self._path = check_path("path", path)
        self._start = check_optional("cursor", cursor, check_type, VerifyCursor)
        self._decode = check_flag("decode", decode)
        self._headers = check_flag("headers", headers)
        self._pages = _ReferenceChecker(self._path) if check_flag("pages", pages) else None
        self._progress = check_progress(progress)
        self.counts = VerifyCounts() if cursor is None else replace(cursor.counts)
        self.tail: scan.Tail | None = None
        self.cursor: VerifyCursor | None = None
        self.size = 0

    def run(self, stop: Callable[[], bool] | None = None) -> Iterator[Finding | scan.Debris]:
        """Yield findings and crash debris, until a block ends and ``stop`` returns true.

        At least one block is checked per call. Raises a FormatError if the file contains no journal
        segment, and OptionError if the journal has no block at the cursor.
        """
        check_optional("stop", stop, check_callable)
        return self._run(stop)

    def _run(self, stop: Callable[[], bool] | None) -> Iterator[Finding | scan.Debris]:
        with closing(SegmentFiles(self._path)) as files:
            blocks = ProgressScan(self._progress, "checking", self._needs_body)
            try:
                for item in self._skip_to_cursor(blocks.items(files)):
                    self.size = blocks.size
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

    def _needs_body(self, segment: scan.Segment, header: BlockHeader, first_seq: int) -> bool:
        start = self._start
        position = (segment.file, segment.offset + header.offset)
        return start is None or position > (start.file, start.offset)

    def _make_cursor(self, item: scan.ScannedBlock) -> VerifyCursor:
        return VerifyCursor(item.segment.file, item.offset, item.header.hash, replace(self.counts))

    def _skip_to_cursor(self, items: Iterator[scan.ScanItem]) -> Iterator[scan.ScanItem]:
        """Skip the blocks that were checked before."""
        start = self._start
        for item in items:
            if start is None:
                yield item
            elif isinstance(item, scan.ScannedBlock):
                position = (item.segment.file, item.offset)
                if position == (start.file, start.offset) and item.header.hash == start.digest:
                    start = None
        if start is not None:
            raise OptionError(
                f"{self._path} has no block at the cursor: the journal has changed, verify it "
                "without a cursor"
            )

    def _check(self, item: scan.ScanItem) -> Iterator[Finding | scan.Debris]:
        counts = self.counts
        if isinstance(item, scan.ScannedBlock):
            counts.blocks += 1
            counts.events += item.header.frame_count
            for finding in () if self._headers else check_block(item, self._decode):
                if self._count_finding(finding):
                    yield finding
            if self._pages is not None:
                for finding in self._pages.find_wrong_references(item, counts):
                    counts.findings += 1
                    yield finding
        elif isinstance(item, scan.Segment):
            counts.segments += 1
            if self.tail is not None and self.tail.torn_size:
                # A later segment follows, so this torn tail is the debris of an earlier crash.
                debris = scan.Debris(self.tail.offset, self.tail.torn_size, self.tail.segment.name)
                yield self._count_debris(debris)
            self.tail = None
        elif isinstance(item, scan.Debris):
            yield self._count_debris(item)
        elif isinstance(item, scan.Damage):
            offset, size, first, last, *_ = item
            counts.gaps += 1
            counts.lost_size += size
            counts.lost_events += max(0, last - first + 1)
            counts.findings += 1
            yield Finding(offset, size, first, last, item.error())
        else:
            self.tail = item

    def _count_finding(self, finding: Finding) -> bool:
        """Count a finding, and return whether it is an error.

        An event of a later version is no error, and neither is a payload of an application under a
        tag of this project.
        """
        if isinstance(finding.error, UnknownEvent) or (
            isinstance(finding.error, MalformedEvent) and not self._records_process
        ):
            self.counts.unknown_events += 1
            return False
        self.counts.findings += 1
        if isinstance(finding.error, DamagedJournal):
            self.counts.gaps += 1
            self.counts.lost_size += finding.size
            self.counts.lost_events += max(0, finding.last_seq - finding.first_seq + 1)
        return True

    @cached_property
    def _records_process(self) -> bool:
        try:
            with Reader(self._path) as reader:
                return reader.records_process()
        except FormatError:
            return True

    def _count_debris(self, debris: scan.Debris) -> scan.Debris:
        self.counts.debris_count += 1
        self.counts.debris_size += debris.size
        return debris


class _ReferenceChecker:
    """Resolver of page references. The journal is opened at the first reference."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: Reader | None = None
        self._resolver = PageResolver(self._find)

    def close(self) -> None:
        """Close the journal."""
        if self._reader is not None:
            self._reader.close()

    def find_wrong_references(
        self, item: scan.ScannedBlock, counts: VerifyCounts
    ) -> Iterator[Finding]:
        """Yield a finding for each page reference of a block that cannot be resolved.

        Malformed payloads are skipped: the check of the block reports them.
        """
        if not item.header.tag_bitmap & _PAGES:
            return
        with suppress(FormatError):
            block = item.block()
            for seq, _, payload in block.rows(block.select({MemoryPages.tag})):
                for reason in self._explain_wrong_references(seq, payload, counts):
                    error = MalformedEvent(reason, item.offset, item.segment.name)
                    yield Finding(item.offset, item.header.size, seq, seq, error)

    def _explain_wrong_references(
        self, seq: int, payload: bytes, counts: VerifyCounts
    ) -> Iterator[str]:
        if not has_references(payload):
            return
        with suppress(FormatError):
            event = codec.decode(MemoryPages.tag, payload)
            assert isinstance(event, MemoryPages)
            counts.referenced_pages += event.kinds.count(PageKind.SAME)
            try:
                yield from (error.reason for error in self._resolver.find_errors(seq, event))
            except MalformedEvent as error:
                yield error.reason

    def _find(self, seq: int) -> Frame:
        if self._reader is None:
            self._reader = Reader(self._path)
        return self._reader.frame(seq)

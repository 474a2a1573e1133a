"""Scan of the segment files of a journal: segments, blocks, debris, damage and the tail.

The rules are those of spec/format.md, "What a reader concludes". Reader and Writer both use this
scan, so that a writer resumes exactly after the last event that a reader yields.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import chain, pairwise
from typing import Any, NamedTuple, NoReturn

from journal.errors import (
    CorruptBlock,
    DamagedJournal,
    FormatError,
    MissingEvents,
    NotAJournal,
)
from journal.format import segment_header
from journal.format.block import BlockHeader
from journal.format.segment_header import SegmentHeader
from journal.fs.byte_source import Bytes, ByteSource
from journal.log.header_scan import HashBudget, HeaderScan, Segment
from journal.log.scan_items import BodySelector, Damage, Debris, ScanItem, ScannedBlock, Tail
from journal.log.seal_chain import SealChain, make_forged_items
from journal.log.seal_keys import KeyedSource, ReadingKeys, choose_reading_keys
from journal.log.segment_scan import SegmentScanner

__all__ = [
    "BodySelector",
    "Damage",
    "Debris",
    "RecoveryMode",
    "ScanItem",
    "ScannedBlock",
    "Segment",
    "Tail",
    "headers_only",
    "ignore",
    "raise_damage",
    "scan_files",
    "select_all",
    "take_blocks",
]


class RecoveryMode(StrEnum):
    """Defects of a journal that are accepted when it is opened.

    Importable as ``journal.log.RecoveryMode``.
    """

    STRICT = "strict"
    """Accept only debris that a later block explains."""
    TOLERATE_TAIL = "tolerate-tail"
    """Also accept a torn tail, which every crash leaves."""
    POINT_IN_TIME = "point-in-time"
    """Also accept damage that a crash explains, of bytes that no sync had acknowledged: the journal
    ends before them."""
    SALVAGE = "salvage"
    """Accept everything, in readers only: they skip lost events."""


def headers_only(segment: Segment, header: BlockHeader, first_seq: int) -> bool:
    """Select no body: a BodySelector."""
    return False


def select_all(segment: Segment, header: BlockHeader, first_seq: int) -> bool:
    """Select every body: a BodySelector."""
    return True


def scan_files(
    sources: Iterable[Bytes],
    select_body: BodySelector,
    verify: bool = True,
    resume_after: Tail | None = None,
    *,
    from_middle: bool = False,
) -> Iterator[ScanItem]:
    """Yield the segments of a journal's files in order, each followed by its blocks and defects.

    Each segment ends with a Tail. With ``resume_after``, the scan continues where an earlier scan
    ended; the first of ``sources`` is then the file of that tail. ``from_middle`` states that the
    journal has files before the first of ``sources``. Without ``verify``, selected bodies are read
    but not hashed. Raises a FormatError only if no segment can be read at all.
    """
    before: Segment | None = resume_after.segment if resume_after else None
    next_seq = resume_after.next_seq if resume_after else None
    seals = SealChain(is_start=not from_middle and resume_after is None)
    for current, following in pairwise(chain(_find_segments(sources, resume_after), [None])):
        assert current is not None, "only the last one of a chain is followed by None"
        if isinstance(current, _UnreadableSegment):
            damage = current.damage(before, next_seq or 0, following)
            next_seq = damage.last_seq + 1
            yield damage
            continue
        if not resume_after and not from_middle and next_seq is None:
            yield from _check_first(current.segment)
        if resume_after:
            shift, next_seq = resume_after.segment.shift, resume_after.next_seq
            segment = current.segment._replace(shift=shift, seal=resume_after.segment.seal)
            forgery = None
        else:
            segment, next_seq = _assign_seqs(current.segment, before, next_seq)
            segment, forgery = seals.unseal(current.data, segment, _keys_of(current.data))
        if isinstance(following, _ReadableSegment) and following.segment.header.continues(
            segment.header
        ):
            segment = _set_continuation(segment, following.segment)
        before = segment
        yield segment
        if forgery is not None:
            yield from make_forged_items(segment, forgery, next_seq)
            continue
        scanner = current.make_scanner(segment, next_seq, select_body, verify=verify)
        if resume_after:
            scanner.start_after(resume_after)
            resume_after = None
        yield from scanner.run()
        next_seq = scanner.next_seq
        seals.end(current.data, segment, scanner.link)


def _keys_of(data: Bytes) -> ReadingKeys:
    """Return the keys with which the file was opened."""
    return data.keys if isinstance(data, KeyedSource) else choose_reading_keys(None)


def ignore(item: ScanItem) -> None:
    """Do nothing: a handler of ``take_blocks``."""


def raise_damage(damage: Damage, *_: object) -> NoReturn:
    """Raise the error of a damage: a handler of ``take_blocks``."""
    raise damage.error()


def take_blocks(
    items: Iterable[ScanItem],
    *,
    on_damage: Callable[[Damage], object] = raise_damage,
    on_segment: Callable[[Segment], object] = ignore,
    on_debris: Callable[[Debris], object] = ignore,
    on_tail: Callable[[Tail], object] = ignore,
) -> Iterator[ScannedBlock]:
    """Yield the blocks of a scan, and pass each of its other items to its handler, in order.

    ``on_damage`` is the policy for damage: raise its error, ``ignore`` it, or collect it with the
    ``append`` of a list. The scan ends where a handler returns true.
    """
    handlers: dict[type, Callable[[Any], object]] = {
        Segment: on_segment,
        Debris: on_debris,
        Damage: on_damage,
        Tail: on_tail,
    }
    for item in items:
        if isinstance(item, ScannedBlock):
            yield item
        elif handlers[type(item)](item):
            return


class _ReadableSegment(NamedTuple):
    """A segment with a valid header, and the data and caches to scan it."""

    data: Bytes
    segment: Segment
    budget: HashBudget
    header_cache: dict[int, BlockHeader]

    def make_scanner(
        self, segment: Segment, next_seq: int, select_body: BodySelector, *, verify: bool
    ) -> SegmentScanner:
        """Return a scanner of the data of ``segment``, this segment with numbers assigned."""
        return SegmentScanner(
            self.data, segment, next_seq, select_body, verify, self.budget, self.header_cache
        )


class _UnreadableSegment(NamedTuple):
    """A file, or the beginning of a file, with an invalid or misplaced segment header."""

    error: FormatError
    offset: int
    size: int
    name: str
    is_misplaced: bool

    def damage(
        self,
        before: Segment | None,
        next_seq: int,
        following: "_ReadableSegment | _UnreadableSegment | None",
    ) -> Damage:
        """Return the damage, with the lost events as far as the next segment records them."""
        last_seq, open_ended = next_seq - 1, True
        if isinstance(following, _ReadableSegment):
            header, shift = following.segment.header, before.shift if before else 0
            if header.previous_hash and (before is None or header.continues(before.header)):
                last_seq = max(last_seq, header.first_seq + shift - 1)
                open_ended = self.is_misplaced
        error = self.error
        # A writer begins the next segment only when all of this one is durable. It names a file
        # only when its header is durable, so no crash leaves such a file.
        lost, is_file = last_seq >= next_seq, bool(self.name) and not self.offset
        kind = type(error) if not lost or isinstance(error, DamagedJournal) else CorruptBlock
        return Damage(
            self.offset,
            self.size,
            next_seq,
            last_seq,
            lost or (open_ended and is_file),
            error.reason,
            kind,
            (0, 0),
            self.name,
            open_ended,
        )


def _find_segments(
    sources: Iterable[Bytes], resume_after: Tail | None
) -> Iterator[_ReadableSegment | _UnreadableSegment]:
    first_error: FormatError | None = None
    has_readable, is_later = False, False
    before = resume_after.segment.header if resume_after else None
    first_file = resume_after.segment.file if resume_after else 0
    for file, (data, next_data) in enumerate(pairwise(chain(sources, [None])), first_file):
        assert data is not None, "only the last one of a chain is followed by None"
        next_header = _read_header(next_data)
        name = data.name if isinstance(data, ByteSource) else ""
        position, begin, size, budget = 0, None, len(data), HashBudget(len(data))
        if resume_after:
            position, begin, resume_after = resume_after.segment.offset, resume_after.offset, None
        while True:
            try:
                header = segment_header.read(data, position)
            except FormatError as error:
                first_error = first_error or error
                limit = segment_header.find(data, position + 1, size)
                if not name and not has_readable and limit == size:
                    raise
                yield _UnreadableSegment(error, position, limit - position, name, False)
            else:
                if is_later and (reason := segment_header.find_misplacement(header, before)):
                    yield _UnreadableSegment(MissingEvents(reason), 0, size, name, True)
                    break
                has_readable, before = True, header
                cache: dict[int, BlockHeader] = {}
                stop = _find_shared_end(header, next_header)
                segment = HeaderScan(data, position, size, header, budget, cache, stop).segment(
                    begin
                )
                limit, begin = segment.limit, None
                yield _ReadableSegment(data, segment._replace(file=file, name=name), budget, cache)
            position, is_later = limit, False
            if position >= size:
                break
        is_later = bool(name)
    if not has_readable:
        raise first_error or NotAJournal("the file contains no journal segment")


def _read_header(data: Bytes | None) -> SegmentHeader | None:
    """Return the first header of a file, None if there is no file or no valid header."""
    if data is None:
        return None
    try:
        return segment_header.read(data, 0)
    except FormatError:
        return None


def _find_shared_end(
    header: SegmentHeader, following: SegmentHeader | None
) -> tuple[int, int] | None:
    """Return the (end, hash) of the block that the next file continues, if it continues this one.

    > Why is it needed before the header scan? The writer of a shared file may have continued it on
    its own, and may have superseded blocks on which the next file relies.
    """
    if following is None or segment_header.find_misplacement(following, header):
        return None
    return following.previous_end, following.previous_hash


def _check_first(segment: Segment) -> Iterator[Damage]:
    """Yield damage if the first segment of a directory continues another segment."""
    header, name = segment.header, segment.name
    if name and header.previous_hash and not segment.offset:
        reason = "the first segment continues a segment that is missing"
        yield Damage(0, 0, 0, header.first_seq - 1, True, reason, MissingEvents, (0, 0), name)


def _assign_seqs(
    segment: Segment, before: Segment | None, next_seq: int | None
) -> tuple[Segment, int]:
    """Return the segment with ``shift`` set, and the sequence number of its first event."""
    header = segment.header
    if before is None or next_seq is None:
        return segment, header.first_seq
    if header.continues(before.header):
        return segment._replace(shift=before.shift), next_seq
    return segment._replace(shift=next_seq - header.first_seq), next_seq


def _set_continuation(segment: Segment, following: Segment) -> Segment:
    header = following.header
    return segment._replace(
        continuation=(header.previous_end, header.previous_hash),
        continuation_seq=header.first_seq + segment.shift,
    )

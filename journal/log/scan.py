"""What stands in the files of a journal: segments, and in them blocks, debris, damage and the tail.

The rules are those of spec/format.md, "What a reader concludes". Reader and Writer both walk here,
so that what one shows is what the other goes on from.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from journal.errors import (
    CorruptBlock,
    DamagedJournal,
    FormatError,
    MissingEvents,
    NotAJournal,
)
from journal.format import segment_header as segment
from journal.format.block import BlockHeader
from journal.fs.byte_source import Bytes, ByteSource
from journal.log.header_scan import HashBudget, HeaderScan, Segment
from journal.log.segment_scan import (
    BodySelector,
    Damage,
    Debris,
    ScanItem,
    ScannedBlock,
    SegmentScanner,
    Tail,
)

__all__ = [
    "BodySelector",
    "Damage",
    "Debris",
    "RecoveryMode",
    "ScanItem",
    "ScannedBlock",
    "Segment",
    "Tail",
    "scan_files",
]


class RecoveryMode(StrEnum):
    """What may be wrong with a journal that is opened."""

    STRICT = "strict"
    """Nothing but debris that a later block explains."""
    TOLERATE_TAIL = "tolerate-tail"
    """A torn tail as well, as every crash leaves one."""
    POINT_IN_TIME = "point-in-time"
    """Damage as well, where no sync had promised what is lost: all ends in front of it."""
    SALVAGE = "salvage"
    """Anything, for readers only: they pass over what is lost."""


def scan_files(
    sources: Iterable[Bytes],
    wants: BodySelector,
    verify: bool = True,
    behind: Tail | None = None,
    *,
    from_middle: bool = False,
) -> Iterator[ScanItem]:
    """Give what stands in the files of a journal, in their order.

    Each segment ends in a Tail. With ``behind``, the walk begins where an earlier one ended, and
    the first of ``sources`` is the file of that tail; ``from_middle`` says that there are files in
    front of the first. With ``verify`` off, wanted bodies are read and not hashed. Raises a
    FormatError only for what leaves nothing to go on with.
    """
    before: Segment | None = behind.segment if behind else None
    next_seq = behind.next_seq if behind else None
    for found, following in _pair_with_next(_find_segments(sources, behind)):
        if isinstance(found, _UnreadableSegment):
            damage = found.damage(before, next_seq or 0, following)
            next_seq = damage.last_seq + 1
            yield damage
            continue
        if not behind and not (from_middle and next_seq is None):
            yield from _check_predecessor(found.segment, before, next_seq)
        if behind:
            place, next_seq = found.segment._replace(shift=behind.segment.shift), behind.next_seq
        else:
            place, next_seq = _assign_seqs(found.segment, before, next_seq)
        if isinstance(following, _ReadableSegment) and following.segment.header.continues(
            place.header
        ):
            place = _set_continuation(place, following.segment)
        before = place
        yield place
        steps = SegmentScanner(
            found.data, place, next_seq, wants, verify, found.budget, found.header_cache
        )
        if behind:
            steps.start_after(behind)
            behind = None
        yield from steps.run()
        next_seq = steps.next_seq


class _ReadableSegment(NamedTuple):
    data: Bytes
    segment: Segment
    budget: HashBudget
    header_cache: dict[int, BlockHeader]


class _UnreadableSegment(NamedTuple):
    """A file, or the beginning of one, whose segment header is not to be believed."""

    error: FormatError
    offset: int
    size: int
    name: str

    def damage(
        self,
        before: Segment | None,
        next_seq: int,
        following: "_ReadableSegment | _UnreadableSegment | None",
    ) -> Damage:
        """Account for the events that are lost with it, as far as the next segment tells."""
        last_seq, open_ended = next_seq - 1, True
        if isinstance(following, _ReadableSegment):
            header, shift = following.segment.header, before.shift if before else 0
            if header.previous_hash and (before is None or header.continues(before.header)):
                last_seq, open_ended = max(last_seq, header.first_seq + shift - 1), False
        error = self.error
        lost = last_seq >= next_seq  # the next segment began when all of this one was durable
        kind = type(error) if not lost or isinstance(error, DamagedJournal) else CorruptBlock
        return Damage(
            self.offset,
            self.size,
            next_seq,
            last_seq,
            lost,
            error.reason,
            kind,
            (0, 0),
            self.name,
            open_ended,
        )


def _find_segments(
    sources: Iterable[Bytes], behind: Tail | None
) -> Iterator[_ReadableSegment | _UnreadableSegment]:
    first_error: FormatError | None = None
    seen = False
    for file, data in enumerate(sources, behind.segment.file if behind else 0):
        name = data.name if isinstance(data, ByteSource) else ""
        position, begin, size, budget = 0, None, len(data), HashBudget(len(data))
        if behind:
            position, begin, behind = behind.segment.offset, behind.offset, None
        while True:
            try:
                header = segment.read(data, position)
            except FormatError as error:
                first_error = first_error or error
                limit = segment.find(data, position + 1, size)
                if not name and not seen and limit == size:
                    raise
                yield _UnreadableSegment(error, position, limit - position, name)
            else:
                seen = True
                known: dict[int, BlockHeader] = {}
                place = HeaderScan(data, position, size, header, budget, known).segment(begin)
                limit, begin = place.limit, None
                yield _ReadableSegment(data, place._replace(file=file, name=name), budget, known)
            position = limit
            if position >= size:
                break
    if not seen:
        raise first_error or NotAJournal("there is no segment, nothing stands")


def _pair_with_next(
    items: Iterator[_ReadableSegment | _UnreadableSegment],
) -> Iterator[
    tuple[_ReadableSegment | _UnreadableSegment, _ReadableSegment | _UnreadableSegment | None]
]:
    """Give each with the one behind it."""
    held = next(items, None)
    while held is not None:
        following = next(items, None)
        yield held, following
        held = following


def _check_predecessor(
    place: Segment, before: Segment | None, next_seq: int | None
) -> Iterator[Damage]:
    """Give what is lost where a directory's segment continues one that is not in front of it."""
    header, name = place.header, place.name
    if not name or not header.previous_hash or place.offset:
        return
    if before is None and next_seq is None:
        reason = "the first segment continues one that does not stand before it"
        last_seq, open_ended = header.first_seq - 1, False
    elif before is not None and not header.continues(before.header):
        reason = "a segment continues another than the one before it"
        last_seq, open_ended = (next_seq or 0) - 1, True
    else:
        return
    first_seq = next_seq or 0
    yield Damage(0, 0, first_seq, last_seq, True, reason, MissingEvents, (0, 0), name, open_ended)


def _assign_seqs(
    place: Segment, before: Segment | None, next_seq: int | None
) -> tuple[Segment, int]:
    """Make a segment's numbers the journal's."""
    header = place.header
    if before is None or next_seq is None:
        return place, header.first_seq
    if header.continues(before.header):
        return place._replace(shift=before.shift), next_seq
    return place._replace(shift=next_seq - header.first_seq), next_seq


def _set_continuation(place: Segment, following: Segment) -> Segment:
    header = following.header
    return place._replace(
        continuation=(header.previous_end, header.previous_hash),
        continuation_seq=header.first_seq + place.shift,
    )

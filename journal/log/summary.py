"""Summary of a journal's headers, and findings of its verification."""

from collections.abc import Iterator
from typing import NamedTuple

from journal.errors import FormatError
from journal.log import scan
from journal.log.header_scan import Segment
from journal.log.segment_files import SegmentFiles


class Summary(NamedTuple):
    """Facts from the headers of a journal. Times are in µs since the epoch.

    Importable as ``journal.log.Summary``. ``last_seq`` is ``first_seq - 1`` if there are no events.
    ``debris`` holds (offset, size) pairs, without the ``superseded_size`` bytes of files that the
    next segment supersedes. Offsets are relative to the file. A later block records
    that all bytes below ``durable_upto`` were durable.
    """

    segments: int
    blocks: int
    events: int
    first_seq: int
    last_seq: int
    first_time: int
    last_time: int
    size: int
    tail: int
    torn_size: int
    debris: tuple[tuple[int, int], ...]
    damage: tuple[scan.Damage, ...]
    durable_upto: int
    journal_id: bytes
    created: int
    version: tuple[int, int]
    superseded_size: int = 0


class Finding(NamedTuple):
    """One defect, described by ``error``, which affects the events ``first_seq`` to ``last_seq``.

    Importable as ``journal.log.Finding``.
    """

    offset: int
    size: int
    first_seq: int
    last_seq: int
    error: FormatError


def summarize(files: SegmentFiles) -> Summary:
    """Summarize the headers of a journal, without reading the bodies of blocks."""
    segments: list[Segment] = []
    debris: list[scan.Debris] = []
    damage: list[scan.Damage] = []
    tails: list[scan.Tail] = []

    def add_segment(segment: Segment) -> None:
        segments.append(segment)
        if tails and tails[-1].torn_size:  # A segment follows, so a crash left these bytes.
            debris.append(scan.Debris(tails[-1].offset, tails[-1].torn_size))

    size, blocks, events = files.size, 0, 0
    first_time = last_time = None
    for scanned in scan.take_blocks(
        scan.scan_files(files.sources(files.names()), scan.headers_only),
        on_segment=add_segment,
        on_debris=debris.append,
        on_damage=damage.append,
        on_tail=tails.append,
    ):
        blocks += 1
        events += scanned.header.frame_count
        if scanned.header.frame_count:
            last_time = scanned.header.time_last
            first_time = scanned.header.time_first if first_time is None else first_time
    tail, header = tails[-1], segments[0].header
    return Summary(
        len(segments),
        blocks,
        events,
        header.first_seq,
        tail.next_seq - 1,
        first_time or header.created,
        last_time or header.created,
        size,
        tail.offset,
        tail.torn_size,
        tuple((one.offset, one.size) for one in debris if not one.is_superseded),
        tuple(damage),
        _find_durable_end(segments),
        header.journal_id,
        header.created,
        (header.major, header.minor),
        sum(one.size for one in debris if one.is_superseded),
    )


def find_time_spans(files: SegmentFiles) -> list[tuple[int, int]]:
    """Return the first and the last time of each part of a journal in which times do not go back.

    Times are in µs since the epoch. Only headers of blocks are read; damage is skipped.
    """
    spans: list[tuple[int, int]] = []
    items = scan.scan_files(files.sources(files.names()), scan.headers_only)
    for scanned in scan.take_blocks(items, on_damage=scan.ignore):
        header = scanned.header
        if not header.frame_count:
            continue
        first = header.time_first
        if spans and spans[-1][1] <= first:
            first = spans.pop()[0]
        spans.append((first, header.time_last))
    return spans


def find_last_block(files: SegmentFiles, time: int) -> scan.ScannedBlock | None:
    """Return the last block with an event that is not after ``time``, in µs since the epoch.

    Only headers of blocks are read; damage is skipped.
    """
    found = None
    items = scan.scan_files(files.sources(files.names()), scan.headers_only)
    for scanned in scan.take_blocks(items, on_damage=scan.ignore):
        if scanned.header.frame_count and scanned.header.time_first <= time:
            found = scanned
    return found


def _find_durable_end(segments: list[Segment]) -> int:
    """Return the offset up to which the last file is known to be durable; 0 if unknown."""
    return max(
        (
            segment.offset + segment.durable_upto
            for segment in segments
            if segment.durable_upto and segment.file == segments[-1].file
        ),
        default=0,
    )


def check_block(item: scan.ScannedBlock, decode: bool) -> Iterator[Finding]:
    """Yield defects of one whole block that its hashes do not detect."""
    header, name = item.header, item.segment.name
    last_seq = item.first_seq + header.frame_count - 1
    try:
        block = item.block()
        block.check()
        rows = list(block.rows()) if decode else []
    except FormatError as error:
        error.file = name
        yield Finding(item.offset, header.size, item.first_seq, last_seq, error)
        return
    if not rows:
        return
    from journal.events.codec import decode as decode_event  # Lazy, as in Reader.__iter__.

    for seq, tag, payload in rows:
        try:
            decode_event(tag, payload, item.offset)
        except FormatError as error:
            error.file = name
            yield Finding(item.offset, header.size, seq, seq, error)

"""What the headers of a journal say, and what is wrong with it, in one value each."""

from collections.abc import Iterator
from typing import NamedTuple

from journal.errors import FormatError
from journal.format.block import Block
from journal.log import scan
from journal.log.header_scan import Segment


class Summary(NamedTuple):
    """What the headers of a journal say; offsets are the file's, times µs since the epoch.

    ``last_seq`` is ``first_seq - 1`` when there are no events. ``debris`` holds offsets and sizes,
    ``durable_upto`` is the offset below which a later block knew all to be durable.
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


class Finding(NamedTuple):
    """One thing that is wrong: ``error`` says what, from ``first_seq`` to ``last_seq``."""

    offset: int
    size: int
    first_seq: int
    last_seq: int
    error: FormatError


def summarize(items: Iterator[scan.ScanItem], size: int) -> Summary:
    """Count what a walk over headers gives; ``size`` is that of all files."""
    segments: list[Segment] = []
    debris: list[tuple[int, int]] = []
    damage: list[scan.Damage] = []
    blocks = events = durable = 0
    first_time = last_time = None
    tail: scan.Tail | None = None
    for item in items:
        if isinstance(item, scan.ScannedBlock):
            blocks += 1
            events += item.header.frame_count
            if item.header.frame_count:
                last_time = item.header.time_last
                first_time = item.header.time_first if first_time is None else first_time
        elif isinstance(item, Segment):
            if segments and segments[-1].file != item.file:
                durable = 0  # an offset is that of the last file
            segments.append(item)
            durable = (
                max(durable, item.offset + item.durable_upto) if item.durable_upto else durable
            )
            if tail is not None and tail.torn_size:
                debris.append((tail.offset, tail.torn_size))
        elif isinstance(item, scan.Debris):
            debris.append((item.offset, item.size))
        elif isinstance(item, scan.Damage):
            damage.append(item)
        else:
            tail = item
    assert tail is not None
    header = segments[0].header
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
        tuple(debris),
        tuple(damage),
        durable,
        header.journal_id,
        header.created,
        (header.major, header.minor),
    )


def check_block(item: scan.ScannedBlock, decode: bool) -> Iterator[Finding]:
    """Check one whole block beyond its hashes."""
    header, name = item.header, item.segment.name
    last_seq = item.first_seq + header.frame_count - 1
    try:
        block = Block(header, item.body, item.first_seq, item.offset)
        block.check()
        rows = list(block.rows()) if decode else []
    except FormatError as error:
        error.file = name
        yield Finding(item.offset, header.size, item.first_seq, last_seq, error)
        return
    if not rows:
        return
    from journal.events.codec import decode as decode_event  # see Reader.__iter__

    for seq, tag, payload in rows:
        try:
            decode_event(tag, payload, item.offset)
        except FormatError as error:
            error.file = name
            yield Finding(item.offset, header.size, seq, seq, error)

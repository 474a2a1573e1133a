"""Summary of a journal's headers, and findings of its verification."""

from collections.abc import Iterator
from typing import NamedTuple

from journal.errors import FormatError
from journal.format.block import Block
from journal.log import scan
from journal.log.header_scan import Segment


class Summary(NamedTuple):
    """Facts from the headers of a journal. Times are in µs since the epoch.

    Importable as ``journal.log.Summary``. ``last_seq`` is ``first_seq - 1`` if there are no events.
    ``debris`` holds (offset, size) pairs. Offsets are relative to the file. A later block records
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


class Finding(NamedTuple):
    """One defect, described by ``error``, which affects the events ``first_seq`` to ``last_seq``.

    Importable as ``journal.log.Finding``.
    """

    offset: int
    size: int
    first_seq: int
    last_seq: int
    error: FormatError


def summarize(items: Iterator[scan.ScanItem], size: int) -> Summary:
    """Summarize the items of a header scan. ``size`` is the size of all files in bytes."""
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
                durable = 0  # The offset refers to the last file.
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
    """Yield defects of one whole block that its hashes do not detect."""
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
    from journal.events.codec import decode as decode_event  # Lazy, as in Reader.__iter__.

    for seq, tag, payload in rows:
        try:
            decode_event(tag, payload, item.offset)
        except FormatError as error:
            error.file = name
            yield Finding(item.offset, header.size, seq, seq, error)

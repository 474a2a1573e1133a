"""Exporting: a journal as JSON lines."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from journal.errors import NotAJournal
from journal.export.json_lines import End, Head, Row, end_line, event_line, head_line
from journal.export.redaction import Redaction, Secret
from journal.format import segment_header as segment
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.log.segment_files import SegmentFiles
from journal.rewrite.block_stream import BlockStream
from journal.rewrite.progress import ProgressCallback, ignore_progress


class Exported(NamedTuple):
    """What was exported; ``size`` is the bytes of the journal."""

    journal_id: bytes
    events: int
    next_seq: int
    size: int
    torn_size: int
    redacted: tuple[Secret, ...]


def export_lines(
    source: str | os.PathLike[str],
    out: BinaryIO,
    *,
    redact: Iterable[Secret] = (),
    progress: ProgressCallback | None = None,
) -> Exported:
    """Write the journal ``source`` to ``out`` as JSON lines, from which it can be made again.

    With ``redact``, contents of these kinds are replaced by their sizes and salted hashes. Refuses
    damage with what reading raises.
    """
    redaction = Redaction(redact)
    path = Path(source)
    out.write(head_line(head_of_journal(path, redaction.secrets)))
    walked = BlockStream(path, progress or ignore_progress, "exporting")
    events, next_seq = 0, 0
    for row in rows(walked):
        out.write(event_line(row, redaction))
        events, next_seq = events + 1, row.seq + 1
    out.write(end_line(End(events, next_seq)))
    return Exported(
        walked.journal_id,
        events,
        next_seq,
        walked.size,
        walked.torn_size,
        redaction.secrets,
    )


def rows(walked: BlockStream) -> Iterator[Row]:
    """Give the events of a journal, a block at a time."""
    for block in walked.blocks():
        yield from map(Row, block.seqs, block.times, block.tags, block.payloads())


def head_of_journal(path: Path, redacted: tuple[Secret, ...]) -> Head:
    """What stands at the beginning of a journal."""
    files = SegmentFiles(path)
    try:
        names = files.names()
        source = files.open(names[0]) if names else None
        if source is None or not len(source):
            raise NotAJournal(f"{path} is empty, nothing stands")
        header = segment.read(source[0:SEGMENT_HEADER_SIZE], 0)
    finally:
        files.close()
    return Head(header.journal_id, header.created, header.first_seq, redacted)

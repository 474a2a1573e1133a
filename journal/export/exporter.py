"""Export of a journal as JSON lines."""

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, NamedTuple

from journal._arguments import check_output, check_path
from journal.errors import NotAJournal
from journal.events.declared_kinds import RunningKinds
from journal.events.wire_types import Secret
from journal.export.json_lines import (
    ExportFooter,
    ExportHeader,
    ExportRow,
    format_footer,
    format_header,
    format_row,
)
from journal.export.redaction import Redaction
from journal.format import segment_header
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.log.declarations import read_declarations
from journal.log.segment_files import SegmentFiles
from journal.rewrite.block_stream import BlockStream
from journal.rewrite.progress import ProgressCallback, check_progress


class ExportResult(NamedTuple):
    """Result of an export; ``size`` is that of the journal in bytes."""

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
) -> ExportResult:
    """Write the journal ``source`` to ``out`` as JSON lines, from which it can be imported.

    Contents of the kinds in ``redact`` are replaced by their sizes and salted hashes. Damage raises
    the errors of reading the journal.
    """
    path = check_path("source", source)
    check_output("out", out)
    redaction = Redaction(redact)
    report = check_progress(progress)
    out.write(format_header(read_header(path, redaction.secrets)))
    stream = BlockStream(path, report, "exporting")
    running = read_kinds(path)
    events, next_seq = 0, 0
    for row in iterate_rows(stream):
        running.add(row.tag, row.payload)
        out.write(format_row(row, redaction, running.kinds))
        events, next_seq = events + 1, row.seq + 1
    out.write(format_footer(ExportFooter(events, next_seq)))
    return ExportResult(
        stream.journal_id,
        events,
        next_seq,
        stream.size,
        stream.torn_size,
        redaction.secrets,
    )


def read_kinds(path: Path) -> RunningKinds:
    """Return the kinds of a journal, to which its rows are added.

    A row has named fields only after its declaration, so that an import knows them too.
    """
    with closing(SegmentFiles(path)) as files:
        return RunningKinds(read_declarations(files).classes)


def iterate_rows(stream: BlockStream) -> Iterator[ExportRow]:
    """Yield the events of a journal, block by block."""
    for block in stream.blocks():
        yield from map(ExportRow, block.seqs, block.times, block.tags, block.payloads())


def read_header(path: Path, redacted: tuple[Secret, ...]) -> ExportHeader:
    """Return the export header of a journal from its first segment header."""
    files = SegmentFiles(path)
    try:
        names = files.names()
        source = files.open(names[0]) if names else None
        if source is None or not len(source):
            raise NotAJournal(f"{path} is empty: it contains no journal segment")
        header = segment_header.read(source[0:SEGMENT_HEADER_SIZE], 0)
    finally:
        files.close()
    return ExportHeader(header.journal_id, header.created, header.first_seq, redacted)

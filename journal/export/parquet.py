"""Export of a journal as one Parquet table, and import; needs the extra ``arrow``.

A row is an event: sequence number, time, tag, names of kind and group, payload size in bytes,
payload, and the fields in the JSON of the line export. The header is in the metadata.
"""

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from journal._arguments import check_output, check_path
from journal.errors import LimitExceeded, MalformedEvent, OptionError
from journal.events.declared_kinds import RunningKinds
from journal.events.wire_types import Secret
from journal.export.exporter import ExportResult, iterate_rows, read_header, read_kinds
from journal.export.importer import ImportResult, JournalImporter
from journal.export.json_lines import (
    ExportFooter,
    ExportRow,
    event_to_json,
    format_header,
    parse_header,
    parse_line,
    payload_from_json,
)
from journal.export.json_values import bytes_from_json
from journal.export.redaction import Redaction
from journal.rewrite.block_stream import BlockStream
from journal.rewrite.progress import ProgressCallback, check_progress

BATCH_SIZE = 1 << 23
"""Approximate size in bytes of the payloads in one row group, which is held in memory."""
BATCH_COUNT = 1 << 14
_READ_COUNT = 1 << 9

_HEAD_NAME = b"wasm-journal"
_COLUMNS = ("seq", "time", "tag", "kind", "group", "size", "payload", "fields")
_READ = ["seq", "time", "tag", "kind", "payload", "fields"]


def export_parquet(
    source: str | os.PathLike[str],
    out: BinaryIO,
    *,
    redact: Iterable[Secret] = (),
    progress: ProgressCallback | None = None,
) -> ExportResult:
    """Write the journal ``source`` to ``out`` as a Parquet file, from which it can be imported.

    With ``redact``, contents of these kinds are redacted in the fields, and no payloads are stored.
    Raises OptionError if pyarrow is not installed, and the errors of reading the journal.
    """
    path = check_path("source", source)
    check_output("out", out)
    redaction = Redaction(redact)
    report = check_progress(progress)
    arrow, parquet = _import_arrow()
    head = format_header(read_header(path, redaction.secrets)).rstrip()
    schema = _make_schema(arrow).with_metadata({_HEAD_NAME: head})
    stream = BlockStream(path, report, "exporting")
    running = read_kinds(path)
    events, next_seq = 0, 0
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        for batch in _group_rows(iterate_rows(stream)):
            cells = [_make_cells(row, redaction, running) for row in batch]
            columns = list(zip(*cells, strict=True))
            arrays = [
                arrow.array(column, field.type)
                for column, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
            events, next_seq = events + len(batch), batch[-1].seq + 1
    return ExportResult(
        stream.journal_id, events, next_seq, stream.size, stream.torn_size, redaction.secrets
    )


def import_parquet(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> ImportResult:
    """Write the journal that was exported to ``source`` to ``target``, as ``import_lines`` does.

    Raises MalformedEvent for a file that is not an export.
    """
    path, new = check_path("source", source), check_path("target", target)
    arrow, parquet = _import_arrow()
    try:
        with path.open("rb") as opened, parquet.ParquetFile(opened) as file:
            metadata = (file.schema_arrow.metadata or {}).get(_HEAD_NAME, b"null")
            header = parse_header(parse_line(metadata))
            if not set(_READ) <= set(file.schema_arrow.names):
                raise ValueError(f"the columns {', '.join(_READ)} are required")
            with JournalImporter(new, header) as importer:
                events, next_seq = _read_rows(file, importer)
                return importer.finish(ExportFooter(events, next_seq))
    except (arrow.ArrowException, ValueError) as error:
        raise MalformedEvent(
            f"not an export of a journal: {' '.join(str(error).split())}"
        ) from error


def _read_rows(file: Any, importer: JournalImporter) -> tuple[int, int]:
    """Read all rows into ``importer``, and return their count and the next sequence number."""
    events, next_seq = 0, 0
    for batch in file.iter_batches(batch_size=_READ_COUNT, columns=_READ):
        columns = (batch.column(name) for name in _READ)
        for cells in zip(*columns, strict=True):
            values = [
                cell.value if name == "time" else cell.as_py()
                for name, cell in zip(_READ, cells, strict=True)
            ]
            try:
                row = _parse_row(values, importer)
                importer.add(row)
            except (ValueError, TypeError, MalformedEvent, OptionError, LimitExceeded) as error:
                reason = getattr(error, "reason", None) or str(error)
                raise MalformedEvent(f"row {events + 1}: {reason}") from error
            events, next_seq = events + 1, row.seq + 1
    return events, next_seq


def _parse_row(values: list[Any], importer: JournalImporter) -> ExportRow:
    seq, time, tag, kind, payload, fields = values
    if payload is None:
        if not importer.header.redacted or fields is None:
            raise ValueError("payload is missing, but the header lists no redacted kinds")
        value = parse_line(fields.encode())
        payload = (
            payload_from_json(tag, kind, value, importer.running.kinds)
            if kind is not None
            else bytes_from_json(value)
        )
    return ExportRow(seq, time, tag, payload)


def _make_cells(row: ExportRow, redaction: Redaction, running: RunningKinds) -> tuple[Any, ...]:
    running.add(row.tag, row.payload)
    kind, _, value = event_to_json(row.tag, row.payload, redaction, running.kinds)
    group = running.kinds[row.tag].group.value if kind is not None else None
    fields = json.dumps(value, separators=(",", ":")) if kind is not None or redaction else None
    payload = None if redaction else row.payload
    return row.seq, row.time, row.tag, kind, group, len(row.payload), payload, fields


def _group_rows(rows: Iterator[ExportRow]) -> Iterator[list[ExportRow]]:
    batch: list[ExportRow] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.payload)
        if size >= BATCH_SIZE or len(batch) == BATCH_COUNT:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _make_schema(arrow: Any) -> Any:
    text = arrow.dictionary(arrow.int16(), arrow.string())
    types = (
        arrow.int64(),
        arrow.timestamp("us", tz="UTC"),
        arrow.uint8(),
        text,
        text,
        arrow.uint32(),
        arrow.large_binary(),
        arrow.large_string(),
    )
    return arrow.schema(list(zip(_COLUMNS, types, strict=True)))


def _import_arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("pyarrow"):
            raise
        raise OptionError("Parquet needs pyarrow: run pip install 'wasm-journal[arrow]'") from error
    return pyarrow, parquet

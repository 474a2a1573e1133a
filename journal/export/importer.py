"""Importing: a journal made again of its export, frame by frame the same."""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from journal.errors import LimitExceeded, MalformedEvent, OptionError
from journal.events.process import ProcessStart
from journal.export.json_lines import (
    ExportFooter,
    ExportHeader,
    ExportRow,
    make_line_error,
    parse_footer,
    parse_header,
    parse_line,
    parse_row,
)
from journal.export.redaction import Secret
from journal.log.commit_policy import CommitPolicy
from journal.log.writer import Writer
from journal.rewrite.block_builder import BlockBuilder
from journal.rewrite.block_copier import check_output_path
from journal.snapshots.resume_flags import add_flag_to_payload

LINE_SIZE_MAX = 1 << 27
"""Bytes of a line: the largest event, whatever is escaped in it, fits."""


class ImportResult(NamedTuple):
    """What was imported; ``redacted`` is what the export did not tell: then nobody can resume."""

    journal_id: bytes
    events: int
    next_seq: int
    redacted: tuple[Secret, ...]


def import_lines(file: BinaryIO, target: str | os.PathLike[str]) -> ImportResult:
    """Make the journal that was exported to ``file`` again, as ``target``, a new file.

    Numbers, tags, payloads, times, the id and when it was created are the same. What was redacted
    is filled up to its size, and the journal is marked: nobody can resume it. ``target`` gets its
    name when it is whole and durable. Raises MalformedEvent with the number of the line, and its
    offset, for a line that says what no journal has, and where the end is missing.
    """
    reader = _LineReader(file)
    head = reader.read_header()
    with JournalImporter(Path(target), head) as importing:
        end = reader.read_rows(importing)
        return importing.finish(end)


class JournalImporter:
    """A journal that is being made again; nothing is left of it if it is not finished."""

    def __init__(self, target: Path, header: ExportHeader) -> None:
        check_output_path(target, [])
        self.header = header
        self._events = 0
        self._writer = Writer(
            target,
            publish=False,
            journal_id=header.journal_id,
            commit=CommitPolicy.NONE,
            first_seq=header.first_seq,
            clock=lambda: header.created,
        )
        self._gatherer = BlockBuilder(self._writer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def add(self, row: ExportRow) -> None:
        """Add an event."""
        payload = row.payload
        if self.header.redacted and row.tag == ProcessStart.tag:
            what = ", ".join(secret.value for secret in self.header.redacted)
            with suppress(MalformedEvent):  # then it says nothing of what ran either
                payload = add_flag_to_payload(
                    payload, f"when it was exported, this was redacted: {what}"
                )
        self._gatherer.add(row.seq, row.tag, payload, row.time)
        self._events += 1

    def finish(self, end: ExportFooter) -> ImportResult:
        """Make it durable and give it its name, if it ends as it should."""
        self._gatherer.flush()
        next_seq = self._writer.next_seq if self._events else 0
        if end != ExportFooter(self._events, next_seq):
            raise MalformedEvent(
                f"{self._events} events up to number {next_seq} were read, and {end.events} up to "
                f"number {end.next_seq} were exported"
            )
        self._writer.sync()
        self._writer.publish()
        return ImportResult(self.header.journal_id, self._events, next_seq, self.header.redacted)


class _LineReader:
    """The lines of an export, with their numbers and offsets."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._number = self._offset = self._next = 0

    def read_header(self) -> ExportHeader:
        """Read the first line."""
        line = self._read_line()
        try:
            return parse_header(parse_line(line))
        except ValueError as error:
            raise make_line_error(self._number, self._offset, error) from error

    def read_rows(self, importing: JournalImporter) -> ExportFooter:
        """Read the lines of all events, up to the end, behind which nothing may stand."""
        while True:
            line = self._read_line()
            try:
                found = parse_line(line)
                end = parse_footer(found)
                may_hide = b'"hash"' in line or b"\\" in line  # what is escaped may say so too
                row = None if end else parse_row(found, importing.header, may_hide=may_hide)
            except (ValueError, MalformedEvent, LimitExceeded, RecursionError) as error:
                raise make_line_error(self._number, self._offset, _to_value_error(error)) from error
            if end is not None:
                if self._file.read(1):
                    raise MalformedEvent("something stands behind the end", self._next)
                return end
            assert row is not None
            try:
                importing.add(row)
            except (OptionError, LimitExceeded) as error:
                raise make_line_error(self._number, self._offset, _to_value_error(error)) from error

    def _read_line(self) -> bytes:
        line = self._file.readline(LINE_SIZE_MAX)
        self._number, self._offset = self._number + 1, self._next
        self._next += len(line)
        if len(line) == LINE_SIZE_MAX:
            raise LimitExceeded(f"line {self._number} is too long", self._offset)
        if not line.endswith(b"\n"):
            raise MalformedEvent(
                "it is no export, or one that was cut short: its last line is missing", self._next
            )
        return line


def _to_value_error(error: Exception) -> ValueError | MalformedEvent:
    return error if isinstance(error, ValueError | MalformedEvent) else ValueError(str(error))

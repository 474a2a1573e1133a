"""Import of an export: a new journal with the same events, frame by frame."""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from journal._arguments import check_input, check_path
from journal.errors import LimitExceeded, MalformedEvent, OptionError
from journal.events.declared_kinds import RunningKinds
from journal.events.process import ProcessStart
from journal.events.wire_types import Secret
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
from journal.log.commit_policy import CommitPolicy
from journal.log.writer import Writer
from journal.rewrite.block_builder import BlockBuilder
from journal.rewrite.block_copier import check_new_journal
from journal.snapshots.resume_flags import add_flag_to_payload

LINE_SIZE_MAX = 1 << 27
"""Maximum size of a line in bytes, enough for the largest event with every byte escaped."""


class ImportResult(NamedTuple):
    """Result of an import. If ``redacted`` has kinds, the journal cannot be resumed."""

    journal_id: bytes
    events: int
    next_seq: int
    redacted: tuple[Secret, ...]


def import_lines(file: BinaryIO, target: str | os.PathLike[str]) -> ImportResult:
    """Write the journal that was exported to ``file`` to the new file ``target``.

    Sequence numbers, tags, payloads, times, the journal id and the time of creation are the same.
    Redacted contents are replaced by filler of their size, and the journal is flagged as not
    resumable. ``target`` gets its name when it is complete and durable. Raises MalformedEvent, with
    the number of the line and its offset, for an invalid line or a missing end.
    """
    path = check_path("target", target)
    reader = _LineReader(check_input("file", file))
    header = reader.read_header()
    with JournalImporter(path, header) as importer:
        footer = reader.read_rows(importer)
        return importer.finish(footer)


class JournalImporter:
    """Writer of an imported journal; a context manager. Nothing remains if it is not finished."""

    def __init__(self, target: Path, header: ExportHeader) -> None:
        check_new_journal(target, [])
        self.header = header
        self.running = RunningKinds()
        self._events = 0
        self._writer = Writer(
            target,
            publish=False,
            journal_id=header.journal_id,
            commit=CommitPolicy.NONE,
            first_seq=header.first_seq,
            clock=lambda: header.created,
        )
        self._builder = BlockBuilder(self._writer)

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
        self.running.add(row.tag, payload)
        if self.header.redacted and row.tag == ProcessStart.tag:
            kinds = ", ".join(secret.value for secret in self.header.redacted)
            # A malformed ProcessStart identifies no program, so no resume can start from it either.
            with suppress(MalformedEvent):
                payload = add_flag_to_payload(
                    payload, f"it was imported from an export with redacted contents: {kinds}"
                )
        self._builder.add(row.seq, row.tag, payload, row.time)
        self._events += 1

    def finish(self, end: ExportFooter) -> ImportResult:
        """Check the footer, make the journal durable, and give it its name."""
        self._builder.flush()
        next_seq = self._writer.next_seq if self._events else 0
        if end != ExportFooter(self._events, next_seq):
            raise MalformedEvent(
                f"export is incomplete: read {self._events} events before sequence number "
                f"{next_seq}, expected {end.events} before {end.next_seq}"
            )
        self._writer.sync()
        self._writer.publish()
        return ImportResult(self.header.journal_id, self._events, next_seq, self.header.redacted)


class _LineReader:
    """Reader of the lines of an export, with their numbers and offsets."""

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

    def read_rows(self, importer: JournalImporter) -> ExportFooter:
        """Read all events into ``importer``, and return the footer, the last line of the file."""
        while True:
            line = self._read_line()
            try:
                value = parse_line(line)
                end = parse_footer(value)
                may_be_redacted = b'"hash"' in line or b"\\" in line  # An escape may spell the key.
                row = (
                    None
                    if end
                    else parse_row(
                        value,
                        importer.header,
                        importer.running.kinds,
                        may_be_redacted=may_be_redacted,
                    )
                )
            except (ValueError, MalformedEvent, LimitExceeded, RecursionError) as error:
                raise make_line_error(self._number, self._offset, _to_value_error(error)) from error
            if end is not None:
                if self._file.read(1):
                    raise MalformedEvent("data follows the end of the export", self._next)
                return end
            assert row is not None
            try:
                importer.add(row)
            except (OptionError, LimitExceeded) as error:
                raise make_line_error(self._number, self._offset, _to_value_error(error)) from error

    def _read_line(self) -> bytes:
        line = self._file.readline(LINE_SIZE_MAX)
        self._number, self._offset = self._number + 1, self._next
        self._next += len(line)
        if len(line) == LINE_SIZE_MAX:
            raise LimitExceeded(f"line {self._number} exceeds {LINE_SIZE_MAX} bytes", self._offset)
        if not line.endswith(b"\n"):
            raise MalformedEvent(
                "not an export, or it is cut short: the last line is missing", self._next
            )
        return line


def _to_value_error(error: Exception) -> ValueError | MalformedEvent:
    return error if isinstance(error, ValueError | MalformedEvent) else ValueError(str(error))

"""Events as lines of text, or as one JSON object per line."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import compress
from typing import TYPE_CHECKING

import typer

from journaltool.output.phrases import format_time, name_kind

if TYPE_CHECKING:
    from journal.errors import FormatError
    from journal.events.definition import Event
    from journal.export.redaction import Redaction
    from journal.format.block import Block
    from journal.query.selection import QueryFilter
    from journaltool.output.event_format import Converter, EventFormat
    from journaltool.output.redacted_format import RedactedFormat
    from journaltool.output.socket_notes import SocketNotes

    _Formats = Mapping[int, EventFormat | RedactedFormat]

LineFormatter = Callable[[int, int, int, bytes, int], str]
"""Function from sequence number, time, tag, payload and block offset to the line of an event."""

COLUMNS = ("seq", "time", "kind", "fields")
"""Default columns."""
KIND_WIDTH = 24
"""Width of the column of kinds, if another column follows."""

_ALL_COLUMNS = ("seq", "time", "at", "kind", "group", "tag", "size", "fields")
_NO_LIMIT = "all"
_COLOURS = {
    "core": "35",
    "memory": "34",
    "threads": "34",
    "files": "32",
    "stdio": "36",
    "sockets": "33",
    "inputs": "33",
    "snapshots": "34",
    "application": "37",
}


def parse_value_limit(text: str) -> int | None:
    """Return the number of bytes of a value to show, or None for all of them."""
    if text == _NO_LIMIT:
        return None
    if not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(
            f"{text!r} is not a number of bytes: write a number, or {_NO_LIMIT}"
        )
    return int(text)


def format_blocks(
    blocks: "Iterator[Block]", query_filter: "QueryFilter", line: LineFormatter
) -> Iterator[list[str]]:
    """Yield the lines of the selected events, one list per block."""
    for block in blocks:
        if query_filter.is_past_end(block.first_seq):
            return
        if not query_filter.needs_block(block.header, block.first_seq):
            continue
        mask = query_filter.compute_mask(block)
        picks = list(compress(range(block.count), mask))
        if not picks:
            continue
        offset, times = block.offset, block.times
        yield [
            line(seq, times[at], tag, payload, offset)
            for at, (seq, tag, payload) in zip(picks, block.rows(picks), strict=True)
        ]


def text_line_formatter(
    first_time: int,
    shown: int | None,
    errors: "list[FormatError] | None",
    columns: Sequence[str] = COLUMNS,
    coloured: bool = False,
    kinds: "Mapping[int, type[Event]] | None" = None,
    redaction: "Redaction | None" = None,
    notes: "SocketNotes | None" = None,
) -> LineFormatter:
    """Return a formatter of text lines, with times relative to ``first_time``.

    Malformed events are formatted with their payload, and their errors are added to ``errors``.
    Without ``errors``, which is right for a journal that records no process, they are no errors.
    ``kinds`` are the kinds of the journal by tag. With ``redaction``, contents are redacted, and so
    are the payloads of malformed and unknown events. With ``coloured``, kinds are aligned and have
    the colour of their group. ``notes`` add the addresses of sockets to the fields.
    """
    from journal.errors import MalformedEvent
    from journal.events import APPLICATION_TAGS, BY_TAG
    from journaltool.output import event_format

    plain_formats = event_format.text_formats(shown, kinds or BY_TAG)
    formats: _Formats = plain_formats
    of_bytes = event_format.bytes_to_text(shown)
    if redaction is not None:
        formats, of_bytes = _redact(plain_formats, redaction, kinds or BY_TAG, as_json=False)
    plain = tuple(columns) == COLUMNS and not coloured
    format_columns = None if plain else _column_formatter(tuple(columns), first_time, coloured)

    def line(seq: int, time: int, tag: int, payload: bytes, offset: int) -> str:
        found = formats.get(tag)
        if found is None:
            text = f"{name_kind(tag)}  payload={of_bytes(payload)}"
        else:
            try:
                text = found.format(payload, offset)
            except MalformedEvent as error:
                name = name_kind(tag)
                if errors is not None and tag not in APPLICATION_TAGS:
                    errors.append(error)
                    name = f"malformed({tag})"
                text = f"{name}  payload={of_bytes(payload)}"
        if notes is not None:
            text += notes.describe(seq, tag, payload).as_text()
        if format_columns is None:
            return f"{seq:>10}  {(time - first_time) / 1e6:>+14.6f}s  {text}"
        return format_columns(seq, time, tag, len(payload), text)

    return line


def parse_columns(text: str) -> tuple[str, ...]:
    """Return the columns of a list of names that commas separate."""
    found = tuple(name.strip() for name in text.split(","))
    unknown = [name for name in found if name not in _ALL_COLUMNS]
    if unknown:
        choices = ", ".join(_ALL_COLUMNS)
        raise typer.BadParameter(f"{unknown[0]!r} is not a column: choose from {choices}")
    return found


def _column_formatter(
    names: tuple[str, ...], first_time: int, coloured: bool
) -> Callable[[int, int, int, int, str], str]:
    """Return a function that builds a line. Its ``text`` is the kind, two spaces and the fields."""
    from journal.events.tag_sets import KNOWN, find_group

    groups = {tag: group.value for tag in KNOWN if (group := find_group(tag))}
    padding = KIND_WIDTH if coloured or names[-1] != "kind" else 0

    def format_line(seq: int, time: int, tag: int, size: int, text: str) -> str:
        kind, _, fields = text.partition("  ")
        group = groups.get(tag, "-")
        cells = {
            "seq": f"{seq:>10}",
            "time": f"{(time - first_time) / 1e6:>+14.6f}s",
            "at": format_time(time),
            "kind": f"{kind:<{padding}}",
            "group": f"{group:<9}",
            "tag": f"{tag:>3}",
            "size": f"{size:>8}",
            "fields": fields,
        }
        if coloured:
            colour = _COLOURS.get(group, "31")
            cells["kind"] = f"\x1b[1;{colour}m{cells['kind']}\x1b[0m"
            for dim in ("seq", "time", "at", "tag", "size"):
                cells[dim] = f"\x1b[2m{cells[dim]}\x1b[0m"
        return "  ".join(map(cells.__getitem__, names)).rstrip()

    return format_line


def _redact(
    formats: "Mapping[int, EventFormat]",
    redaction: "Redaction",
    kinds: "Mapping[int, type[Event]]",
    *,
    as_json: bool,
) -> "tuple[_Formats, Converter]":
    """Return redacted formats, and a converter of whole payloads."""
    from journaltool.output import redacted_format

    convert = redacted_format.redacted_to_json if as_json else redacted_format.redacted_to_text
    redacted = redacted_format.redact_formats(formats, redaction, convert, kinds)
    return redacted, lambda payload: convert(redaction.redact(payload))


def json_line_formatter(
    errors: "list[FormatError] | None",
    kinds: "Mapping[int, type[Event]] | None" = None,
    redaction: "Redaction | None" = None,
    notes: "SocketNotes | None" = None,
) -> LineFormatter:
    """Return a formatter of JSON lines. The parameters are as for text lines."""
    from journal.errors import MalformedEvent
    from journal.events import APPLICATION_TAGS, BY_TAG
    from journaltool.output import event_format

    plain_formats = event_format.json_formats(kinds or BY_TAG)
    formats: _Formats = plain_formats
    of_bytes: Converter = event_format.bytes_to_json
    if redaction is not None:
        formats, of_bytes = _redact(plain_formats, redaction, kinds or BY_TAG, as_json=True)

    def line(seq: int, time: int, tag: int, payload: bytes, offset: int) -> str:
        found = formats.get(tag)
        if found is None:
            text = f'"tag": {tag}, "kind": null, "payload": {of_bytes(payload)}'
        else:
            try:
                text = found.format(payload, offset)
            except MalformedEvent as error:
                if errors is not None and tag not in APPLICATION_TAGS:
                    errors.append(error)
                text = f'"tag": {tag}, "kind": null, "payload": {of_bytes(payload)}'
        parts = {} if notes is None else notes.describe(seq, tag, payload).parts
        end = f', "socket": {json.dumps(parts)}' if parts else ""
        return f'{{"seq": {seq}, "time": {time}, {text}{end}}}'

    return line

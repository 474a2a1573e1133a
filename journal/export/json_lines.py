"""Lines of an export, each a JSON object: the header, one line per event, and the footer."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast

from journal._version import VERSION
from journal.errors import JournalError, MalformedEvent, UnsupportedVersion
from journal.events import APPLICATION_TAGS, BY_TAG, codec
from journal.events.definition import Event
from journal.events.opaque import OpaqueEvent
from journal.events.wire_types import Secret
from journal.export.json_values import (
    Conversion,
    bytes_from_json,
    bytes_to_json,
    is_redacted,
    make_conversion,
    number_from_json,
    number_to_json,
    shorten_value,
)
from journal.export.redaction import Redaction
from journal.format.frame import SEQ_MAX

EXPORT_VERSION = 1

Kinds = Mapping[int, type[Event]]

_HEAD_KEYS = {"export", "id", "created", "first_seq", "writer", "redacted"}


class ExportHeader(NamedTuple):
    """First line; ``redacted`` has the kinds of redacted contents."""

    journal_id: bytes
    created: int
    first_seq: int
    redacted: tuple[Secret, ...] = ()


class ExportRow(NamedTuple):
    """One event: its payload, or the payload rebuilt from its fields."""

    seq: int
    time: int
    tag: int
    payload: bytes


class ExportFooter(NamedTuple):
    """Last line, which detects an export that was cut short."""

    events: int
    next_seq: int


# -- format ---------------------------------------------------------------------------------------


def format_header(head: ExportHeader) -> bytes:
    """Return the first line."""
    return _format_line(
        {
            "export": EXPORT_VERSION,
            "id": head.journal_id.hex(),
            "created": number_to_json(head.created),
            "first_seq": number_to_json(head.first_seq),
            "writer": f"wasm-journal {VERSION}",
            "redacted": [secret.value for secret in head.redacted],
        }
    )


def format_row(row: ExportRow, redaction: Redaction, kinds: Kinds = BY_TAG) -> bytes:
    """Return the line of an event. ``kinds`` are the kinds by tag."""
    values: dict[str, Any] = {
        "seq": number_to_json(row.seq),
        "time": number_to_json(row.time),
        "tag": row.tag,
    }
    kind, key, value = event_to_json(row.tag, row.payload, redaction, kinds)
    return _format_line(values | {"kind": kind, key: value})


def format_footer(end: ExportFooter) -> bytes:
    """Return the last line."""
    numbers = {"events": number_to_json(end.events), "next_seq": number_to_json(end.next_seq)}
    return _format_line({"end": numbers})


def event_to_json(
    tag: int, payload: bytes, redaction: Redaction, kinds: Kinds = BY_TAG
) -> tuple[str | None, str, Any]:
    """Return an event's kind, the key ``fields``, and the fields as a JSON value.

    If the fields would not encode to the same bytes, the kind is None, the key ``payload``, and the
    value the payload. So it is for an event of an application in a redacted export, because nobody
    has said which of its fields are secret.
    """
    is_hidden = bool(redaction) and tag in APPLICATION_TAGS
    event = None if is_hidden else _decode_exactly(tag, payload, kinds)
    if event is None:
        content = redaction.redact(payload) if redaction else payload
        return None, "payload", bytes_to_json(content)
    kind = type(event)
    fields = redaction.redact_fields(event)
    conversions = _get_conversions(cast("Any", kind))
    values = {name: one.to_json(fields[name]) for name, one in conversions.items()}
    return kind.__name__, "fields", values


def _decode_exactly(tag: int, payload: bytes, kinds: Kinds) -> Event | None:
    """Return the event if its fields encode to exactly this payload, else None."""
    if tag not in kinds:
        return None
    try:
        event = codec.decode(tag, payload, kinds=kinds)
        if isinstance(event, OpaqueEvent):
            return None
        return event if codec.encode(event) == payload else None
    except JournalError:
        return None


def _format_line(value: dict[str, Any]) -> bytes:
    return _encode(value).encode("ascii") + b"\n"


# -- parse ----------------------------------------------------------------------------------------


def parse_header(value: Any) -> ExportHeader:
    """Return the header. Raises ValueError if ``value`` is not a header."""
    if not isinstance(value, dict) or "export" not in value:
        raise ValueError("not an export of a journal: the first line has no export version")
    if value["export"] != EXPORT_VERSION:
        raise UnsupportedVersion(
            f"unsupported export version {shorten_value(value['export'])}, "
            f"expected {EXPORT_VERSION}"
        )
    _check_keys(value, _HEAD_KEYS)
    journal_id = bytes.fromhex(_check_text(value["id"]))
    if len(journal_id) != 16:
        raise ValueError(f"journal id must have 16 bytes, got {len(journal_id)}")
    created, first_seq = number_from_json(value["created"]), number_from_json(value["first_seq"])
    if not (0 <= created <= SEQ_MAX and 0 <= first_seq <= SEQ_MAX):
        raise ValueError(
            f"created and first_seq must be 0 to {SEQ_MAX}, got {created} and {first_seq}"
        )
    if not isinstance(value["redacted"], list):
        raise ValueError(f"redacted must be a list, got {shorten_value(value['redacted'])}")
    return ExportHeader(journal_id, created, first_seq, tuple(map(Secret, value["redacted"])))


def parse_row(
    value: Any, header: ExportHeader, kinds: Kinds = BY_TAG, *, may_be_redacted: bool = True
) -> ExportRow:
    """Return the event of a line. Raises ValueError or MalformedEvent for an invalid value.

    ``may_be_redacted`` is off for a line that cannot have redacted contents.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {shorten_value(value)}")
    is_known = value.get("kind") is not None
    _check_keys(value, {"seq", "time", "tag", "kind", "fields" if is_known else "payload"})
    seq, time, tag = (number_from_json(value[name]) for name in ("seq", "time", "tag"))
    if not header.redacted and may_be_redacted and is_redacted(value):
        raise ValueError("contents are redacted, but the first line lists no redacted kinds")
    if is_known:
        return ExportRow(
            seq, time, tag, payload_from_json(tag, value["kind"], value["fields"], kinds)
        )
    return ExportRow(seq, time, tag, bytes_from_json(value["payload"]))


def payload_from_json(tag: int, name: Any, fields: Any, kinds: Kinds = BY_TAG) -> bytes:
    """Return the payload of an event from its kind and its fields in JSON."""
    kind = kinds.get(tag)
    if kind is None or kind.__name__ != name:
        raise ValueError(f"tag {tag} has no kind {shorten_value(name)}")
    conversions = _get_conversions(cast("Any", kind))
    if not isinstance(fields, dict):
        raise ValueError(f"fields must be an object, got {shorten_value(fields)}")
    _check_keys(fields, set(conversions))
    values = {}
    for field, conversion in conversions.items():
        try:
            values[field] = conversion.from_json(fields[field])
        except ValueError as error:
            raise ValueError(f"{name}.{field}: {error}") from error
    return codec.encode(kind(**values))


def parse_footer(value: Any) -> ExportFooter | None:
    """Return the footer, or None for any other line."""
    if not isinstance(value, dict) or "end" not in value:
        return None
    _check_keys(value, {"end"})
    numbers = value["end"]
    if not isinstance(numbers, dict):
        raise ValueError(f"end must be an object, got {shorten_value(numbers)}")
    _check_keys(numbers, {"events", "next_seq"})
    return ExportFooter(number_from_json(numbers["events"]), number_from_json(numbers["next_seq"]))


def parse_line(line: bytes) -> Any:
    """Return the JSON value of a line. Raises ValueError for invalid JSON or a duplicate key."""
    try:
        return _decode(line.decode())
    except RecursionError:
        raise ValueError("value is nested too deeply") from None


def make_line_error(number: int, offset: int, error: ValueError | MalformedEvent) -> MalformedEvent:
    """Return the error of a line."""
    reason = error.reason if isinstance(error, MalformedEvent) else " ".join(str(error).split())
    return MalformedEvent(f"line {number}: {reason}", offset)


@lru_cache(maxsize=len(BY_TAG) + len(APPLICATION_TAGS))
def _get_conversions(kind: type[Event]) -> dict[str, Conversion]:
    constructs = (field.subcon for field in kind.layout.subcons)
    return {name: make_conversion(con) for name, con in zip(kind.names, constructs, strict=True)}


def _check_keys(value: dict[str, Any], keys: set[str]) -> None:
    if value.keys() != keys:
        wrong = sorted(map(str, value.keys() ^ keys))
        raise ValueError(
            f"expected the keys {', '.join(sorted(keys))}; "
            f"missing or unexpected: {', '.join(wrong)[:200]}"
        )


def _check_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {shorten_value(value)}")
    return value


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("object has a duplicate key")
    return value


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not a valid number")


_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder(
    object_pairs_hook=_reject_duplicate_keys, parse_constant=_reject_constant
).decode

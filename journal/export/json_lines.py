"""The lines of an export: the head, one for each event, and the end; each a JSON object."""

import json
from functools import lru_cache
from typing import Any, NamedTuple

from journal._version import VERSION
from journal.errors import JournalError, MalformedEvent, UnsupportedVersion
from journal.events import BY_TAG, codec
from journal.events.definition import Event
from journal.export.json_values import (
    Conversion,
    bytes_from_json,
    bytes_to_json,
    is_redacted,
    make_conversion,
    number_from_json,
    number_to_json,
)
from journal.export.redaction import Redaction, Secret
from journal.format.frame import SEQ_MAX

EXPORT_VERSION = 1

BY_NAME = {kind.__name__: kind for kind in BY_TAG.values()}

_HEAD_KEYS = {"export", "id", "created", "first_seq", "writer", "redacted"}


class ExportHeader(NamedTuple):
    """What the first line says; ``redacted`` is what the export does not tell."""

    journal_id: bytes
    created: int
    first_seq: int
    redacted: tuple[Secret, ...] = ()


class ExportRow(NamedTuple):
    """What a line says of an event: one of a kind, or a payload that is not taken apart."""

    seq: int
    time: int
    tag: int
    payload: bytes


class ExportFooter(NamedTuple):
    """What the last line says, so that an export cut short is found out."""

    events: int
    next_seq: int


# -- giving ---------------------------------------------------------------------------------------


def format_header(head: ExportHeader) -> bytes:
    """The first line."""
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


def format_row(row: ExportRow, redaction: Redaction) -> bytes:
    """The line of an event."""
    found: dict[str, Any] = {
        "seq": number_to_json(row.seq),
        "time": number_to_json(row.time),
        "tag": row.tag,
    }
    kind, key, value = event_to_json(row.tag, row.payload, redaction)
    return _format_line(found | {"kind": kind, key: value})


def format_footer(end: ExportFooter) -> bytes:
    """The last line."""
    numbers = {"events": number_to_json(end.events), "next_seq": number_to_json(end.next_seq)}
    return _format_line({"end": numbers})


def event_to_json(tag: int, payload: bytes, redaction: Redaction) -> tuple[str | None, str, Any]:
    """The name of an event's kind, and its fields, or its payload where there is no other way."""
    event = _decode_exactly(tag, payload)
    if event is None:
        told_of = redaction.redact(payload) if redaction else payload
        return None, "payload", bytes_to_json(told_of)
    kind = type(event)
    fields = redaction.redact_fields(event)
    values = {name: each.to_json(fields[name]) for name, each in _get_conversions(tag).items()}
    return kind.__name__, "fields", values


def _decode_exactly(tag: int, payload: bytes) -> Event | None:
    """The event, if its fields lead to just this payload."""
    if tag not in BY_TAG:
        return None
    try:
        event = codec.decode(tag, payload)
        return event if codec.encode(event) == payload else None
    except JournalError:
        return None


def _format_line(found: dict[str, Any]) -> bytes:
    return _encode(found).encode("ascii") + b"\n"


# -- taking ---------------------------------------------------------------------------------------


def parse_header(found: Any) -> ExportHeader:
    """What the first line says; ValueError for what is none."""
    if not isinstance(found, dict) or "export" not in found:
        raise ValueError("it does not begin as an export of a journal does")
    if found["export"] != EXPORT_VERSION:
        raise UnsupportedVersion(f"version {found['export']!r} of exports is not known")
    _check_keys(found, _HEAD_KEYS)
    journal_id = bytes.fromhex(_check_text(found["id"]))
    if len(journal_id) != 16:
        raise ValueError("a journal's id has 16 bytes")
    created, first_seq = number_from_json(found["created"]), number_from_json(found["first_seq"])
    if not (0 <= created <= SEQ_MAX and 0 <= first_seq <= SEQ_MAX):
        raise ValueError("a time or a number is none that a journal can have")
    if not isinstance(found["redacted"], list):
        raise ValueError("what was redacted is no list")
    return ExportHeader(journal_id, created, first_seq, tuple(map(Secret, found["redacted"])))


def parse_row(found: Any, head: ExportHeader, *, may_hide: bool = True) -> ExportRow:
    """What the line of an event says; ValueError and MalformedEvent for what is none.

    ``may_hide`` is off for a line in which nothing can be redacted.
    """
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    is_known = found.get("kind") is not None
    _check_keys(found, {"seq", "time", "tag", "kind", "fields" if is_known else "payload"})
    seq, time, tag = (number_from_json(found[name]) for name in ("seq", "time", "tag"))
    if not head.redacted and may_hide and is_redacted(found):
        raise ValueError("something was redacted, and the first line does not say so")
    if is_known:
        return ExportRow(seq, time, tag, payload_from_json(tag, found["kind"], found["fields"]))
    return ExportRow(seq, time, tag, bytes_from_json(found["payload"]))


def payload_from_json(tag: int, name: Any, fields: Any) -> bytes:
    """The payload of an event, by its kind and its fields in JSON."""
    kind = BY_NAME.get(name) if isinstance(name, str) else None
    if kind is None or kind.tag != tag:
        raise ValueError(f"no kind of tag {tag} is called {name!r}")
    conversions = _get_conversions(tag)
    if not isinstance(fields, dict):
        raise ValueError("its fields are no object")
    _check_keys(fields, set(conversions))
    values = {}
    for field, each in conversions.items():
        try:
            values[field] = each.from_json(fields[field])
        except ValueError as error:
            raise ValueError(f"{name}.{field}: {error}") from error
    return codec.encode(kind(**values))


def parse_footer(found: Any) -> ExportFooter | None:
    """What the last line says; None for any other."""
    if not isinstance(found, dict) or "end" not in found:
        return None
    _check_keys(found, {"end"})
    numbers = found["end"]
    if not isinstance(numbers, dict):
        raise ValueError("its end is no object")
    _check_keys(numbers, {"events", "next_seq"})
    return ExportFooter(number_from_json(numbers["events"]), number_from_json(numbers["next_seq"]))


def parse_line(line: bytes) -> Any:
    """A line as JSON; ValueError for what is none, or says the same thing twice."""
    try:
        return _decode(line.decode())
    except RecursionError:
        raise ValueError("it goes too deep") from None


def make_line_error(number: int, offset: int, error: ValueError | MalformedEvent) -> MalformedEvent:
    """The error of a line."""
    reason = error.reason if isinstance(error, MalformedEvent) else " ".join(str(error).split())
    return MalformedEvent(f"line {number}: {reason}", offset)


@lru_cache(maxsize=len(BY_TAG))
def _get_conversions(tag: int) -> dict[str, Conversion]:
    kind = BY_TAG[tag]
    constructs = (named.subcon for named in kind.layout.subcons)
    return {name: make_conversion(con) for name, con in zip(kind.names, constructs, strict=True)}


def _check_keys(found: dict[str, Any], keys: set[str]) -> None:
    if found.keys() != keys:
        wrong = sorted(map(str, found.keys() ^ keys))
        raise ValueError(f"it must have {', '.join(sorted(keys))}: look at {', '.join(wrong)}")


def _check_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it says something twice")
    return found


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder(
    object_pairs_hook=_reject_duplicate_keys, parse_constant=_reject_constant
).decode

"""Events as text or JSON with redacted contents: the redaction of an export, in other formats."""

import json
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from journal.events import APPLICATION_TAGS, BY_TAG, codec
from journal.events.definition import Event
from journal.events.wire_types import SocketAddress, format_address
from journal.export.json_values import BytePieces, RedactedBytes
from journal.export.redaction import Redaction
from journaltool.output.event_format import Converter, EventFormat, to_json_value

_HASH_DIGITS = 16
"""Digits of the hash of redacted contents in a text."""


class RedactedFormat(NamedTuple):
    """Format of one kind of event whose secret fields are redacted.

    Fields without secrets have their usual text.
    """

    cls: type[Event]
    plain: EventFormat
    redaction: Redaction
    redacted_text: Converter

    def format(self, payload: bytes, offset: int) -> str:
        """Return the text of one event. Raises ``MalformedEvent`` for an invalid payload."""
        event = codec.decode(self.cls.tag, payload, offset, {self.cls.tag: self.cls})
        values, converts, texts = self.redaction.redact_fields(event), dict(self.plain.converts), []
        for index, name in enumerate(self.cls.names):
            is_same = values[name] is getattr(event, name)
            convert = converts.get(index, str) if is_same else self.redacted_text
            texts.append(convert(values[name]))
        return self.plain.template % tuple(texts)


def redact_formats(
    formats: Mapping[int, EventFormat],
    redaction: Redaction,
    redacted_text: Converter,
    kinds: Mapping[int, type[Event]] = BY_TAG,
) -> dict[int, EventFormat | RedactedFormat]:
    """Return formats that redact secret fields.

    Events of applications have no format, because nobody has said which of their fields are secret.
    Short formats of memory never contain contents and stay as they are.
    """
    found: dict[int, EventFormat | RedactedFormat] = {}
    for tag, form in formats.items():
        if tag in APPLICATION_TAGS:
            continue
        is_short = form.template.count("%s") != len(kinds[tag].names)
        found[tag] = (
            form if is_short else RedactedFormat(kinds[tag], form, redaction, redacted_text)
        )
    return found


def redacted_to_text(value: Any) -> str:
    """Return the text of a value of which some parts are redacted."""
    if isinstance(value, RedactedBytes):
        return f"<{value.size} bytes, hash {value.hash[:_HASH_DIGITS]}>"
    if isinstance(value, BytePieces):
        return "".join(map(redacted_to_text, value.parts))
    if isinstance(value, tuple):
        return f"[{', '.join(map(redacted_to_text, value))}]"
    if isinstance(value, bytes):
        return repr(value)[2:-1]
    if isinstance(value, SocketAddress):
        return format_address(value)
    if isinstance(value, IPv4Address | IPv6Address):
        return str(value)
    text = str(value)
    return text if text.isalnum() else repr(text)


def redacted_to_json(value: Any) -> str:
    """Return the JSON of a value of which some parts are redacted."""
    return json.dumps(_redacted_to_json_value(value))


def _redacted_to_json_value(value: Any) -> Any:
    if isinstance(value, RedactedBytes):
        return {"size": value.size, "hash": value.hash}
    if isinstance(value, BytePieces):
        return [_redacted_to_json_value(part) for part in value.parts]
    if isinstance(value, tuple):
        return [_redacted_to_json_value(item) for item in value]
    return to_json_value(value)

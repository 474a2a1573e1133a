"""Events as text or JSON: a template per kind of event, and converters for some fields.

The formats are built once per kind from the types of the fields, so that formatting an event costs
little more than decoding it. Text contains no control characters. JSON keeps every value exactly,
except for the contents of memory.
"""

import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from json.encoder import encode_basestring_ascii as json_text
from typing import Any, NamedTuple, get_args, get_type_hints

from journal.events import BY_TAG, codec
from journal.events.definition import Event
from journal.events.process import ProcessStart
from journal.events.wire_types import Hash256, JournalId, SocketAddress, format_address
from journal.wasi_abi import Errno
from journaltool.output import memory_format

Converter = Callable[[Any], str]

ERRNO = "errno"
"""Name of the fields with WASI's error number."""
_ERRNOS = frozenset(Errno)
_HASHES = tuple(get_args(hint)[1] for hint in (Hash256, JournalId))


class EventFormat(NamedTuple):
    """Format of one kind of event: ``template % values``, after ``converts`` by field index."""

    unpack: Callable[[bytes, int], tuple[Any, ...]]
    template: str
    converts: tuple[tuple[int, Converter], ...]

    def format(self, payload: bytes, offset: int) -> str:
        """Return the text of one event. Raises ``MalformedEvent`` for an invalid payload."""
        values = self.unpack(payload, offset)
        if not self.converts:
            return self.template % values
        found = list(values)
        for index, convert in self.converts:
            found[index] = convert(found[index])
        return self.template % tuple(found)


def text_formats(
    shown: int | None, kinds: Mapping[int, type[Event]] = BY_TAG
) -> dict[int, EventFormat]:
    """Return the text formats by tag. Bytes are cut after ``shown`` bytes unless it is None.

    Cut text also hides the values of environment variables, because they are often secrets.
    """
    converters = _text_converters(shown)
    formats = {}
    for tag, cls in kinds.items():
        converts = dict(_field_converters(cls, converters))
        if cls is ProcessStart and shown is not None:
            converts[cls.names.index("environment")] = _hide_values
        template = "  ".join((cls.__name__, *(f"{name}=%s" for name in cls.names)))
        formats[tag] = EventFormat(codec.make_unpacker(cls), template, tuple(converts.items()))
    for cls, unpack in memory_format.text_formatters(shown).items():
        formats[cls.tag] = EventFormat(unpack, f"{cls.__name__}  %s", ())
    return formats


def json_formats(kinds: Mapping[int, type[Event]] = BY_TAG) -> dict[int, EventFormat]:
    """Return the JSON formats by tag, with the names of kind and group and the fields."""
    formats, short = {}, memory_format.json_formatters()
    for tag, cls in kinds.items():
        about = f'"tag": {tag}, "kind": "{cls.__name__}", "group": "{cls.group.value}"'
        if cls in short:
            formats[tag] = EventFormat(short[cls], f'{about}, "fields": %s', ())
            continue
        named = ", ".join(f'"{name}": %s' for name in cls.names)
        unpack, converts = codec.make_unpacker(cls), tuple(_field_converters(cls, _JSON_CONVERTERS))
        formats[tag] = EventFormat(unpack, f'{about}, "fields": {{{named}}}', converts)
    return formats


def bytes_to_json(value: bytes) -> str:
    """Return bytes as a JSON string in base64."""
    return f'"{binascii.b2a_base64(value, newline=False).decode("ascii")}"'


def bytes_to_text(shown: int | None) -> Converter:
    """Return a converter of bytes to their repr, cut after ``shown`` bytes unless it is None."""

    def convert(value: bytes) -> str:
        if shown is None or len(value) <= shown:
            return repr(value)
        return f"<{len(value)} bytes: {value[:shown]!r}…>"

    return convert


def _field_converters(
    cls: type[Event], converters: Mapping[object, Converter]
) -> list[tuple[int, Converter]]:
    hints = get_type_hints(cls, include_extras=True)
    found = []
    for index, name in enumerate(cls.names):
        base, construct = get_args(hints[name])[:2]
        if name == "errno" and ERRNO in converters:
            found.append((index, converters[ERRNO]))
        if base is int:
            continue
        kind = "hash" if construct in _HASHES else base
        kind = IntEnum if isinstance(base, type) and issubclass(base, IntEnum) else kind
        found.append((index, converters.get(kind, converters[object])))
    return found


def _hide_values(variables: tuple[bytes, ...]) -> str:
    names = [repr(variable.partition(b"=")[0])[2:-1] + "=…" for variable in variables]
    return f"[{', '.join(names)}]"


# -- text -----------------------------------------------------------------------------------


def _text_converters(shown: int | None) -> dict[object, Converter]:
    of_bytes = bytes_to_text(shown)

    def of_text(value: str) -> str:
        if shown is not None and len(value) > 4 * shown:
            return f"<{len(value)} characters: {value[: 4 * shown]!r}…>"
        # repr() escapes characters that are not printable, including surrogates.
        return value if value.isidentifier() and value.isascii() else repr(value)

    def of_any(value: Any) -> str:
        if value is None:
            return "none"
        if isinstance(value, bytes):
            return of_bytes(value)
        if isinstance(value, str):
            return of_text(value)
        if isinstance(value, tuple):
            items = value if shown is None else value[: 4 * shown]
            more = f", … {len(value)} in all" if len(items) < len(value) else ""
            return f"[{', '.join(map(of_any, items))}{more}]"
        if isinstance(value, SocketAddress):
            return format_address(value)
        if is_dataclass(value):
            parts = [f"{part.name}={of_any(getattr(value, part.name))}" for part in fields(value)]
            return f"({', '.join(parts)})"
        return _enum_to_text(value) if isinstance(value, IntEnum) else str(value)

    return {
        bytes: of_bytes,
        str: of_text,
        bool: _bool_to_text,
        IntEnum: _enum_to_text,
        "hash": bytes.hex,
        ERRNO: _errno_to_text,
        object: of_any,
    }


def _errno_to_text(value: int) -> str:
    return Errno(value).name if value and value in _ERRNOS else str(value)


def _bool_to_text(value: bool) -> str:
    return "true" if value else "false"


def _enum_to_text(value: IntEnum) -> str:
    return value.name


# -- JSON --------------------------------------------------------------------------------------


def to_json_value(value: Any) -> Any:
    """Return a value as JSON values: dataclasses as objects, tuples as arrays, bytes as base64."""
    if isinstance(value, bytes):
        return binascii.b2a_base64(value, newline=False).decode("ascii")
    if isinstance(value, tuple):
        return [to_json_value(item) for item in value]
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, IPv4Address | IPv6Address):
        return str(value)
    if is_dataclass(value):
        return {part.name: to_json_value(getattr(value, part.name)) for part in fields(value)}
    return value


def _any_to_json(value: Any) -> str:
    return json.dumps(to_json_value(value))


def _enum_to_json(value: IntEnum) -> str:
    return f'"{value.name}"'


_JSON_CONVERTERS: dict[object, Converter] = {
    bytes: bytes_to_json,
    str: json_text,
    bool: _bool_to_text,
    IntEnum: _enum_to_json,
    "hash": bytes_to_json,
    object: _any_to_json,
}

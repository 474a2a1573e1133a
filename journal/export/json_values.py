"""Exact conversion of field values to JSON and back.

Integers are numbers if JavaScript holds them exactly, else decimal strings. Bytes are an object
that names their encoding: text, base64 or hex; redacted bytes are an object with their size and
hash; partly redacted bytes are a list of such objects.
"""

import base64
import binascii
import os
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple

import construct as cs

from journal.events.wire_types import (
    DURATION,
    FLAG,
    GUEST_PATH,
    HOST_PATH,
    IP_ADDRESS,
    IPV4,
    IPV6,
    LIST_COUNT_MAX,
    Enumerated,
    ListOf,
    OptionalOf,
    RecordOf,
    TupleOf,
)
from journal.format.frame import PAYLOAD_SIZE_MAX

EXACT_MAX = (1 << 53) - 1
"""Largest absolute value up to which JavaScript holds every integer exactly."""

_DIGITS = re.compile(r"-?(0|[1-9][0-9]{0,29})")
_LAYOUT = str.maketrans("", "", "\t\n\r")


class RedactedBytes(NamedTuple):
    """Redacted bytes or text: the size in bytes, and a salted hash in hex."""

    size: int
    hash: str

    def make_filler(self) -> bytes:
        """Return printable filler of the same size. Equal hashes have equal filler."""
        return (self.hash.encode() * (self.size // len(self.hash) + 1))[: self.size]


class BytePieces(NamedTuple):
    """Bytes of which some pieces are redacted."""

    parts: tuple[bytes | RedactedBytes, ...]


class Conversion(NamedTuple):
    """Conversion of a field's values to JSON and back.

    ``from_json`` raises ValueError for an invalid JSON value.
    """

    to_json: Callable[[Any], Any]
    from_json: Callable[[Any], Any]


def make_conversion(con: cs.Construct) -> Conversion:
    """Return the conversion for a construct."""
    for leaf, conversion in _LEAVES:
        if con is leaf:
            return conversion
    for shape, make in _SHAPES:
        if isinstance(con, shape):
            return make(con)
    raise TypeError(f"construct {con} has no conversion to JSON")


# -- numbers, strings, bytes ----------------------------------------------------------------------


def number_to_json(value: int) -> int | str:
    """Return an integer as a number, or as decimal digits if JavaScript would round it."""
    return int(value) if -EXACT_MAX <= value <= EXACT_MAX else str(int(value))


def number_from_json(value: Any) -> int:
    """Return the integer for a number or its decimal digits."""
    if type(value) is int:
        return value
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    raise ValueError(f"expected a whole number, got {shorten_value(value)}")


def bytes_to_json(value: bytes | RedactedBytes | BytePieces) -> Any:
    """Return bytes as text if they are printable UTF-8, else as base64; or as a redacted value."""
    if isinstance(value, RedactedBytes):
        return {"size": value.size, "hash": value.hash}
    if isinstance(value, BytePieces):
        return [bytes_to_json(part) for part in value.parts]
    try:
        text = value.decode()
        if text.isprintable() or text.translate(_LAYOUT).isprintable():
            return {"text": text}
    except UnicodeDecodeError:
        pass
    return {"base64": base64.b64encode(value).decode("ascii")}


def bytes_from_json(value: Any) -> bytes:
    """Return the bytes for a JSON value. Redacted bytes become filler."""
    if isinstance(value, list):
        parts, size = [], 0
        for piece in value:
            if isinstance(piece, list):
                raise ValueError("pieces of bytes cannot be nested")
            parts.append(bytes_from_json(piece))
            size += len(parts[-1])
            _check_size(size)
        return b"".join(parts)
    if isinstance(value, dict) and value.keys() == {"size", "hash"}:
        return redacted_from_json(value).make_filler()
    if isinstance(value, dict) and len(value) == 1:
        ((form, text),) = value.items()
        if form in _FORMS and isinstance(text, str):
            try:
                return _FORMS[form](text)
            except (binascii.Error, ValueError) as error:
                raise ValueError(f"{shorten_value(text)} is not valid {form}") from error
    raise ValueError(f"expected an object with text, base64 or hex, got {shorten_value(value)}")


def redacted_from_json(value: dict[str, Any]) -> RedactedBytes:
    """Return the redacted bytes for a JSON value."""
    size, digest = number_from_json(value["size"]), value["hash"]
    _check_size(size)
    if not (isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{2,128}", digest)):
        raise ValueError(f"hash must be 2 to 128 hex digits, got {shorten_value(digest)}")
    return RedactedBytes(size, digest)


def is_redacted(value: Any) -> bool:
    """Return whether a JSON value, or a value inside it, is redacted."""
    if isinstance(value, dict):
        return value.keys() == {"size", "hash"} or any(map(is_redacted, value.values()))
    return isinstance(value, list) and any(map(is_redacted, value))


def _check_size(size: int) -> None:
    if not 0 <= size <= PAYLOAD_SIZE_MAX:
        raise ValueError(f"size must be 0 to {PAYLOAD_SIZE_MAX} bytes, got {size}")


def _text_to_json(value: str | RedactedBytes) -> Any:
    return value if isinstance(value, str) else bytes_to_json(value)


def _text_from_json(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and value.keys() == {"size", "hash"}:
        return redacted_from_json(value).make_filler().decode()
    raise ValueError(f"expected a string, got {shorten_value(value)}")


def _path_to_json(value: str) -> Any:
    raw = os.fsencode(value)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode("ascii")}


def _path_from_json(value: Any) -> str:
    raw = value.encode() if isinstance(value, str) else bytes_from_json(value)
    return os.fsdecode(raw)


def _flag_from_json(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {shorten_value(value)}")
    return value


def _make_address_parser(kind: Callable[[str], Any]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if not isinstance(value, str) or "%" in value:
            raise ValueError(f"expected an IP address, got {shorten_value(value)}")
        return kind(value)

    return convert


# -- composed types -------------------------------------------------------------------------------


def _make_enum_conversion(con: Enumerated) -> Conversion:
    members = con.members.__members__

    def convert(value: Any) -> Any:
        if not isinstance(value, str) or value not in members:
            raise ValueError(
                f"expected a member of {con.members.__name__}, got {shorten_value(value)}"
            )
        return members[value]

    return Conversion(lambda value: value.name, convert)


def _make_optional_conversion(con: OptionalOf) -> Conversion:
    inner = make_conversion(con.subcon)
    return Conversion(
        lambda value: None if value is None else inner.to_json(value),
        lambda value: None if value is None else inner.from_json(value),
    )


def _make_list_conversion(con: ListOf) -> Conversion:
    inner = make_conversion(con.subcon)

    def convert(value: Any) -> Any:
        if not isinstance(value, list) or len(value) > LIST_COUNT_MAX:
            raise ValueError(
                f"expected a list of at most {LIST_COUNT_MAX} items, got {shorten_value(value)}"
            )
        return tuple(map(inner.from_json, value))

    return Conversion(lambda value: list(map(inner.to_json, value)), convert)


def _make_row_conversion(con: TupleOf) -> Conversion:
    inner = [make_conversion(part) for part in con.values]

    def to_json(value: Any) -> list[Any]:
        return [conversion.to_json(item) for conversion, item in zip(inner, value, strict=True)]

    def convert(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(inner):
            raise ValueError(f"expected a list of {len(inner)} items, got {shorten_value(value)}")
        return tuple(
            conversion.from_json(item) for conversion, item in zip(inner, value, strict=True)
        )

    return Conversion(to_json, convert)


def _make_record_conversion(con: RecordOf) -> Conversion:
    inner = {name: make_conversion(part) for name, part in con.fields.items()}

    def to_json(value: Any) -> dict[str, Any]:
        return {
            name: conversion.to_json(getattr(value, name)) for name, conversion in inner.items()
        }

    def convert(value: Any) -> Any:
        if not isinstance(value, dict) or value.keys() != inner.keys():
            raise ValueError(
                f"expected an object with the fields {', '.join(inner)}, got {shorten_value(value)}"
            )
        return con.kind(
            **{name: conversion.from_json(value[name]) for name, conversion in inner.items()}
        )

    return Conversion(to_json, convert)


def _make_fixed_bytes_conversion(con: cs.Bytes) -> Conversion:
    def to_json(value: bytes | RedactedBytes) -> Any:
        return bytes_to_json(value) if isinstance(value, RedactedBytes) else {"hex": value.hex()}

    return Conversion(to_json, bytes_from_json)


def shorten_value(value: Any) -> str:
    """Return the repr of a value, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_FORMS: dict[str, Callable[[str], bytes]] = {
    "text": str.encode,
    "base64": _from_base64,
    "hex": bytes.fromhex,
}
_NUMBER = Conversion(number_to_json, number_from_json)
_BYTES = Conversion(bytes_to_json, bytes_from_json)
_LEAVES: list[tuple[cs.Construct, Conversion]] = [
    (FLAG, Conversion(bool, _flag_from_json)),
    (GUEST_PATH, Conversion(_path_to_json, _path_from_json)),
    (HOST_PATH, Conversion(_path_to_json, _path_from_json)),
    (DURATION, _NUMBER),
    (IPV4, Conversion(str, _make_address_parser(IPv4Address))),
    (IPV6, Conversion(str, _make_address_parser(IPv6Address))),
    (IP_ADDRESS, Conversion(str, _make_address_parser(ip_address))),
]
_SHAPES: list[tuple[type[cs.Construct], Callable[[Any], Conversion]]] = [
    (Enumerated, _make_enum_conversion),
    (RecordOf, _make_record_conversion),
    (TupleOf, _make_row_conversion),
    (OptionalOf, _make_optional_conversion),
    (ListOf, _make_list_conversion),
    (cs.FormatField, lambda _: _NUMBER),
    (cs.Bytes, _make_fixed_bytes_conversion),
    (cs.StringEncoded, lambda _: Conversion(_text_to_json, _text_from_json)),
    (cs.Prefixed, lambda _: _BYTES),
]

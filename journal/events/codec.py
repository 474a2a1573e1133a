"""Fast codec between payload bytes and events.

The construct layout of an event is the authority. On the first use of a class, its layout is
compiled to four small functions: consecutive fixed-size values share one ``struct.Struct``, sized
bytes and text are sliced, lists of fixed-size items are unpacked in one call, and any other
construct is called directly.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from itertools import islice, starmap
from typing import Any, NamedTuple

import construct as cs

from journal._arguments import check_bytes, check_int, check_mapping, quote
from journal._compiled import IS_COMPILED
from journal.errors import LimitExceeded, MalformedEvent, OptionError, UnknownEvent
from journal.events import APPLICATION_TAGS, BY_TAG
from journal.events.declared_kinds import DeclaredEvent, pack_values, unpack_values
from journal.events.definition import Event, field_values
from journal.events.opaque import OpaqueEvent
from journal.events.wire_types import (
    FLAG,
    PAYLOAD_SIZE_MAX,
    Enumerated,
    EscapedText,
    ListOf,
    Mapped,
    check_count,
)
from journal.format.columns import (
    BLOCK_SIZE_TARGET,
    COLUMNS_SIZE_PER_EVENT,
    Frames,
    PackedFrames,
    pack,
)

try:
    from journal.events._native.batch_packer import BatchPacker
except ImportError:  # Only the compiled build requires librt.
    NATIVE = False
else:
    NATIVE = IS_COMPILED
"""Whether compiled code packs rows; the same code would be slow if interpreted."""

_ROWS_AT_ONCE = 1 << 10

ENCODING_ERRORS = (
    struct.error,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    cs.ConstructError,
)
"""Exceptions for bytes or values that do not fit a layout."""


def encode(event: Event) -> bytes:
    """Return the payload of ``event``.

    Raises MalformedEvent for a value that does not fit its field, and LimitExceeded for a payload
    that is too large.
    """
    if isinstance(event, OpaqueEvent):
        return event.payload
    return _CODECS[type(event)].encode(event)


def decode(
    tag: int,
    payload: bytes | memoryview,
    offset: int = 0,
    kinds: Mapping[int, type[Event]] = BY_TAG,
) -> Event:
    """Return the event that ``payload`` encodes.

    ``kinds`` are the kinds by tag, such as ``Reader.declarations().kinds``. A tag of applications
    that is not among them, or a payload that does not fit its declaration, is an OpaqueEvent.
    Raises UnknownEvent or MalformedEvent, both with ``offset``.
    """
    # A wrong payload is refused where it is unpacked.
    if not (type(tag) is int and type(offset) is int):
        tag, offset = check_int("tag", tag), check_int("offset", offset)
    try:
        cls = kinds.get(tag)
    except AttributeError:
        check_mapping("kinds", kinds)
        raise
    if tag in APPLICATION_TAGS:
        if cls is not None:
            with suppress(MalformedEvent):
                return _CODECS[cls].decode(payload, offset)
        return OpaqueEvent(tag=tag, payload=check_bytes("payload", payload))
    if cls is None:
        raise UnknownEvent(f"unknown event tag {quote(tag)}", offset)
    return _CODECS[cls].decode(payload, offset)


def check_kind(cls: type[Event]) -> None:
    """Raise OptionError for anything but a declared class of events."""
    is_event = isinstance(cls, type) and issubclass(cls, Event)
    if not is_event or not hasattr(cls, "draft"):  # Base classes have none, and no tag.
        raise OptionError(f"an event must be of a declared kind, got {quote(cls)}")


def make_packer(cls: type[Event]) -> Callable[..., bytes]:
    """Return a function from the values of an event, in wire order, to its payload.

    The function is for hot calls: defaults do not apply, and a value that does not fit raises any
    of ``ENCODING_ERRORS``.
    """
    return _CODECS[cls].pack


def make_unpacker(cls: type[Event]) -> Callable[..., tuple[Any, ...]]:
    """Return a function from a payload to the values of an event, in wire order.

    Its second parameter is the offset for MalformedEvent.
    """
    return _CODECS[cls].unpack


def make_late_packer(cls: type[Event]) -> Callable[..., bytes]:
    """Return a function as :func:`make_packer` does, whose code is generated at its first call.

    It is for events that most runs do not have: generating code delays a start by half a
    millisecond.
    """

    def pack(*values: Any) -> bytes:
        return make_packer(cls)(*values)

    return pack


def make_late_unpacker(cls: type[Event]) -> Callable[..., tuple[Any, ...]]:
    """Return a function as :func:`make_unpacker` does, generated at its first call."""

    def unpack(payload: bytes | memoryview, offset: int = 0) -> tuple[Any, ...]:
        return make_unpacker(cls)(payload, offset)

    return unpack


def pack_rows(
    cls: type[Event], rows: Iterable[tuple[Any, ...]], time: int
) -> Iterator[PackedFrames]:
    """Pack events of one kind, given as rows of values in wire order, for blocks.

    Each result but the last fills a block. Raises MalformedEvent or LimitExceeded for a row that
    does not fit, after yielding the blocks that earlier rows fill.
    """
    tag, codes = bytes((cls.tag,)), row_codes(cls) if NATIVE else ""
    try:
        if codes:
            for raw, ends, count in _pack_natively(BatchPacker(codes, make_packer(cls)), rows):
                yield PackedFrames(count, raw, ends, tag, b"", time, time)
        else:
            for payloads in _split_into_blocks(starmap(make_packer(cls), rows)):
                yield pack(Frames(tag, payloads, (time,)))
    except ENCODING_ERRORS as cause:
        raise _malformed_error(cls, cause, 0) from cause


def row_codes(cls: type[Event]) -> str:
    """Return the ``ROW_CODES`` of the fields of an event class; empty if a field is not plain.

    > Why only plain fields? The kinds that occur in large numbers are plain.
    """
    codes = [_row_code(field.subcon) for field in cls.layout.subcons]
    return "".join(codes) if all(codes) else ""


def _row_code(con: cs.Construct) -> str:
    if con is FLAG:
        return "?"
    if _is_plain(con):
        return _code(con)
    if isinstance(con, cs.StringEncoded) and _is_sized(con):
        return "" if isinstance(con, EscapedText) else "t"
    return "s" if isinstance(con, cs.Prefixed) and _is_sized(con) else ""


def _pack_natively(
    packer: "BatchPacker", rows: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[bytes, bytes, int]]:
    batch = rows if isinstance(rows, list) else []
    rest = iter(()) if batch else iter(rows)
    while batch or (batch := list(islice(rest, _ROWS_AT_ONCE))):
        start = 0
        while start < len(batch):
            start = packer.add(batch, start)
            if packer.is_full():
                yield packer.take()
        batch = []
    if not packer.is_empty():
        yield packer.take()


def _split_into_blocks(payloads: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Split payloads into lists that each fill a block."""
    block: list[bytes] = []
    space = BLOCK_SIZE_TARGET
    for payload in payloads:
        block.append(payload)
        space -= len(payload) + COLUMNS_SIZE_PER_EVENT
        if space <= 0:
            yield block
            block, space = [], BLOCK_SIZE_TARGET
    if block:
        yield block


class _Codec(NamedTuple):
    """The codec functions of one event class."""

    encode: Callable[[Event], bytes]
    decode: Callable[[bytes | memoryview, int], Event]
    pack: Callable[..., bytes]
    unpack: Callable[..., tuple[Any, ...]]


class _Codecs(dict[type[Event], _Codec]):
    """Codecs by event class, each built on its first use."""

    def __missing__(self, cls: type[Event]) -> _Codec:
        if isinstance(cls, type) and issubclass(cls, DeclaredEvent) and cls is not DeclaredEvent:
            # It is not kept: a program may read any number of journals with other declarations.
            return _make_generic_codec(cls)
        check_kind(cls)
        self[cls] = codec = _Plan(cls).build()
        return codec


def _make_generic_codec(cls: type[Event]) -> _Codec:
    """Return a codec that calls the constructs of the fields, and compiles nothing."""

    def pack(*values: Any) -> bytes:
        return pack_values(cls, values)

    def unpack(payload: bytes | memoryview, offset: int = 0) -> tuple[Any, ...]:
        try:
            return unpack_values(cls, payload)
        except ENCODING_ERRORS as cause:
            raise _malformed_error(cls, cause, offset) from cause

    def encode(event: Event) -> bytes:
        try:
            return pack_values(cls, field_values(event))
        except ENCODING_ERRORS as cause:
            raise _malformed_error(cls, cause, 0) from cause

    def decode(payload: bytes | memoryview, offset: int) -> Event:
        return cls(**dict(zip(cls.names, unpack(payload, offset), strict=True)))

    return _Codec(encode, decode, pack, unpack)


_CODECS = _Codecs()


class _Plan:
    """Source lines of the codec of one event class.

    ``unpack_lines`` unpack the fields of ``payload`` into local variables and leave ``at`` after
    the last field. ``pack_parts`` are expressions whose results form the payload;
    ``prepare_lines`` convert the variables first. The variable of a field is its name with a
    leading underscore. ``scope`` holds all other names in the lines.
    """

    def __init__(self, cls: type[Event]) -> None:
        self.cls = cls
        self.scope: dict[str, Any] = dict(_SCOPE, cls=cls, draft=cls.draft)
        self.unpack_lines: list[str] = []
        self.pack_parts: list[str] = []
        self.prepare_lines: list[str] = []
        self.run: list[_RunValue] = []
        constructs = [field.subcon for field in cls.layout.subcons]
        for name, con in zip(cls.names, constructs, strict=True):
            self.add_field(name, con)
        self.end_run()
        self.is_plain = bool(constructs) and all(_is_plain(con) for con in constructs)

    def add_field(self, name: str, con: cs.Construct) -> None:
        """Add the lines of one field."""
        if isinstance(con, Mapped):
            self.scope[f"lift_{name}"], self.scope[f"lower_{name}"] = con.lift, con.lower
        if _code(con):
            self.add_fixed(name, con)
        elif _is_sized(con):
            self.add_sized(name, con)
        elif isinstance(con, ListOf) and isinstance(con.subcon, cs.FormatField):
            self.add_list(name, con.subcon)
        else:
            self.add_other(name, con)

    def add_fixed(self, name: str, con: cs.Construct) -> None:
        """Add a value of fixed size to the current run."""
        code, target = _code(con), f"_{name}"
        expression, lift = target, ""
        if isinstance(con, Mapped):
            lift = f"{target} = lift_{name}({target})"
            expression = target if _is_plain(con) else f"lower_{name}({target})"
        if code.endswith("s"):
            expression = (
                f"check_size({expression}, {code[:-1]})"  # struct would cut or pad the bytes.
            )
        self.run.append(_RunValue(code, "?" if con is FLAG else code, target, expression, lift))

    def add_sized(self, name: str, con: cs.Construct) -> None:
        """Add bytes, or a value converted from bytes: their size is the last value of the run."""
        expression, target = "payload[start:at]", f"_{name}"
        if isinstance(con, Mapped):
            expression = f"lift_{name}({expression})"
            self.prepare_lines.append(f"{target} = lower_{name}({target})")
        elif isinstance(con, cs.StringEncoded):
            handling = '"utf-8", "surrogateescape"' if isinstance(con, EscapedText) else '"utf-8"'
            expression = f"str({expression}, {handling})"
            self.prepare_lines.append(f"{target} = {target}.encode({handling})")
        self.run.append(_RunValue("I", "I", "size", f"len({target})"))
        self.end_run()
        self.unpack_lines += ["start = at", "at += size", f"{target} = {expression}"]
        self.pack_parts.append(target)

    def add_list(self, name: str, item: cs.Construct) -> None:
        """Add a list of numbers, unpacked in one call: its count is the last value of the run."""
        number, target = struct.Struct("<" + _code(item)), f"_{name}"
        self.scope[f"iterate_{name}"], self.scope[f"pack_{name}"] = number.iter_unpack, number.pack
        self.run.append(_RunValue("I", "I", "count", f"check_count(len({target}))"))
        self.end_run()
        self.unpack_lines += ["start = at", f"at += check_count(count) * {number.size}"]
        self.unpack_lines.append(
            f"{target} = tuple([item for item, in iterate_{name}(payload[start:at])])"
        )
        self.pack_parts.append(f'b"".join(map(pack_{name}, {target}))')

    def add_other(self, name: str, con: cs.Construct) -> None:
        """Add a call of any other construct."""
        self.end_run()
        self.scope[f"con_{name}"] = con
        if not self.unpack_lines:
            self.unpack_lines.append("at = 0")
        self.unpack_lines.append(f"_{name}, at = parse(con_{name}, payload, at)")
        self.pack_parts.append(f"con_{name}.build(_{name})")

    def end_run(self) -> None:
        """Add the lines of the current run of fixed-size values, and start a new run."""
        if not self.run:
            return
        number = len(self.pack_parts)
        unpack = struct.Struct("<" + "".join(value.unpacks for value in self.run))
        pack = struct.Struct("<" + "".join(value.packs for value in self.run))
        self.scope[f"unpack_{number}"] = unpack.unpack_from
        self.scope[f"pack_{number}"] = pack.pack
        targets = "".join(f"{value.target}, " for value in self.run)
        if self.unpack_lines:
            self.unpack_lines += [
                f"{targets} = unpack_{number}(payload, at)",
                f"at += {unpack.size}",
            ]
        else:
            self.unpack_lines += [f"{targets} = unpack_{number}(payload)", f"at = {unpack.size}"]
        self.unpack_lines += [value.lift for value in self.run if value.lift]
        self.pack_parts.append(
            f"pack_{number}({', '.join(value.expression for value in self.run)})"
        )
        self.run = []

    def build(self) -> _Codec:
        """Compile the lines to functions."""
        names = self.cls.names
        values = [f"_{name}" for name in names]
        result = [f"return ({''.join(f'{value}, ' for value in values)})"]
        create = ["event = draft()", *(f"event.{name} = _{name}" for name in names)]
        create += ["event.__class__ = cls", "return event"]
        load = [f"_{name} = event.{name}" for name in names]
        encode = _function_lines("encode(event)", _guard_lines(load + self.build_pack_lines(), "0"))
        decode = _function_lines(
            "decode(payload, offset)", _guard_lines(self.build_unpack_lines(), "offset") + create
        )
        pack = _function_lines(f"pack({', '.join(values)})", self.build_pack_lines())
        unpack = _function_lines(
            "unpack(payload, offset=0)", _guard_lines(self.build_unpack_lines(), "offset") + result
        )
        source = "\n".join(encode + decode + pack + unpack)
        exec(compile(source, f"<codec of {self.cls.__name__}>", "exec"), self.scope)
        if self.is_plain:
            self.scope["pack"] = self.scope["pack_0"]
        return _Codec(*(self.scope[name] for name in _Codec._fields))

    def build_pack_lines(self) -> list[str]:
        """Return the lines that build and return a payload."""
        if self.is_plain:
            return [f"return {self.pack_parts[0]}"]
        joined = (
            " + ".join(self.pack_parts)
            if len(self.pack_parts) < 3
            else _join_expression(self.pack_parts)
        )
        lines = [*self.prepare_lines, f"payload = {joined or 'bytes()'}"]
        lines += [f"if len(payload) > {PAYLOAD_SIZE_MAX}:", "    raise oversize(len(payload))"]
        return [*lines, "return payload"]

    def build_unpack_lines(self) -> list[str]:
        """Return the lines that unpack a whole payload.

        The last line checks the size: a field that ends after the payload leaves ``at`` beyond it.
        """
        return [
            "if payload.__class__ is not bytes:",
            "    payload = bytes(payload)",
            *(self.unpack_lines or ["at = 0"]),
            f"if at != len(payload) or at > {PAYLOAD_SIZE_MAX}:",
            "    raise misfit(at, len(payload))",
        ]


class _RunValue(NamedTuple):
    """A value of a run: its ``struct`` codes, its variable, and its expression for packing."""

    unpacks: str
    packs: str
    target: str
    expression: str
    lift: str = ""


def _code(con: cs.Construct) -> str:
    """Return the ``struct`` code of a fixed-size value, empty for any other construct."""
    if isinstance(con, Mapped):
        return _code(con.subcon)
    if isinstance(con, cs.FormatField):
        return str(con.fmtstr[-1])
    if isinstance(con, cs.Bytes) and isinstance(con.length, int):
        return f"{con.length}s"
    return ""


def _is_plain(con: cs.Construct) -> bool:
    """Return whether ``struct`` packs the Python value directly: a number, a flag, or a member."""
    return isinstance(con, cs.FormatField | Enumerated) or con is FLAG


def _is_sized(con: cs.Construct) -> bool:
    """Return whether ``con`` is bytes with a size prefix, or a value converted from them."""
    if isinstance(con, Mapped | cs.StringEncoded):
        return _is_sized(con.subcon)
    return (
        isinstance(con, cs.Prefixed)
        and con.lengthfield is cs.Int32ul
        and con.subcon is cs.GreedyBytes
    )


def _function_lines(signature: str, body: list[str]) -> list[str]:
    return [f"def {signature}:", *(f"    {line}" for line in body)]


def _guard_lines(lines: list[str], offset: str) -> list[str]:
    """Return ``lines`` with a handler that converts ENCODING_ERRORS to MalformedEvent."""
    return [
        "try:",
        *(f"    {line}" for line in lines),
        "except ENCODING_ERRORS as cause:",
        f"    raise malformed(cls, cause, {offset}) from cause",
    ]


def _join_expression(parts: list[str]) -> str:
    return f'b"".join(({", ".join(parts)}))'


def _malformed_error(cls: type[Event], cause: Exception, offset: int) -> MalformedEvent:
    return MalformedEvent(f"{cls.__name__}: {' '.join(str(cause).split())}", offset)


def _size_error(at: int, size: int) -> ValueError:
    if at == size:
        return ValueError(f"payload has {size} bytes, but the limit is {PAYLOAD_SIZE_MAX}")
    if at > size:
        return ValueError(f"{at - size} bytes are missing")
    return ValueError(f"{size - at} bytes are left over")


def _oversize_error(size: int) -> LimitExceeded:
    return LimitExceeded(f"event payload has {size} bytes, but the limit is {PAYLOAD_SIZE_MAX}")


def _check_size(value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise ValueError(f"expected {size} bytes, got {len(value)}")
    return value


def _parse(con: cs.Construct, payload: bytes, at: int) -> tuple[Any, int]:
    stream = BytesIO(payload)
    stream.seek(at)
    value = con.parse_stream(stream)
    return value, stream.tell()


_SCOPE = {
    "ENCODING_ERRORS": ENCODING_ERRORS,
    "check_count": check_count,
    "check_size": _check_size,
    "malformed": _malformed_error,
    "misfit": _size_error,
    "oversize": _oversize_error,
    "parse": _parse,
}

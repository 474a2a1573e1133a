"""Payload bytes to events and back, at speed.

An event's construct layout is the authority. For each class, when it is first needed, a plan of
the layout is written out as four small functions: runs of fixed-size values share one
``struct.Struct``, sized bytes and text are sliced, lists of fixed-size items are unpacked in one
call, and any other construct is called as it stands.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from itertools import islice, starmap
from typing import Any, NamedTuple

import construct as cs

from journal._compiled import ACCELERATED
from journal.errors import LimitExceeded, MalformedEvent, UnknownEvent
from journal.events import BY_TAG
from journal.events.definition import Event
from journal.events.wire_types import (
    FLAG,
    PAYLOAD_SIZE_MAX,
    Enumerated,
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
    from journal.events.batch_packer import BatchPacker
except ImportError:  # without librt, which only the compiled build asks for
    NATIVE = False
else:
    NATIVE = ACCELERATED
"""Whether rows are packed by compiled code; interpreted, that code would be slow."""

_ROWS_AT_ONCE = 1 << 10

ENCODING_ERRORS = (struct.error, ValueError, cs.ConstructError)
"""What bytes or values raise that do not fit the layout."""


def encode(event: Event) -> bytes:
    """The payload of ``event``.

    MalformedEvent if a value does not fit its field, LimitExceeded if the payload gets too large.
    """
    return _CODECS[type(event)].encode(event)


def decode(tag: int, payload: bytes | memoryview, offset: int = 0) -> Event:
    """The event that ``payload`` encodes; UnknownEvent, or MalformedEvent, at ``offset``."""
    cls = BY_TAG.get(tag)
    if cls is None:
        raise UnknownEvent(f"unknown event tag {tag}", offset)
    return _CODECS[cls].decode(payload, offset)


def make_packer(cls: type[Event]) -> Callable[..., bytes]:
    """A function of an event's values, positional and in wire order, to its payload.

    For hot calls. Defaults do not apply, and a value that does not fit raises what it raises.
    """
    return _CODECS[cls].pack


def make_unpacker(cls: type[Event]) -> Callable[..., tuple[Any, ...]]:
    """A function of a payload, and of an offset for MalformedEvent, to the values in wire order."""
    return _CODECS[cls].unpack


def pack_rows(
    cls: type[Event], rows: Iterable[tuple[Any, ...]], time: int
) -> Iterator[PackedFrames]:
    """Pack events of one kind, each given by its values in wire order, as the blocks store them.

    All but the last fill a block. Raises MalformedEvent or LimitExceeded for a row that does not
    fit, after the blocks that the rows before it fill.
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
    """What a row of an event's values holds, for ``packing``; empty if it is not as plain as that.

    > Why not more? The kinds that come in masses are plain.
    """
    codes = [_row_code(named.subcon) for named in cls.layout.subcons]
    return "".join(codes) if all(codes) else ""


def _row_code(con: cs.Construct) -> str:
    if con is FLAG:
        return "?"
    if _is_plain(con):
        return _code(con)
    if isinstance(con, cs.StringEncoded) and _is_sized(con):
        return "t"
    return "s" if isinstance(con, cs.Prefixed) and _is_sized(con) else ""


def _pack_natively(
    packer: "BatchPacker", rows: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[bytes, bytes, int]]:
    some = rows if isinstance(rows, list) else []
    rest = iter(()) if some else iter(rows)
    while some or (some := list(islice(rest, _ROWS_AT_ONCE))):
        start = 0
        while start < len(some):
            start = packer.add(some, start)
            if packer.is_full():
                yield packer.take()
        some = []
    if not packer.is_empty():
        yield packer.take()


def _split_into_blocks(payloads: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Cut payloads into what fills a block."""
    held: list[bytes] = []
    room = BLOCK_SIZE_TARGET
    for payload in payloads:
        held.append(payload)
        room -= len(payload) + COLUMNS_SIZE_PER_EVENT
        if room <= 0:
            yield held
            held, room = [], BLOCK_SIZE_TARGET
    if held:
        yield held


class _Codec(NamedTuple):
    """The functions of one event class."""

    encode: Callable[[Event], bytes]
    decode: Callable[[bytes | memoryview, int], Event]
    pack: Callable[..., bytes]
    unpack: Callable[..., tuple[Any, ...]]


class _Codecs(dict[type[Event], _Codec]):
    """A codec for each class, planned when it is first asked for."""

    def __missing__(self, cls: type[Event]) -> _Codec:
        self[cls] = codec = _Plan(cls).codec()
        return codec


_CODECS = _Codecs()


class _Plan:
    """The codec of one event class as lines of Python.

    ``taking`` unpacks the fields of ``payload`` into local variables and leaves ``at`` behind
    them; ``giving`` are the expressions that make the payload of such variables, ``lowering`` the
    lines that prepare them. The variable of a field is its name with an underscore in front;
    whatever else the lines mention stands in ``scope``.
    """

    def __init__(self, cls: type[Event]) -> None:
        self.cls = cls
        self.scope: dict[str, Any] = dict(_SCOPE, cls=cls, draft=cls.draft)
        self.taking: list[str] = []
        self.giving: list[str] = []
        self.lowering: list[str] = []
        self.run: list[_RunValue] = []
        constructs = [named.subcon for named in cls.layout.subcons]
        for name, con in zip(cls.names, constructs, strict=True):
            self.field(name, con)
        self.end_run()
        self.is_plain = bool(constructs) and all(_is_plain(con) for con in constructs)

    def field(self, name: str, con: cs.Construct) -> None:
        """Plan one field."""
        if isinstance(con, Mapped):
            self.scope[f"lift_{name}"], self.scope[f"lower_{name}"] = con.lift, con.lower
        if _code(con):
            self.fixed(name, con)
        elif _is_sized(con):
            self.sized(name, con)
        elif isinstance(con, ListOf) and isinstance(con.subcon, cs.FormatField):
            self.listed(name, con.subcon)
        else:
            self.other(name, con)

    def fixed(self, name: str, con: cs.Construct) -> None:
        """Let a value of fixed size join the run."""
        code, target = _code(con), f"_{name}"
        given, lift = target, ""
        if isinstance(con, Mapped):
            lift = f"{target} = lift_{name}({target})"
            given = target if _is_plain(con) else f"lower_{name}({target})"
        if code.endswith("s"):
            given = f"check_size({given}, {code[:-1]})"  # struct would cut it or fill it up
        self.run.append(_RunValue(code, "?" if con is FLAG else code, target, given, lift))

    def sized(self, name: str, con: cs.Construct) -> None:
        """Slice bytes, or what is made of bytes: their size is the last value of the run."""
        found, target = "payload[start:at]", f"_{name}"
        if isinstance(con, Mapped):
            found = f"lift_{name}({found})"
            self.lowering.append(f"{target} = lower_{name}({target})")
        elif isinstance(con, cs.StringEncoded):
            found = f'str({found}, "utf-8")'
            self.lowering.append(f"{target} = {target}.encode()")
        self.run.append(_RunValue("I", "I", "size", f"len({target})"))
        self.end_run()
        self.taking += ["start = at", "at += size", f"{target} = {found}"]
        self.giving.append(target)

    def listed(self, name: str, item: cs.Construct) -> None:
        """Unpack a list of numbers at once: their count is the last value of the run."""
        number, target = struct.Struct("<" + _code(item)), f"_{name}"
        self.scope[f"each_{name}"], self.scope[f"pack_{name}"] = number.iter_unpack, number.pack
        self.run.append(_RunValue("I", "I", "count", f"check_count(len({target}))"))
        self.end_run()
        self.taking += ["start = at", f"at += check_count(count) * {number.size}"]
        self.taking.append(f"{target} = tuple([each for each, in each_{name}(payload[start:at])])")
        self.giving.append(f'b"".join(map(pack_{name}, {target}))')

    def other(self, name: str, con: cs.Construct) -> None:
        """Let any other construct parse and build by itself."""
        self.end_run()
        self.scope[f"con_{name}"] = con
        if not self.taking:
            self.taking.append("at = 0")
        self.taking.append(f"_{name}, at = parse(con_{name}, payload, at)")
        self.giving.append(f"con_{name}.build(_{name})")

    def end_run(self) -> None:
        """Write out the fixed-size values that have gathered."""
        if not self.run:
            return
        number = len(self.giving)
        unpack = struct.Struct("<" + "".join(value.unpacks for value in self.run))
        pack = struct.Struct("<" + "".join(value.packs for value in self.run))
        self.scope[f"unpack_{number}"] = unpack.unpack_from
        self.scope[f"pack_{number}"] = pack.pack
        targets = "".join(f"{value.target}, " for value in self.run)
        if self.taking:
            self.taking += [f"{targets} = unpack_{number}(payload, at)", f"at += {unpack.size}"]
        else:
            self.taking += [f"{targets} = unpack_{number}(payload)", f"at = {unpack.size}"]
        self.taking += [value.lift for value in self.run if value.lift]
        self.giving.append(f"pack_{number}({', '.join(value.given for value in self.run)})")
        self.run = []

    def codec(self) -> _Codec:
        """The functions that the lines make."""
        names = self.cls.names
        values = [f"_{name}" for name in names]
        found = [f"return ({''.join(f'{value}, ' for value in values)})"]
        made = ["event = draft()", *(f"event.{name} = _{name}" for name in names)]
        made += ["event.__class__ = cls", "return event"]
        got = [f"_{name} = event.{name}" for name in names]
        encode = _function_lines("encode(event)", _guard_lines(got + self.given(), "0"))
        decode = _function_lines(
            "decode(payload, offset)", _guard_lines(self.taken(), "offset") + made
        )
        pack = _function_lines(f"pack({', '.join(values)})", self.given())
        unpack = _function_lines(
            "unpack(payload, offset=0)", _guard_lines(self.taken(), "offset") + found
        )
        source = "\n".join(encode + decode + pack + unpack)
        exec(compile(source, f"<codec of {self.cls.__name__}>", "exec"), self.scope)
        if self.is_plain:
            self.scope["pack"] = self.scope["pack_0"]
        return _Codec(*(self.scope[name] for name in _Codec._fields))

    def given(self) -> list[str]:
        """The lines that return a payload."""
        if self.is_plain:
            return [f"return {self.giving[0]}"]
        joined = " + ".join(self.giving) if len(self.giving) < 3 else _join_expression(self.giving)
        lines = [*self.lowering, f"payload = {joined or 'bytes()'}"]
        lines += [f"if len(payload) > {PAYLOAD_SIZE_MAX}:", "    raise oversize(len(payload))"]
        return [*lines, "return payload"]

    def taken(self) -> list[str]:
        """The lines that unpack the whole of a payload, whose size decides at the end: a field
        that runs past it has left ``at`` behind it.
        """
        return [
            "if payload.__class__ is not bytes:",
            "    payload = bytes(payload)",
            *(self.taking or ["at = 0"]),
            f"if at != len(payload) or at > {PAYLOAD_SIZE_MAX}:",
            "    raise misfit(at, len(payload))",
        ]


class _RunValue(NamedTuple):
    """One value of a run: its ``struct`` codes, where it goes to and what it is made of."""

    unpacks: str
    packs: str
    target: str
    given: str
    lift: str = ""


def _code(con: cs.Construct) -> str:
    """The ``struct`` code of a fixed-size value, empty if ``con`` is something else."""
    if isinstance(con, Mapped):
        return _code(con.subcon)
    if isinstance(con, cs.FormatField):
        return str(con.fmtstr[-1])
    if isinstance(con, cs.Bytes) and isinstance(con.length, int):
        return f"{con.length}s"
    return ""


def _is_plain(con: cs.Construct) -> bool:
    """Whether ``struct`` packs the Python value as it is: a number, a flag, or a member."""
    return isinstance(con, cs.FormatField | Enumerated) or con is FLAG


def _is_sized(con: cs.Construct) -> bool:
    """Whether ``con`` is bytes behind their size, or what is made of such bytes."""
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
    """``lines``, with a misfit turned into MalformedEvent."""
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
        return ValueError(f"{size} bytes, and at most {PAYLOAD_SIZE_MAX} are allowed")
    if at > size:
        return ValueError(f"{at - size} bytes are missing")
    return ValueError(f"{size - at} bytes are left over")


def _oversize_error(size: int) -> LimitExceeded:
    return LimitExceeded(f"a payload of {size} bytes, and at most {PAYLOAD_SIZE_MAX} are allowed")


def _check_size(value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise ValueError(f"{len(value)} bytes where {size} belong")
    return value


def _parse(con: cs.Construct, payload: bytes, at: int) -> tuple[Any, int]:
    stream = BytesIO(payload)
    stream.seek(at)
    found = con.parse_stream(stream)
    return found, stream.tell()


_SCOPE = {
    "ENCODING_ERRORS": ENCODING_ERRORS,
    "check_count": check_count,
    "check_size": _check_size,
    "malformed": _malformed_error,
    "misfit": _size_error,
    "oversize": _oversize_error,
    "parse": _parse,
}

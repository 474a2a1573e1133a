"""Wire types: Python types annotated with the construct that defines their layout.

All values are little-endian and unpadded. A value of variable size starts with its size as a u32.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any

import construct as cs

from journal.format.frame import PAYLOAD_SIZE_MAX as PAYLOAD_SIZE_MAX

LIST_COUNT_MAX = 65536
"""Maximum number of items in a list of an event."""

NANOSECONDS = 1_000_000_000


class Secret(StrEnum):
    """Kinds of contents that an export can redact."""

    MEMORY = "memory"
    """Memory pages and regions, stacks, values of globals, and digests of snapshots."""
    FILES = "files"
    """Bytes written to files, placed in files, and read from host files. Names remain."""
    ENVIRONMENT = "environment"
    """Values of environment variables, and all arguments except the program's name."""
    INPUT = "input"
    """Bytes read from standard input and received through sockets and pipes, and random bytes."""
    OUTPUT = "output"
    """Bytes written to standard output, standard error and pipes, and sent over sockets."""
    ADDRESSES = "addresses"
    """Internet addresses, except those of the own machine, and resolved names. Ports remain."""


class Mapped(cs.Adapter):  # type: ignore[misc]
    """Adapter of ``subcon`` to another Python type, through two pure functions.

    ``lift`` converts a parsed value to the Python type, ``lower`` converts it back.
    """

    def __init__(
        self, subcon: cs.Construct, lift: Callable[[Any], Any], lower: Callable[[Any], Any]
    ) -> None:
        super().__init__(subcon)
        self.lift, self.lower = lift, lower

    def _decode(self, obj: Any, context: Any, path: Any) -> Any:
        try:
            return self.lift(obj)
        except ValueError as cause:
            raise cs.ValidationError(str(cause), path=path) from cause

    def _encode(self, obj: Any, context: Any, path: Any) -> Any:
        return self.lower(obj)


class _Members(dict[int, Any]):
    """Map from values to members; a dictionary is five times faster than an enumeration call."""

    def __init__(self, kind: str, members: dict[int, Any]) -> None:
        super().__init__(members)
        self.kind = kind

    def __missing__(self, value: int) -> Any:
        raise ValueError(f"{value} is not a value of {self.kind}")


class Enumerated(Mapped):
    """An integer that must be a value of the enumeration ``members``; a member in Python."""

    def __init__(self, subcon: cs.Construct, members: type[IntEnum]) -> None:
        table = _Members(members.__name__, {int(member): member for member in members})
        super().__init__(subcon, table.__getitem__, int)
        self.members = members


class OptionalOf(cs.Subconstruct):  # type: ignore[misc]
    """A value or None: a flag, then the value if the flag is 1."""

    def _parse(self, stream: Any, context: Any, path: Any) -> Any:
        if not FLAG._parsereport(stream, context, path):
            return None
        return self.subcon._parsereport(stream, context, path)

    def _build(self, obj: Any, stream: Any, context: Any, path: Any) -> Any:
        FLAG._build(obj is not None, stream, context, path)
        if obj is not None:
            self.subcon._build(obj, stream, context, path)
        return obj


class ListOf(cs.Subconstruct):  # type: ignore[misc]
    """A u32 count, at most ``LIST_COUNT_MAX``, then that many values; a tuple in Python."""

    def _parse(self, stream: Any, context: Any, path: Any) -> Any:
        count = check_count(cs.Int32ul._parsereport(stream, context, path))
        return tuple(self.subcon._parsereport(stream, context, path) for _ in range(count))

    def _build(self, obj: Any, stream: Any, context: Any, path: Any) -> Any:
        cs.Int32ul._build(check_count(len(obj)), stream, context, path)
        for value in obj:
            self.subcon._build(value, stream, context, path)
        return obj


def check_count(count: int) -> int:
    """Return ``count``. Raises RangeError, a ConstructError, if it is above the limit of a list."""
    if count > LIST_COUNT_MAX:
        raise cs.RangeError(f"list has {count} items, but the limit is {LIST_COUNT_MAX}")
    return count


class TupleOf(Mapped):
    """Consecutive values; a tuple in Python."""

    def __init__(self, *values: cs.Construct) -> None:
        super().__init__(cs.Sequence(*values), tuple, tuple)
        self.values = values


class RecordOf(Mapped):
    """Consecutive named values; an object of the class ``kind`` in Python."""

    def __init__(self, kind: Callable[..., Any], **fields: cs.Construct) -> None:
        struct = cs.Struct(*(name / con for name, con in fields.items()))
        super().__init__(
            struct,
            lambda record: kind(**{name: record[name] for name in fields}),
            lambda value: {name: getattr(value, name) for name in fields},
        )
        self.kind = kind
        self.fields = fields


def holds_bytes(con: cs.Construct) -> bool:
    """Return whether a field of this construct has bytes of any meaning."""
    if isinstance(con, ListOf | OptionalOf):
        return holds_bytes(con.subcon)
    if isinstance(con, TupleOf):
        return any(map(holds_bytes, con.values))
    return con is BLOB or isinstance(con, cs.Bytes)


def _join_nanoseconds(parts: tuple[int, int]) -> int:
    seconds, rest = parts
    if rest >= NANOSECONDS:
        raise ValueError(f"nanoseconds must be below {NANOSECONDS}, got {rest}")
    return seconds * NANOSECONDS + rest


def encode_path(path: str) -> bytes:
    """Return a path of the guest as its bytes; the inverse of :func:`decode_path`."""
    return path.encode("utf-8", "surrogateescape")


def decode_path(data: bytes) -> str:
    """Return bytes of a path of the guest as text. Bytes that are not UTF-8 become surrogates."""
    return data.decode("utf-8", "surrogateescape")


class EscapedText(cs.StringEncoded):  # type: ignore[misc]
    """Text that is UTF-8 as a rule. Surrogates stand for other bytes."""

    def __init__(self, subcon: cs.Construct) -> None:
        super().__init__(subcon, "utf8")

    def _decode(self, obj: bytes, context: Any, path: Any) -> str:
        return decode_path(obj)

    def _encode(self, obj: str, context: Any, path: Any) -> bytes:
        return encode_path(obj)


FLAG = Mapped(cs.Int8ul, _Members("flag", {0: False, 1: True}).__getitem__, bool)
BLOB = cs.Prefixed(cs.Int32ul, cs.GreedyBytes)
TEXT = cs.PascalString(cs.Int32ul, "utf8")
GUEST_PATH = EscapedText(BLOB)
HOST_PATH = Mapped(BLOB, os.fsdecode, os.fsencode)
DURATION = Mapped(
    cs.Sequence(cs.Int64ul, cs.Int32ul), _join_nanoseconds, lambda value: divmod(value, NANOSECONDS)
)
IPV4 = Mapped(cs.Bytes(4), IPv4Address, lambda value: value.packed)
IPV6 = Mapped(cs.Bytes(16), IPv6Address, lambda value: value.packed)
IP_ADDRESS = Mapped(cs.Prefixed(cs.Int8ul, cs.GreedyBytes), ip_address, lambda value: value.packed)

U8 = Annotated[int, cs.Int8ul]
U16 = Annotated[int, cs.Int16ul]
U32 = Annotated[int, cs.Int32ul]
U64 = Annotated[int, cs.Int64ul]
I64 = Annotated[int, cs.Int64sl]
Flag = Annotated[bool, FLAG]
# Bytes say which secret they hold; None is no secret, for example program code and hashes.
MemoryBytes = Annotated[bytes, BLOB, Secret.MEMORY]
FileBytes = Annotated[bytes, BLOB, Secret.FILES]
InputBytes = Annotated[bytes, BLOB, Secret.INPUT]
OutputBytes = Annotated[bytes, BLOB, Secret.OUTPUT]
PublicBytes = Annotated[bytes, BLOB, None]
EnvironmentEntries = Annotated[tuple[bytes, ...], ListOf(BLOB), Secret.ENVIRONMENT]
MemoryParts = Annotated[tuple[bytes, ...], ListOf(BLOB), Secret.MEMORY]
PublicEntries = Annotated[tuple[bytes, ...], ListOf(BLOB), None]
Text = Annotated[str, TEXT]
GuestPath = Annotated[str, GUEST_PATH]
"""A path of the guest. A host directory may have names that are not UTF-8."""

HostPath = Annotated[str, HOST_PATH]
"""A path of the host, not necessarily UTF-8: bytes on the wire, decoded with ``os.fsdecode``."""

Fd = Annotated[int, cs.Int32ul]
"""A file descriptor of the guest."""

Hash256 = Annotated[bytes, cs.Bytes(32), None]
JournalId = Annotated[bytes, cs.Bytes(16), None]
Generation = Annotated[bytes, cs.Bytes(16), Secret.INPUT]
"""Random bytes that no other reseeding has."""

Duration = Annotated[int, DURATION]
"""Nanoseconds in Python. On the wire: whole seconds as a u64, then nanoseconds as a u32."""

MaybeI32 = Annotated[int | None, OptionalOf(cs.Int32sl)]
MaybeU64 = Annotated[int | None, OptionalOf(cs.Int64ul)]
MaybeDuration = Annotated[int | None, OptionalOf(DURATION)]
TextPairs = Annotated[tuple[tuple[str, str], ...], ListOf(TupleOf(TEXT, TEXT))]
U32s = Annotated[tuple[int, ...], ListOf(cs.Int32ul)]

HostName = Annotated[str, TEXT, Secret.ADDRESSES]
Ipv4 = Annotated[IPv4Address, IPV4, Secret.ADDRESSES]
Ipv6 = Annotated[IPv6Address, IPV6, Secret.ADDRESSES]
Ip = Annotated[IPv4Address | IPv6Address, IP_ADDRESS, Secret.ADDRESSES]
"""A u8 that is 4 or 16, then that many octets in network order."""

Ips = Annotated[tuple[IPv4Address | IPv6Address, ...], ListOf(IP_ADDRESS), Secret.ADDRESSES]


@dataclass(frozen=True, slots=True)
class Network:
    """An IP network: an address and the length of its prefix in bits."""

    address: IPv4Address | IPv6Address
    prefix: int


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """An end of a connection. ``flow`` and ``scope`` are 0 for IPv4."""

    address: IPv4Address | IPv6Address
    port: int
    flow: int = 0
    scope: int = 0


def format_address(address: SocketAddress) -> str:
    """Return an address as ``HOST:PORT``, with the scope of an IPv6 address if it has one."""
    host = str(address.address)
    if address.address.version == 4:
        return f"{host}:{address.port}"
    scope = f"%{address.scope}" if address.scope and "%" not in host else ""
    return f"[{host}{scope}]:{address.port}"


Cidr = Annotated[Network, RecordOf(Network, address=IP_ADDRESS, prefix=cs.Int8ul), Secret.ADDRESSES]
SOCKET_ADDRESS = RecordOf(
    SocketAddress, address=IP_ADDRESS, port=cs.Int16ul, flow=cs.Int32ul, scope=cs.Int32ul
)
Address = Annotated[SocketAddress, SOCKET_ADDRESS, Secret.ADDRESSES]
MaybeAddress = Annotated[SocketAddress | None, OptionalOf(SOCKET_ADDRESS), Secret.ADDRESSES]

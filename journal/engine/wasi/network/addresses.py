"""Addresses of sockets: as the host, the journal and the memory of a guest have them."""

import socket as host
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from journal.engine.runtime.bindings import GuestMemory
from journal.engine.wasi.socket_calls import AnyAddress
from journal.events.sockets import AddressFamily
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import Errno, WasiError

FLOW_MAX = (1 << 20) - 1

HOST_FAMILIES = {AddressFamily.INET4: host.AF_INET, AddressFamily.INET6: host.AF_INET6}

# An address of a recorded result: size and octets, port, flow and scope.
_RESULT_4 = struct.Struct("<B4sHII")
_RESULT_6 = struct.Struct("<B16sHII")

# A WASIX address has its family, a padding byte, a port and the octets. An IPv6 address continues
# with flow and scope, each as two 16-bit halves, the higher half first.
_FAMILY = struct.Struct("<Bx")
_INET4 = struct.Struct("<H4s")
_INET6 = struct.Struct("<H16s")
_FLOW_AND_SCOPE = struct.Struct("<4H")
GUEST_ADDRESS_SIZE = 110
"""Size of the structure of an address, which is large enough for the path of a Unix socket."""
_NAME_SIZE = GUEST_ADDRESS_SIZE - _FAMILY.size


def to_host_address(address: SocketAddress) -> tuple[Any, ...]:
    """Return an address as the functions of the host's sockets take it."""
    if address.address.version == 4:
        return str(address.address), address.port
    return str(address.address), address.port, address.flow, address.scope


def from_host_address(raw: Sequence[Any]) -> SocketAddress:
    """Return an address that a function of the host's sockets returned."""
    name, port, *rest = raw
    name = name.partition("%")[0]  # The host repeats the scope after the address.
    return SocketAddress(ip_address(name), port, *rest)


def make_any_address(family: AddressFamily) -> SocketAddress:
    """Return the unspecified address with port 0: that of an unbound socket."""
    return SocketAddress(IPv4Address(0) if family is AddressFamily.INET4 else IPv6Address(0), 0)


def fits_family(address: SocketAddress, family: AddressFamily) -> bool:
    """Return whether a socket of ``family`` can have the address."""
    return address.address.version == (4 if family is AddressFamily.INET4 else 6)


def format_address(address: SocketAddress) -> str:
    """Return an address as ``HOST:PORT``."""
    name = str(address.address)
    return f"[{name}]:{address.port}" if ":" in name else f"{name}:{address.port}"


# -- values of recorded results -------------------------------------------------------------------


def pack_result(*addresses: SocketAddress) -> bytes:
    """Return addresses as the value of a host result."""
    return b"".join(
        (_RESULT_4 if len(packed) == 4 else _RESULT_6).pack(
            len(packed), packed, each.port, each.flow, each.scope
        )
        for each in addresses
        for packed in (each.address.packed,)
    )


def result_size(family: AddressFamily) -> int:
    """Return the size of an address of ``family`` in a host result."""
    return _RESULT_4.size if family is AddressFamily.INET4 else _RESULT_6.size


def unpack_result(value: bytes, family: AddressFamily, count: int) -> list[SocketAddress]:
    """Return the ``count`` addresses in the value of a host result.

    Raises ``ValueError`` unless they are addresses that a socket of ``family`` can have.
    """
    layout = _RESULT_4 if family is AddressFamily.INET4 else _RESULT_6
    if len(value) != count * layout.size:
        raise ValueError(
            f"recorded result has {len(value)} bytes: {count} addresses of its socket have "
            f"{count * layout.size}"
        )
    addresses = []
    for size, packed, port, flow, scope in layout.iter_unpack(value):
        address = SocketAddress(ip_address(packed), port, flow, scope)
        check_recorded(address, family)
        if size != len(packed):
            raise ValueError(f"recorded address has {size} octets: {len(packed)} are expected")
        addresses.append(address)
    return addresses


def check_recorded(address: SocketAddress, family: AddressFamily) -> None:
    """Raise ``ValueError`` unless a socket of ``family`` can have a recorded address."""
    is_plain = family is not AddressFamily.INET4 or not (address.flow or address.scope)
    if not fits_family(address, family) or address.flow > FLOW_MAX or not is_plain:
        raise ValueError(
            f"recorded address {format_address(address)} does not fit the family of the socket"
        )


# -- addresses in the memory of a guest -----------------------------------------------------------


def read_guest_address(memory: GuestMemory, pointer: int) -> AnyAddress:
    """Read the address at ``pointer`` in the memory of a guest.

    Raises ``WasiError`` with ``AFNOSUPPORT`` for an address without a family, and with ``INVAL``
    for an impossible one.
    """
    (family,) = memory.unpack(_FAMILY, pointer)
    pointer += _FAMILY.size
    if family == AddressFamily.INET4:
        port, octets = memory.unpack(_INET4, pointer)
        return SocketAddress(IPv4Address(octets), port)
    if family == AddressFamily.UNIX:
        return _read_name(memory.read(pointer, _NAME_SIZE))
    if family != AddressFamily.INET6:
        raise WasiError(Errno.INVAL if family else Errno.AFNOSUPPORT)
    port, octets = memory.unpack(_INET6, pointer)
    flow, scope = _read_flow_and_scope(memory, pointer)
    if flow > FLOW_MAX:
        raise WasiError(Errno.INVAL)
    return SocketAddress(IPv6Address(octets), port, flow, scope)


def _read_flow_and_scope(memory: GuestMemory, pointer: int) -> tuple[int, int]:
    """Read flow and scope of the IPv6 address whose port is at ``pointer``.

    Addresses of older programs end before these fields. Newer programs fill an address with
    zeros up to its end.
    """
    rest = GUEST_ADDRESS_SIZE - _FAMILY.size - _INET6.size
    pointer += _INET6.size
    if pointer + rest > memory.refresh():
        return 0, 0
    data = memory.read(pointer, rest)
    if any(data[_FLOW_AND_SCOPE.size :]):
        return 0, 0
    flow_high, flow_low, scope_high, scope_low = _FLOW_AND_SCOPE.unpack_from(data)
    return flow_high << 16 | flow_low, scope_high << 16 | scope_low


def _read_name(data: bytes) -> bytes:
    """Return the name of a Unix socket: a path, or an abstract name, which begins with a zero."""
    if data.startswith(b"\0"):
        return data.rstrip(b"\0") and b"\0" + data[1:].rstrip(b"\0")
    return data.partition(b"\0")[0]


def to_guest_address(address: AnyAddress) -> bytes:
    """Return an address in the layout that a guest reads.

    The port is little-endian, as a guest passes it. wasix-libc finds out by a probe which order its
    host uses.
    """
    if isinstance(address, bytes):
        return _FAMILY.pack(AddressFamily.UNIX) + address.ljust(_NAME_SIZE, b"\0")
    octets = address.address.packed
    if address.address.version == 4:
        return _FAMILY.pack(AddressFamily.INET4) + _INET4.pack(address.port, octets)
    halves = [half for whole in (address.flow, address.scope) for half in divmod(whole, 1 << 16)]
    family = _FAMILY.pack(AddressFamily.INET6)
    return family + _INET6.pack(address.port, octets) + _FLOW_AND_SCOPE.pack(*halves)


_GUEST_SIZES = {
    AddressFamily.INET4: _FAMILY.size + _INET4.size,
    AddressFamily.INET6: _FAMILY.size + _INET6.size + _FLOW_AND_SCOPE.size,
}


def guest_address_size(family: AddressFamily) -> int:
    """Return how many bytes :func:`to_guest_address` returns for an address of ``family``."""
    return _GUEST_SIZES.get(family, GUEST_ADDRESS_SIZE)

"""Socket functions of preview 1, and the first socket functions of WASIX.

A guest can create, bind and listen on a socket. No data can be transferred yet, and connections are
neither accepted nor made.
"""

import struct
from ipaddress import IPv4Address, IPv6Address

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.events.sockets import AddressFamily, SocketType
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import Errno, WasiError

# A WASIX address has its family, a padding byte, a port and the octets. An IPv6 address continues
# with flow and scope, each as two 16-bit halves, the higher half first.
_FAMILY = struct.Struct("<Bx")
_INET4 = struct.Struct("<H4s")
_INET6 = struct.Struct("<H16s")
_FLOW_AND_SCOPE = struct.Struct("<4H")
#: The structure of an address is large enough for the path of a Unix socket.
_ADDRESS_SIZE = 110


def sock_open(context: CallContext, family: int, kind: int, protocol: int, result: int) -> None:
    """Create a socket."""
    context.memory.check(result, 4)
    context.memory.write_u32(result, context.network.open(family, kind, protocol))


def sock_bind(context: CallContext, fd: int, pointer: int) -> None:
    """Bind a socket to a local address."""
    context.network.bind(fd, _read_address(context, pointer))


def sock_listen(context: CallContext, fd: int, backlog: int) -> None:
    """Mark a socket as listening for connections."""
    context.network.listen(fd, backlog)


def sock_addr_local(context: CallContext, fd: int, result: int) -> None:
    """Write the local address of a socket.

    The address of an unbound socket is the unspecified address with port 0.
    """
    socket = context.descriptors.get_socket(fd)
    any_address = IPv4Address(0) if socket.family is AddressFamily.INET4 else IPv6Address(0)
    context.memory.write(result, _pack_address(socket.local or SocketAddress(any_address, 0)))


def sock_accept(context: CallContext, fd: int, flags: int, result: int) -> None:
    """Refuse: connections cannot be accepted yet."""
    socket = context.descriptors.get_socket(fd)
    if socket.kind is SocketType.STREAM and socket.backlog is None:
        raise WasiError(Errno.INVAL)
    raise WasiError(Errno.NOTSUP)


def sock_recv(
    context: CallContext, fd: int, iovs: int, count: int, flags: int, size: int, out_flags: int
) -> None:
    """Refuse with ``NOTCONN``: no socket is connected."""
    _raise_not_connected(context, fd)


def sock_send(context: CallContext, fd: int, iovs: int, count: int, flags: int, size: int) -> None:
    """Refuse with ``NOTCONN``: no socket is connected."""
    _raise_not_connected(context, fd)


def sock_shutdown(context: CallContext, fd: int, how: int) -> None:
    """Refuse with ``NOTCONN``: no socket is connected."""
    _raise_not_connected(context, fd)


def _raise_not_connected(context: CallContext, fd: int) -> None:
    context.descriptors.get_socket(fd)
    raise WasiError(Errno.NOTCONN)


def _read_address(context: CallContext, pointer: int) -> SocketAddress:
    """Read the address at ``pointer`` in the memory of the guest."""
    memory = context.memory
    (family,) = memory.unpack(_FAMILY, pointer)
    pointer += _FAMILY.size
    if family == AddressFamily.INET4:
        port, octets = memory.unpack(_INET4, pointer)
        return SocketAddress(IPv4Address(octets), port)
    if family != AddressFamily.INET6:
        raise WasiError(Errno.AFNOSUPPORT if family in list(AddressFamily) else Errno.INVAL)
    port, octets = memory.unpack(_INET6, pointer)
    return SocketAddress(IPv6Address(octets), port, *_read_flow_and_scope(context, pointer))


def _read_flow_and_scope(context: CallContext, pointer: int) -> tuple[int, int]:
    """Read flow and scope of the IPv6 address whose port is at ``pointer``.

    Addresses of older programs end before these fields. Newer programs fill an address with
    zeros up to its end.
    """
    memory, rest = context.memory, _ADDRESS_SIZE - _FAMILY.size - _INET6.size
    pointer += _INET6.size
    if pointer + rest > memory.refresh():
        return 0, 0
    data = memory.read(pointer, rest)
    if any(data[_FLOW_AND_SCOPE.size :]):
        return 0, 0
    flow_high, flow_low, scope_high, scope_low = _FLOW_AND_SCOPE.unpack_from(data)
    return flow_high << 16 | flow_low, scope_high << 16 | scope_low


def _pack_address(address: SocketAddress) -> bytes:
    """Return an address in the layout that the guest reads."""
    octets = address.address.packed
    if address.address.version == 4:
        return _FAMILY.pack(AddressFamily.INET4) + _INET4.pack(address.port, octets)
    halves = [half for whole in (address.flow, address.scope) for half in divmod(whole, 1 << 16)]
    family = _FAMILY.pack(AddressFamily.INET6)
    return family + _INET6.pack(address.port, octets) + _FLOW_AND_SCOPE.pack(*halves)


FUNCTIONS: dict[str, tuple[str, Handler]] = {
    "sock_addr_local": ("ii", sock_addr_local),
    "sock_bind": ("ii", sock_bind),
    "sock_listen": ("ii", sock_listen),
    "sock_open": ("iiii", sock_open),
}
"""Parameter types and handler of each function of WASIX in this module."""

"""Socket functions of preview 1, and of WASIX: connections, transfers and addresses."""

import struct

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.functions.streams import (
    TRANSFER_SIZE_MAX,
    read_buffers,
    read_iovs,
    write_buffers,
)
from journal.engine.wasi.network.addresses import (
    guest_address_size,
    read_guest_address,
    to_guest_address,
)
from journal.engine.wasi.network.inside import open_unix
from journal.engine.wasi.socket_calls import Received, SocketChannel
from journal.events.sockets import AddressFamily, Shutdown
from journal.wasi_abi import Errno, FdFlags, WasiError

# The bits of how are 1 for reading and 2 for writing.
_SHUTDOWNS = {1: Shutdown.READ, 2: Shutdown.WRITE, 3: Shutdown.BOTH}
_FLAGS = struct.Struct("<H")
_FLAGS_MAX = 15
_FDFLAGS_MAX = 31
_NONBLOCK = int(FdFlags.NONBLOCK)


# -- preview 1 ------------------------------------------------------------------------------------


def sock_accept(context: CallContext, fd: int, flags: int, result: int) -> None:
    """Accept a connection and write its descriptor."""
    context.memory.check(result, 4)
    accepted_fd, _ = _accept(context, fd, flags)
    context.memory.write_u32(result, accepted_fd)


def sock_recv(
    context: CallContext, fd: int, iovs: int, count: int, flags: int, size: int, out_flags: int
) -> None:
    """Receive bytes into buffers."""
    _receive(context, "sock_recv", fd, iovs, count, flags, size, out_flags)


def sock_send(context: CallContext, fd: int, iovs: int, count: int, flags: int, size: int) -> None:
    """Send the bytes of buffers."""
    socket = context.descriptors.get_socket(fd)
    data = read_buffers(context, iovs, count)
    context.memory.check(size, 4)
    sent_size = socket.send(context, fd, "sock_send", data, flags)
    context.memory.write_u32(size, sent_size)


def sock_shutdown(context: CallContext, fd: int, how: int) -> None:
    """End one or both directions of a connection."""
    socket = context.descriptors.get_socket(fd)
    if how not in _SHUTDOWNS:
        raise WasiError(Errno.INVAL)
    socket.shutdown(context, fd, _SHUTDOWNS[how])


def _accept(context: CallContext, fd: int, flags: int) -> tuple[int, SocketChannel]:
    socket = context.descriptors.get_socket(fd)
    if flags & ~_NONBLOCK:
        raise WasiError(Errno.INVAL)
    return socket.accept(context, fd, "sock_accept", flags)


def _receive(
    context: CallContext,
    function: str,
    fd: int,
    iovs: int,
    count: int,
    flags: int,
    size: int,
    out_flags: int,
) -> Received:
    """Receive into buffers, and write the size and the flags of the result."""
    socket, memory = context.descriptors.get_socket(fd), context.memory
    if flags > _FLAGS_MAX:
        raise WasiError(Errno.INVAL)
    buffers = read_iovs(context, iovs, count)
    memory.check(size, 4)
    memory.check(out_flags, _FLAGS.size)
    size_max = min(sum(size for _, size in buffers), TRANSFER_SIZE_MAX)
    received = socket.receive(context, fd, function, size_max, flags)
    write_buffers(context, buffers, received.data)
    memory.write_u32(size, len(received.data))
    memory.write(out_flags, _FLAGS.pack(received.flags))
    return received


# -- WASIX ----------------------------------------------------------------------------------------


def sock_open(context: CallContext, family: int, kind: int, protocol: int, result: int) -> None:
    """Create a socket."""
    context.memory.check(result, 4)
    if family == AddressFamily.UNIX:
        fd = context.descriptors.next_fd()
        open_unix(context, kind, protocol, fd)
    else:
        fd = context.network.open(family, kind, protocol)
    context.memory.write_u32(result, fd)


def sock_bind(context: CallContext, fd: int, pointer: int) -> None:
    """Bind a socket to a local address."""
    socket = context.descriptors.get_socket(fd)
    socket.bind(context, fd, read_guest_address(context.memory, pointer))


def sock_listen(context: CallContext, fd: int, backlog: int) -> None:
    """Mark a socket as listening for connections."""
    context.descriptors.get_socket(fd).listen(context, fd, backlog)


def sock_connect(context: CallContext, fd: int, pointer: int) -> None:
    """Connect a socket to a peer."""
    socket = context.descriptors.get_socket(fd)
    address = read_guest_address(context.memory, pointer)
    socket.connect(context, fd, "sock_connect", address)


def sock_accept_v2(context: CallContext, fd: int, flags: int, result: int, pointer: int) -> None:
    """Accept a connection, and write its descriptor and the address of its peer."""
    memory = context.memory
    memory.check(result, 4)
    memory.check(pointer, guest_address_size(context.descriptors.get_socket(fd).family))
    accepted_fd, socket = _accept(context, fd, flags)
    memory.write_u32(result, accepted_fd)
    memory.write(pointer, to_guest_address(socket.peer_address(context, accepted_fd)))


def sock_recv_from(
    context: CallContext,
    fd: int,
    iovs: int,
    count: int,
    flags: int,
    size: int,
    out_flags: int,
    pointer: int,
) -> None:
    """Receive a datagram into buffers, and write the address of its sender.

    Over a connection the sender is the peer.
    """
    socket = context.descriptors.get_socket(fd)
    context.memory.check(pointer, guest_address_size(socket.family))
    received = _receive(context, "sock_recv_from", fd, iovs, count, flags, size, out_flags)
    sender = received.sender
    if sender is None:
        sender = socket.peer_address(context, fd)
    context.memory.write(pointer, to_guest_address(sender))


def sock_send_to(
    context: CallContext, fd: int, iovs: int, count: int, flags: int, pointer: int, size: int
) -> None:
    """Send a datagram to an address."""
    socket = context.descriptors.get_socket(fd)
    data = read_buffers(context, iovs, count)
    address = read_guest_address(context.memory, pointer)
    context.memory.check(size, 4)
    sent_size = socket.send_to(context, fd, "sock_send_to", data, flags, address)
    context.memory.write_u32(size, sent_size)


def sock_addr_local(context: CallContext, fd: int, result: int) -> None:
    """Write the local address of a socket.

    The address of an unbound socket is the unspecified address with port 0.
    """
    socket = context.descriptors.get_socket(fd)
    context.memory.check(result, guest_address_size(socket.family))
    context.memory.write(result, to_guest_address(socket.local_address(context, fd)))


def sock_addr_peer(context: CallContext, fd: int, result: int) -> None:
    """Write the address of the peer of a socket."""
    socket = context.descriptors.get_socket(fd)
    context.memory.check(result, guest_address_size(socket.family))
    context.memory.write(result, to_guest_address(socket.peer_address(context, fd)))


def sock_status(context: CallContext, fd: int, result: int) -> None:
    """Write the state of a socket in one byte."""
    socket = context.descriptors.get_socket(fd)
    context.memory.check(result, 1)
    context.memory.write(result, bytes([socket.status(context, fd)]))


FUNCTIONS: dict[str, tuple[str, Handler]] = {
    "sock_accept": ("iiii", sock_accept_v2),
    "sock_accept_v2": ("iiii", sock_accept_v2),
    "sock_addr_local": ("ii", sock_addr_local),
    "sock_addr_peer": ("ii", sock_addr_peer),
    "sock_bind": ("ii", sock_bind),
    "sock_connect": ("ii", sock_connect),
    "sock_listen": ("ii", sock_listen),
    "sock_open": ("iiii", sock_open),
    "sock_recv_from": ("iiiiiii", sock_recv_from),
    "sock_send_to": ("iiiiii", sock_send_to),
    "sock_status": ("ii", sock_status),
}
"""Parameter types and handler of each function of WASIX in this module."""

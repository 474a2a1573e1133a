"""Socket functions of WASIX for options, multicast groups, and files."""

import struct
from collections.abc import Container
from ipaddress import IPv4Address, IPv6Address

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.network.options import (
    FLAG_OPTIONS,
    SIZE_OPTIONS,
    TIME_TYPES,
    MembershipKind,
    change_membership,
)
from journal.engine.wasi.network.sending import send_file
from journal.engine.wasi.network.socket_state import Group, HostSocketState
from journal.engine.wasi.objects.inner_socket import InnerSocket
from journal.engine.wasi.objects.waits import await_room
from journal.events.sockets import (
    SocketJoinIpv4Multicast,
    SocketJoinIpv6Multicast,
    SocketLeaveIpv4Multicast,
    SocketLeaveIpv6Multicast,
    SocketOption,
)
from journal.wasi_abi import Errno, FdFlags, WasiError

_OPTIONS_MAX = max(SocketOption)
_FLAG = struct.Struct("<B")
_TIMESTAMP = struct.Struct("<B7xQ")  # Whether there is a time, and nanoseconds.
_IPV4 = struct.Struct("<4s")
_IPV6 = struct.Struct("<16s")
_POSITION_MAX = (1 << 63) - 1


def _find_option(number: int, allowed: Container[SocketOption]) -> SocketOption:
    """Return an option; raise ``WasiError`` with ``INVAL`` if it has another type of value."""
    if number > _OPTIONS_MAX or SocketOption(number) not in allowed:
        raise WasiError(Errno.INVAL)
    return SocketOption(number)


def sock_set_opt_flag(context: CallContext, fd: int, option: int, value: int) -> None:
    """Set an option with a boolean value."""
    socket = context.descriptors.get_socket(fd)
    if value > 1:
        raise WasiError(Errno.INVAL)
    socket.set_option(context, fd, _find_option(option, FLAG_OPTIONS), value)


def sock_get_opt_flag(context: CallContext, fd: int, option: int, result: int) -> None:
    """Write an option with a boolean value."""
    socket = context.descriptors.get_socket(fd)
    context.memory.check(result, _FLAG.size)
    value = socket.get_option(context, fd, _find_option(option, FLAG_OPTIONS))
    context.memory.write(result, _FLAG.pack(bool(value)))


def sock_set_opt_size(context: CallContext, fd: int, option: int, value: int) -> None:
    """Set an option with a number."""
    socket = context.descriptors.get_socket(fd)
    socket.set_option(context, fd, _find_option(option, SIZE_OPTIONS), value)


def sock_get_opt_size(context: CallContext, fd: int, option: int, result: int) -> None:
    """Write an option with a number. The last error is an error number of WASI."""
    socket = context.descriptors.get_socket(fd)
    context.memory.check(result, 8)
    value = socket.get_option(context, fd, _find_option(option, SIZE_OPTIONS))
    context.memory.write_u64(result, value or 0)


def sock_set_opt_time(context: CallContext, fd: int, option: int, pointer: int) -> None:
    """Set an option with a time. No time, or a time of 0, is no limit."""
    socket = context.descriptors.get_socket(fd)
    has_time, nanoseconds = context.memory.unpack(_TIMESTAMP, pointer)
    if has_time > 1:
        raise WasiError(Errno.INVAL)
    time = nanoseconds if has_time else None
    socket.set_option(context, fd, _find_option(option, TIME_TYPES), time)


def sock_get_opt_time(context: CallContext, fd: int, option: int, result: int) -> None:
    """Write an option with a time."""
    socket = context.descriptors.get_socket(fd)
    context.memory.check(result, _TIMESTAMP.size)
    value = socket.get_option(context, fd, _find_option(option, TIME_TYPES))
    context.memory.write(result, _TIMESTAMP.pack(value is not None, value or 0))


def _change_membership(context: CallContext, fd: int, kind: MembershipKind, group: Group) -> None:
    context.descriptors.get_socket(fd)
    socket = context.descriptors.get_channel(fd, HostSocketState, Errno.NOTSUP)
    change_membership(context, fd, socket, kind, group)


def _read_group_v4(context: CallContext, group: int, interface: int) -> Group:
    (octets,) = context.memory.unpack(_IPV4, group)
    (interface_octets,) = context.memory.unpack(_IPV4, interface)
    return IPv4Address(octets), IPv4Address(interface_octets)


def _read_group_v6(context: CallContext, group: int, interface: int) -> Group:
    (octets,) = context.memory.unpack(_IPV6, group)
    return IPv6Address(octets), interface


def sock_join_multicast_v4(context: CallContext, fd: int, group: int, interface: int) -> None:
    """Join a multicast group on the interface with an address."""
    found = _read_group_v4(context, group, interface)
    _change_membership(context, fd, SocketJoinIpv4Multicast, found)


def sock_leave_multicast_v4(context: CallContext, fd: int, group: int, interface: int) -> None:
    """Leave a multicast group on the interface with an address."""
    found = _read_group_v4(context, group, interface)
    _change_membership(context, fd, SocketLeaveIpv4Multicast, found)


def sock_join_multicast_v6(context: CallContext, fd: int, group: int, interface: int) -> None:
    """Join a multicast group on the interface with a number."""
    found = _read_group_v6(context, group, interface)
    _change_membership(context, fd, SocketJoinIpv6Multicast, found)


def sock_leave_multicast_v6(context: CallContext, fd: int, group: int, interface: int) -> None:
    """Leave a multicast group on the interface with a number."""
    found = _read_group_v6(context, group, interface)
    _change_membership(context, fd, SocketLeaveIpv6Multicast, found)


def sock_send_file(
    context: CallContext, fd: int, file_fd: int, offset: int, count: int, result: int
) -> None:
    """Send bytes of a file from an offset. The position of the file stays."""
    channel = context.descriptors.get_socket(fd)
    context.memory.check(result, 8)
    if offset > _POSITION_MAX:
        raise WasiError(Errno.INVAL)
    if isinstance(channel, InnerSocket):
        sent_size = _send_file_inside(context, fd, channel, file_fd, offset, count)
        context.memory.write_u64(result, sent_size)
        return
    socket = context.descriptors.get_channel(fd, HostSocketState, Errno.NOTSOCK)
    sent_size = send_file(context, fd, socket, file_fd, offset, min(count, _POSITION_MAX - offset))
    context.memory.write_u64(result, sent_size)


def _send_file_inside(
    context: CallContext, fd: int, socket: InnerSocket, file_fd: int, offset: int, count: int
) -> int:
    """Send what the queue of the peer can take. The wait comes first: it may be repeated."""
    file = context.descriptors.get_file(file_fd)
    if not file.is_readable:
        raise WasiError(Errno.BADF)
    if not socket.is_stream:
        raise WasiError(Errno.NOTSUP)
    waits, limit = not socket.flags & FdFlags.NONBLOCK, socket.send_timeout_ns
    room = await_room(context, fd, "sock_send_file", socket, waits=waits, timeout_ns=limit)
    data = file.file.read(file_fd, offset, min(count, room))
    return socket.send(context, fd, "sock_send_file", data, 0) if data else 0


FUNCTIONS: dict[str, tuple[str, Handler]] = {
    "sock_get_opt_flag": ("iii", sock_get_opt_flag),
    "sock_get_opt_size": ("iii", sock_get_opt_size),
    "sock_get_opt_time": ("iii", sock_get_opt_time),
    "sock_join_multicast_v4": ("iii", sock_join_multicast_v4),
    "sock_join_multicast_v6": ("iii", sock_join_multicast_v6),
    "sock_leave_multicast_v4": ("iii", sock_leave_multicast_v4),
    "sock_leave_multicast_v6": ("iii", sock_leave_multicast_v6),
    "sock_send_file": ("iilli", sock_send_file),
    "sock_set_opt_flag": ("iii", sock_set_opt_flag),
    "sock_set_opt_size": ("iil", sock_set_opt_size),
    "sock_set_opt_time": ("iii", sock_set_opt_time),
}
"""Parameter types and handler of each function of WASIX in this module."""

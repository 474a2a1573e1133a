"""Options and multicast groups of sockets of the host.

An option that the host has is set there, and asked there. The engine itself obeys the time limits,
so these are answered from what the guest has set.
"""

import socket as host
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from journal.engine.wasi.filesystem.host_files import unwrap_result
from journal.engine.wasi.filesystem.host_paths import capture_result
from journal.engine.wasi.network import connections
from journal.engine.wasi.network.socket_state import Connection, Group, HostSocketState
from journal.events import codec
from journal.events.inputs import HostCall
from journal.events.sockets import (
    AddressFamily,
    SocketJoinIpv4Multicast,
    SocketJoinIpv6Multicast,
    SocketLeaveIpv4Multicast,
    SocketLeaveIpv6Multicast,
    SocketOption,
    SocketSetOptFlag,
    SocketSetOptSize,
    SocketSetOptTime,
    TimeType,
)
from journal.events.wire_types import NANOSECONDS
from journal.wasi_abi import Errno, WasiError, to_wasi_errno

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

_INT_MAX = (1 << 31) - 1
_VALUE = struct.Struct("<Q")
_LINGER = struct.Struct("ii")
_GROUP_6 = struct.Struct("=16sI")

FLAG_OPTIONS = frozenset(
    (
        *(SocketOption.REUSE_PORT, SocketOption.REUSE_ADDR, SocketOption.NO_DELAY),
        *(SocketOption.DONT_ROUTE, SocketOption.ONLY_V6, SocketOption.BROADCAST),
        *(SocketOption.MULTICAST_LOOP_V4, SocketOption.MULTICAST_LOOP_V6),
        *(SocketOption.PROMISCUOUS, SocketOption.LISTENING, SocketOption.LAST_ERROR),
        *(SocketOption.KEEP_ALIVE, SocketOption.OOB_INLINE),
    )
)
"""Options with a boolean value."""

SIZE_OPTIONS = frozenset(
    (
        *(SocketOption.RECV_BUF_SIZE, SocketOption.SEND_BUF_SIZE),
        *(SocketOption.RECV_LOWAT, SocketOption.SEND_LOWAT),
        *(SocketOption.TTL, SocketOption.MULTICAST_TTL_V4),
        *(SocketOption.TYPE, SocketOption.PROTO, SocketOption.LAST_ERROR),
    )
)
"""Options with a number."""

TIME_TYPES = {
    SocketOption.RECV_TIMEOUT: TimeType.READ,
    SocketOption.SEND_TIMEOUT: TimeType.WRITE,
    SocketOption.ACCEPT_TIMEOUT: TimeType.ACCEPT,
    SocketOption.CONNECT_TIMEOUT: TimeType.CONNECT,
    SocketOption.LINGER: TimeType.LINGER,
}
"""Options with a time."""

_READ_ONLY = frozenset(
    (SocketOption.LISTENING, SocketOption.LAST_ERROR, SocketOption.TYPE, SocketOption.PROTO)
)

# Level and name of the options that the host has. The last two depend on the family.
_HOST_OPTIONS = {
    SocketOption.REUSE_PORT: (host.SOL_SOCKET, host.SO_REUSEPORT),
    SocketOption.REUSE_ADDR: (host.SOL_SOCKET, host.SO_REUSEADDR),
    SocketOption.NO_DELAY: (host.IPPROTO_TCP, host.TCP_NODELAY),
    SocketOption.DONT_ROUTE: (host.SOL_SOCKET, host.SO_DONTROUTE),
    SocketOption.ONLY_V6: (host.IPPROTO_IPV6, host.IPV6_V6ONLY),
    SocketOption.BROADCAST: (host.SOL_SOCKET, host.SO_BROADCAST),
    SocketOption.MULTICAST_LOOP_V4: (host.IPPROTO_IP, host.IP_MULTICAST_LOOP),
    SocketOption.MULTICAST_LOOP_V6: (host.IPPROTO_IPV6, host.IPV6_MULTICAST_LOOP),
    SocketOption.KEEP_ALIVE: (host.SOL_SOCKET, host.SO_KEEPALIVE),
    SocketOption.OOB_INLINE: (host.SOL_SOCKET, host.SO_OOBINLINE),
    SocketOption.RECV_BUF_SIZE: (host.SOL_SOCKET, host.SO_RCVBUF),
    SocketOption.SEND_BUF_SIZE: (host.SOL_SOCKET, host.SO_SNDBUF),
    SocketOption.RECV_LOWAT: (host.SOL_SOCKET, host.SO_RCVLOWAT),
    SocketOption.SEND_LOWAT: (host.SOL_SOCKET, host.SO_SNDLOWAT),
    SocketOption.MULTICAST_TTL_V4: (host.IPPROTO_IP, host.IP_MULTICAST_TTL),
    SocketOption.TTL: (host.IPPROTO_IP, host.IP_TTL),
}

_pack_flag = codec.make_late_packer(SocketSetOptFlag)
_pack_size = codec.make_late_packer(SocketSetOptSize)
_pack_time = codec.make_late_packer(SocketSetOptTime)


# -- options --------------------------------------------------------------------------------------


def set_option(
    context: "CallContext",
    fd: int,
    socket: HostSocketState,
    option: SocketOption,
    value: int | None,
) -> None:
    """Set a flag, a size, or a time in nanoseconds, None without a limit of time."""
    if option in TIME_TYPES:
        _set_time(context, fd, socket, TIME_TYPES[option], value or None)
        return
    if option in _READ_ONLY or option not in _HOST_OPTIONS or value is None:
        raise WasiError(Errno.NOPROTOOPT)

    def operation(handle: host.socket) -> bytes:
        if not socket.is_lost:
            _set_host_option(handle, socket, option, value)
        return b""

    def apply(_: bytes) -> None:
        socket.options[option] = int(value)

    if option in FLAG_OPTIONS:
        tag, effect = SocketSetOptFlag.tag, _pack_flag(fd, option, bool(value))
    else:
        tag, effect = SocketSetOptSize.tag, _pack_size(fd, option, value)
    context.network.perform(tag, effect, HostCall.SET_OPTION, fd, socket, operation, apply)


def _set_time(
    context: "CallContext", fd: int, socket: HostSocketState, kind: TimeType, time_ns: int | None
) -> None:
    """Set a time limit, which the engine obeys, or the time of a close that waits."""

    def operation(handle: host.socket) -> bytes:
        if kind is TimeType.LINGER and not socket.is_lost:
            _set_linger(handle, time_ns)
        return b""

    def apply(_: bytes) -> None:
        socket.limits.pop(kind, None)
        if time_ns is not None:
            socket.limits[kind] = time_ns

    tag, effect = SocketSetOptTime.tag, _pack_time(fd, kind, time_ns)
    context.network.perform(tag, effect, HostCall.SET_OPTION, fd, socket, operation, apply)


def _set_linger(handle: host.socket, time_ns: int | None) -> None:
    # The host counts seconds. 0 seconds would reset the connection instead of waiting.
    seconds = min(-(-(time_ns or 0) // NANOSECONDS), _INT_MAX)
    packed = _LINGER.pack(time_ns is not None, seconds)
    handle.setsockopt(host.SOL_SOCKET, host.SO_LINGER, packed)


def _find_host_option(socket: HostSocketState, option: SocketOption) -> tuple[int, int]:
    if option is SocketOption.TTL and socket.family is AddressFamily.INET6:
        return host.IPPROTO_IPV6, host.IPV6_UNICAST_HOPS
    return _HOST_OPTIONS[option]


def _set_host_option(
    handle: host.socket, socket: HostSocketState, option: SocketOption, value: int
) -> None:
    if option is SocketOption.REUSE_ADDR and socket.is_stream:
        return  # It is always set, so that a killed session can be resumed at once.
    handle.setsockopt(*_find_host_option(socket, option), min(value, _INT_MAX))


def set_again(handle: host.socket, socket: HostSocketState) -> None:
    """Set the options and join the groups of a socket on a new socket of the host."""
    for option, value in socket.options.items():
        _set_host_option(handle, socket, option, value)
    if TimeType.LINGER in socket.limits:
        _set_linger(handle, socket.limits[TimeType.LINGER])
    for group in socket.groups:
        _set_membership(handle, group, is_member=True)


def get_option(
    context: "CallContext", fd: int, socket: HostSocketState, option: SocketOption
) -> int | None:
    """Return a flag, a size, or a time in nanoseconds, None without a limit of time."""
    if option in TIME_TYPES:
        return socket.limits.get(TIME_TYPES[option])
    known = _find_known(socket, option)
    if known is not None:
        return known
    if option is SocketOption.LAST_ERROR and socket.connection is Connection.PENDING:
        try:
            connections.settle(context, fd, socket)
        except WasiError as error:
            return error.errno
        return 0
    if option is not SocketOption.LAST_ERROR and option not in _HOST_OPTIONS:
        raise WasiError(Errno.NOPROTOOPT)

    def find() -> bytes:
        handle = context.network.handle_of(socket)
        if option is SocketOption.LAST_ERROR:
            code = handle.getsockopt(host.SOL_SOCKET, host.SO_ERROR)
            return _VALUE.pack(to_wasi_errno(OSError(code, "")) if code else 0)
        if socket.is_lost:
            return _VALUE.pack(socket.options.get(option, 0))
        return _VALUE.pack(handle.getsockopt(*_find_host_option(socket, option)) & _INT_MAX)

    tape = context.tape
    reply = tape.request_host_result(HostCall.GET_OPTION, fd, lambda: capture_result(find))
    value = unwrap_result(reply)
    if len(value) != _VALUE.size:
        raise ValueError(f"recorded value of an option has {len(value)} bytes: 8 are expected")
    return int.from_bytes(value, "little")


def _find_known(socket: HostSocketState, option: SocketOption) -> int | None:
    """Return an option that the state of the guest determines; None for any other."""
    if option is SocketOption.LISTENING:
        return int(socket.backlog is not None)
    if option is SocketOption.TYPE:
        return socket.kind
    if option is SocketOption.PROTO:
        return socket.protocol or (host.IPPROTO_TCP if socket.is_stream else host.IPPROTO_UDP)
    if option is SocketOption.REUSE_ADDR and socket.is_stream:
        return socket.options.get(option, 0)
    return None


# -- multicast ------------------------------------------------------------------------------------

MEMBERSHIPS = {
    SocketJoinIpv4Multicast: (AddressFamily.INET4, True),
    SocketJoinIpv6Multicast: (AddressFamily.INET6, True),
    SocketLeaveIpv4Multicast: (AddressFamily.INET4, False),
    SocketLeaveIpv6Multicast: (AddressFamily.INET6, False),
}
MembershipKind = type[
    SocketJoinIpv4Multicast
    | SocketJoinIpv6Multicast
    | SocketLeaveIpv4Multicast
    | SocketLeaveIpv6Multicast
]


def change_membership(
    context: "CallContext", fd: int, socket: HostSocketState, kind: MembershipKind, group: Group
) -> None:
    """Join or leave a multicast group, with the effect ``kind``."""
    family, is_member = MEMBERSHIPS[kind]
    if socket.is_stream:
        raise WasiError(Errno.NOTSUP)
    if socket.family is not family:
        raise WasiError(Errno.AFNOSUPPORT)

    def operation(handle: host.socket) -> bytes:
        _set_membership(handle, group, is_member=is_member)
        return b""

    def apply(_: bytes) -> None:
        if is_member:
            socket.groups[group] = None
        else:
            socket.groups.pop(group, None)

    effect = codec.make_packer(kind)(fd, *group)
    context.network.perform(kind.tag, effect, HostCall.MULTICAST, fd, socket, operation, apply)


def _set_membership(handle: host.socket, group: Group, *, is_member: bool) -> None:
    address, interface = group
    if isinstance(address, IPv6Address):
        name = host.IPV6_JOIN_GROUP if is_member else host.IPV6_LEAVE_GROUP
        packed = _GROUP_6.pack(address.packed, interface)
        handle.setsockopt(host.IPPROTO_IPV6, name, packed)
    else:
        assert isinstance(interface, IPv4Address)
        name = host.IP_ADD_MEMBERSHIP if is_member else host.IP_DROP_MEMBERSHIP
        handle.setsockopt(host.IPPROTO_IP, name, address.packed + interface.packed)

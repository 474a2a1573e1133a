"""Effects of events of sockets: their state and their options.

A request to the host's network takes effect with the successful result of the host. In a journal of
another engine, and for a socket inside the guest, a request has no result and takes effect at once.
"""

from journal.errors import FormatError
from journal.events import codec, sockets
from journal.events.definition import Event
from journal.events.inputs import HostCall
from journal.events.sockets import AddressFamily, Shutdown
from journal.replay.dispatch import apply_effect
from journal.replay.effects.pending_calls import apply_request, requests, unpack_count
from journal.replay.host import Host
from journal.replay.limits import ReplayError, check_count
from journal.replay.state.descriptor_table import SocketState

Joining = sockets.SocketJoinIpv4Multicast | sockets.SocketJoinIpv6Multicast
Leaving = sockets.SocketLeaveIpv4Multicast | sockets.SocketLeaveIpv6Multicast
Sending = sockets.SocketSend | sockets.SocketSendTo
Option = sockets.SocketSetOptFlag | sockets.SocketSetOptSize | sockets.SocketSetOptTime
SocketRequest = (
    sockets.SocketListen
    | sockets.SocketBind
    | sockets.SocketConnect
    | sockets.SocketShutdown
    | Joining
    | Leaving
    | Sending
    | Option
)

DIRECTIONS = {
    Shutdown.READ: {Shutdown.READ},
    Shutdown.WRITE: {Shutdown.WRITE},
    Shutdown.BOTH: {Shutdown.READ, Shutdown.WRITE},
}
"""Directions that each shutdown ends."""


# -- events ---------------------------------------------------------------------------------------


@apply_effect.register
def _(event: sockets.SocketOpen, host: Host) -> None:
    host.table.check_free(event.fd)
    _request(event, event.af is AddressFamily.UNIX, host)


@apply_effect.register
def _(event: SocketRequest, host: Host) -> None:
    _request(event, host.table.object_of(event.fd, SocketState).is_inside, host)


@apply_effect.register
def _(event: sockets.SocketSendFile, host: Host) -> None:
    host.table.entry(event.file_fd)
    _request(event, host.table.object_of(event.socket_fd, SocketState).is_inside, host)


@apply_effect.register
def _(event: sockets.SocketPair | sockets.SocketPairOfType, host: Host) -> None:
    if event.fd1 == event.fd2:
        raise ReplayError(f"both sockets of a pair have the descriptor {event.fd1}")
    host.table.check_free(event.fd2)
    for fd in (event.fd1, event.fd2):
        host.table.add(fd, SocketState(event, is_inside=True))


@apply_effect.register
def _(event: sockets.SocketInside, host: Host) -> None:
    host.table.object_of(event.fd, SocketState).is_inside = True


@apply_effect.register
def _(event: sockets.UnixSocketBind, host: Host) -> None:
    host.table.object_of(event.fd, SocketState).bound = event


@apply_effect.register
def _(event: sockets.UnixSocketConnect, host: Host) -> None:
    socket = host.table.object_of(event.fd, SocketState)
    socket.requested, socket.is_refused = event, False


@apply_effect.register
def _(event: sockets.SocketConnected, host: Host) -> None:
    host.table.object_of(event.fd, SocketState).connected = event


@apply_effect.register
def _(event: sockets.SocketAccepted, host: Host) -> None:
    listener = host.table.object_of(event.listen_fd, SocketState)
    socket = SocketState(event, is_inside=listener.is_inside)
    host.table.add(event.fd, socket, flags=event.fd_flags)


def _request(event: Event, is_inside: bool, host: Host) -> None:
    """Make ``event`` the pending request, or apply it at once if no result follows."""
    if is_inside or host.process.start is None or not host.process.has_host_results:
        apply_request(event, None, host)
    else:
        host.pending = event


# -- requests, after the host's result ------------------------------------------------------------


@requests(HostCall.SOCKET, sockets.SocketOpen)
def _(event: sockets.SocketOpen, value: bytes | None, host: Host) -> None:
    is_inside = event.af is AddressFamily.UNIX
    is_certain = is_inside or value is not None or host.process.start is None
    host.table.add(event.fd, SocketState(event, is_certain, is_inside=is_inside))


@requests(HostCall.BIND, sockets.SocketBind)
def _(event: sockets.SocketBind, value: bytes | None, host: Host) -> None:
    bound = event if value is None else _decode_binding(event.fd, value)
    host.table.object_of(event.fd, SocketState).bound = bound


@requests(HostCall.LISTEN, sockets.SocketListen)
def _(event: sockets.SocketListen, value: bytes | None, host: Host) -> None:
    socket = host.table.object_of(event.fd, SocketState)
    socket.listening = event
    if value is not None:  # The host has given an address to a socket without one.
        address = _decode_binding(event.fd, value)
        socket.bound = socket.bound or address


@requests(HostCall.CONNECT, sockets.SocketConnect)
def _(event: sockets.SocketConnect, value: bytes | None, host: Host) -> None:
    socket = host.table.object_of(event.fd, SocketState)
    socket.requested, socket.is_refused = event, False


@requests(HostCall.SEND, sockets.SocketSend, sockets.SocketSendTo)
def _(event: Sending, value: bytes | None, host: Host) -> None:
    _count_sent(event.fd, len(event.data), value, host)


@requests(HostCall.SEND, sockets.SocketSendFile)
def _(event: sockets.SocketSendFile, value: bytes | None, host: Host) -> None:
    _count_sent(event.socket_fd, event.count, value, host)


@requests(HostCall.SHUTDOWN, sockets.SocketShutdown)
def _(event: sockets.SocketShutdown, value: bytes | None, host: Host) -> None:
    host.table.object_of(event.fd, SocketState).shut |= DIRECTIONS[event.how]


@requests(HostCall.MULTICAST, sockets.SocketJoinIpv4Multicast, sockets.SocketJoinIpv6Multicast)
def _(event: Joining, value: bytes | None, host: Host) -> None:
    groups = host.table.object_of(event.fd, SocketState).groups
    group = event.multiaddr, event.iface
    check_count("multicast groups", len(groups) + (group not in groups))
    groups[group] = None


@requests(HostCall.MULTICAST, sockets.SocketLeaveIpv4Multicast, sockets.SocketLeaveIpv6Multicast)
def _(event: Leaving, value: bytes | None, host: Host) -> None:
    groups = host.table.object_of(event.fd, SocketState).groups
    groups.pop((event.multiaddr, event.iface), None)


@requests(
    HostCall.SET_OPTION,
    sockets.SocketSetOptFlag,
    sockets.SocketSetOptSize,
    sockets.SocketSetOptTime,
)
def _(event: Option, value: bytes | None, host: Host) -> None:
    option = event.ty if isinstance(event, sockets.SocketSetOptTime) else event.opt
    host.table.object_of(event.fd, SocketState).options[event.tag, int(option)] = event


def _count_sent(fd: int, size: int, value: bytes | None, host: Host) -> None:
    """Count the bytes that the host accepted: of a journal without results, all of them."""
    accepted = size if value is None else min(size, unpack_count(value))
    socket = host.table.object_of(fd, SocketState)
    socket.sent += accepted
    socket.has_sent = socket.has_sent or socket.is_datagram


def _decode_binding(fd: int, value: bytes) -> Event:
    """Return a SocketBind event with the address in the host's result."""
    try:
        return codec.decode(sockets.SocketBind.tag, fd.to_bytes(4, "little") + value)
    except FormatError as error:
        raise ReplayError(f"the host's result for socket {fd} is not an address") from error

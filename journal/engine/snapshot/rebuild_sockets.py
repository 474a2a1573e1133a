"""Repetition of the effects of sockets, for the rebuild of a guest's descriptors."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from journal.engine.snapshot.free_descriptors import check_free, reserve_descriptor
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.network import connections, inside, options, sending
from journal.engine.wasi.network.addresses import check_recorded
from journal.engine.wasi.network.socket_state import Connection, HostSocketState
from journal.engine.wasi.objects.named_socket import NamedSocket
from journal.events import codec, sockets
from journal.events.definition import Event
from journal.events.inputs import HostCall, HostResult
from journal.events.sockets import AddressFamily, Shutdown, SocketOption, TimeType
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import Errno, FdFlags, WasiError

_unpack_result = codec.make_late_unpacker(HostResult)
_OPTIONS = {kind: option for option, kind in options.TIME_TYPES.items()}


def get_socket(context: CallContext, fd: int) -> HostSocketState:
    """Return a socket of the host; raise ``WasiError`` for any other descriptor."""
    return context.descriptors.get_channel(fd, HostSocketState, Errno.NOTSOCK)


def open_socket(context: CallContext, family: int, kind: int, protocol: int, fd: int) -> None:
    """Repeat a SocketOpen."""
    if family == AddressFamily.UNIX:
        check_free(context, fd)
        inside.open_unix(context, kind, protocol, fd)
        return
    reserve_descriptor(context, fd)
    context.network.open(family, kind, protocol)


def bind(context: CallContext, fd: int, address: SocketAddress) -> None:
    """Repeat a SocketBind."""
    context.descriptors.get_socket(fd).bind(context, fd, address)


def listen(context: CallContext, fd: int, backlog: int) -> None:
    """Repeat a SocketListen."""
    context.descriptors.get_socket(fd).listen(context, fd, backlog)


def request_connection(context: CallContext, fd: int, address: SocketAddress) -> None:
    """Repeat a SocketConnect."""
    inner = context.descriptors.get(fd)
    if isinstance(inner, NamedSocket):
        inner.repeat_connect(context, fd, address)
        return
    socket = get_socket(context, fd)
    check_recorded(address, socket.family)
    if socket.has_connection or socket.backlog is not None:
        raise WasiError(Errno.ISCONN)
    connections.request(context, fd, socket, address)


def note_connection(
    context: CallContext, fd: int, local: SocketAddress, peer: SocketAddress
) -> None:
    """Repeat a SocketConnected."""
    socket = get_socket(context, fd)
    if socket.connection is not Connection.ESTABLISHED:
        raise WasiError(Errno.NOTCONN)
    connections.note_established(context, fd, socket)


def add_accepted(
    context: CallContext,
    listen_fd: int,
    fd: int,
    flags: int,
    non_blocking: bool,
    local: SocketAddress,
    peer: SocketAddress,
) -> None:
    """Repeat a SocketAccepted."""
    inner = context.descriptors.get(listen_fd)
    if isinstance(inner, NamedSocket):
        _add_accepted_inside(context, inner, listen_fd, fd, flags, (local, peer))
        return
    listener = get_socket(context, listen_fd)
    if listener.backlog is None or flags & ~FdFlags.NONBLOCK:
        raise WasiError(Errno.INVAL)
    for address in (local, peer):
        check_recorded(address, listener.family)
    reserve_descriptor(context, fd)
    connections.add_accepted(context, listen_fd, fd, flags, local, peer)


def _add_accepted_inside(
    context: CallContext,
    listener: NamedSocket,
    listen_fd: int,
    fd: int,
    flags: int,
    addresses: tuple[SocketAddress, SocketAddress],
) -> None:
    """Repeat the acceptance of a connection inside the guest, without its peer."""
    if listener.backlog is None or flags & ~FdFlags.NONBLOCK:
        raise WasiError(Errno.INVAL)
    local, remote = addresses if listener.is_internet else (listener.local, None)
    if listener.is_internet:
        for address in addresses:
            check_recorded(address, listener.family)
    reserve_descriptor(context, fd)
    accepted = listener.make_accepted(local, remote, listener.protocol)
    accepted.record_acceptance(context, listen_fd, fd, flags)


def move_inside(context: CallContext, fd: int) -> None:
    """Repeat a SocketInside."""
    socket = get_socket(context, fd)
    if socket.connection is not Connection.NONE or socket.local is not None:
        raise WasiError(Errno.ISCONN)
    inside.move_inside(context, fd, socket)


def bind_unix(context: CallContext, fd: int, name: bytes) -> None:
    """Repeat a UnixSocketBind."""
    context.descriptors.get_channel(fd, NamedSocket, Errno.NOTSOCK).bind(context, fd, name)


def connect_unix(context: CallContext, fd: int, name: bytes) -> None:
    """Repeat a UnixSocketConnect."""
    socket = context.descriptors.get_channel(fd, NamedSocket, Errno.NOTSOCK)
    socket.repeat_connect(context, fd, name)


def send(context: CallContext, fd: int, flags: int, is_64bit: bool, data: bytes) -> None:
    """Repeat a SocketSend."""
    socket = get_socket(context, fd)
    if socket.connection is not Connection.ESTABLISHED:
        raise WasiError(Errno.NOTCONN)
    sending.send_part(context, fd, socket, data, flags, None)


def send_to(
    context: CallContext, fd: int, flags: int, is_64bit: bool, to: SocketAddress, data: bytes
) -> None:
    """Repeat a SocketSendTo."""
    socket = get_socket(context, fd)
    check_recorded(to, socket.family)
    sending.send_part(context, fd, socket, data, flags, to)


def send_file(context: CallContext, fd: int, file_fd: int, offset: int, count: int) -> None:
    """Repeat a SocketSendFile. The bytes are those of the file, which another effect has made."""
    context.descriptors.get_file(file_fd)
    sending.send_file_part(context, fd, get_socket(context, fd), file_fd, offset, count, b"")


def set_option(context: CallContext, fd: int, option: SocketOption, value: int) -> None:
    """Repeat a SocketSetOptFlag or a SocketSetOptSize."""
    if option in options.TIME_TYPES:
        raise WasiError(Errno.NOPROTOOPT)
    context.descriptors.get_socket(fd).set_option(context, fd, option, value)


def set_time(context: CallContext, fd: int, kind: TimeType, time: int | None) -> None:
    """Repeat a SocketSetOptTime."""
    if kind not in _OPTIONS or time == 0:
        raise WasiError(Errno.INVAL)
    context.descriptors.get_socket(fd).set_option(context, fd, _OPTIONS[kind], time)


def shutdown(context: CallContext, fd: int, how: Shutdown) -> None:
    """Repeat a SocketShutdown."""
    context.descriptors.get_socket(fd).shutdown(context, fd, how)


def _make_membership_handler(kind: options.MembershipKind) -> Callable[..., None]:
    """Return the function that repeats an event of a multicast group."""

    def change(
        context: CallContext,
        fd: int,
        group: IPv4Address | IPv6Address,
        interface: IPv4Address | int,
    ) -> None:
        socket = get_socket(context, fd)
        options.change_membership(context, fd, socket, kind, (group, interface))

    return change


def apply_result(context: CallContext, payload: bytes) -> None:
    """Apply the result of a request that no effect precedes: the outcome of a connection."""
    call, fd, errno, value = _unpack_result(payload)
    if call is not HostCall.CONNECT:
        return
    socket = get_socket(context, fd)
    if socket.connection is not Connection.PENDING:
        raise ValueError("the socket has no pending connection")
    connections.apply_outcome(socket, errno, value)


HANDLERS: dict[type[Event], Callable[..., None]] = {
    sockets.SocketOpen: open_socket,
    sockets.SocketBind: bind,
    sockets.SocketListen: listen,
    sockets.SocketConnect: request_connection,
    sockets.SocketConnected: note_connection,
    sockets.SocketAccepted: add_accepted,
    sockets.SocketInside: move_inside,
    sockets.UnixSocketBind: bind_unix,
    sockets.UnixSocketConnect: connect_unix,
    sockets.SocketSend: send,
    sockets.SocketSendTo: send_to,
    sockets.SocketSendFile: send_file,
    sockets.SocketSetOptFlag: set_option,
    sockets.SocketSetOptSize: set_option,
    sockets.SocketSetOptTime: set_time,
    sockets.SocketShutdown: shutdown,
    **{kind: _make_membership_handler(kind) for kind in options.MEMBERSHIPS},
}
"""Functions that repeat an effect, with the context and the event's values as arguments."""

QUERIES = frozenset(
    (
        *(HostCall.CONNECT, HostCall.ACCEPT, HostCall.STATUS),
        *(HostCall.GET_OPTION, HostCall.ADDRESS),
    )
)
"""Requests that have a result and no effect before it."""

"""Connections of sockets of the host: requested, accepted, and ended ones."""

import errno
import os
import select
import socket as host
from enum import IntEnum
from typing import TYPE_CHECKING

from journal.engine.tape import HostReply
from journal.engine.wasi.filesystem.host_files import unwrap_result
from journal.engine.wasi.filesystem.host_paths import capture_result
from journal.engine.wasi.filesystem.reopening import with_more_descriptors
from journal.engine.wasi.network.addresses import (
    fits_family,
    from_host_address,
    pack_result,
    to_host_address,
    unpack_result,
)
from journal.engine.wasi.network.socket_state import Connection, HostSocketState
from journal.engine.wasi.network.waiting import find_events, wait_for
from journal.events import codec
from journal.events.inputs import HostCall
from journal.events.sockets import (
    Shutdown,
    SocketAccepted,
    SocketConnect,
    SocketConnected,
    SocketShutdown,
    TimeType,
)
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import STILL_PENDING, Errno, FdFlags, WasiError, to_wasi_errno

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

_pack_connect = codec.make_late_packer(SocketConnect)
_pack_connected = codec.make_late_packer(SocketConnected)
_pack_accepted = codec.make_late_packer(SocketAccepted)
_pack_shutdown = codec.make_late_packer(SocketShutdown)


class SocketStatus(IntEnum):
    """Result of ``sock_status``."""

    OPENING = 0
    OPENED = 1
    CLOSED = 2
    FAILED = 3


_ENDED = {Shutdown.READ: 1, Shutdown.WRITE: 2, Shutdown.BOTH: 3}


# -- requested connections ------------------------------------------------------------------------


def connect(
    context: "CallContext", fd: int, socket: HostSocketState, function: str, address: SocketAddress
) -> None:
    """Request a connection. A socket that waits returns when it is established.

    Raises ``WasiError`` with ``INPROGRESS`` if the socket does not wait, and with ``ALREADY`` or
    ``ISCONN`` for a second request.
    """
    if not fits_family(address, socket.family):
        raise WasiError(Errno.AFNOSUPPORT)
    if socket.backlog is not None or (
        socket.is_stream and socket.connection is Connection.ESTABLISHED
    ):
        raise WasiError(Errno.ISCONN)
    is_new = socket.connection is not Connection.PENDING
    if is_new:
        request(context, fd, socket, address)
    if socket.connection is Connection.PENDING and (socket.is_blocking or not is_new):
        _ask_outcome(context, fd, socket, function, is_waiting=socket.is_blocking)
    if socket.connection is Connection.PENDING:
        raise WasiError(Errno.INPROGRESS if is_new else Errno.ALREADY)
    note_established(context, fd, socket)


def request(
    context: "CallContext", fd: int, socket: HostSocketState, address: SocketAddress
) -> None:
    """Ask the host for a connection, which may stay pending.

    A crash has ended a connection, over which nothing was sent: it is requested again.
    """
    network, is_done = context.network, False

    def action(again: bool) -> HostReply:
        nonlocal is_done
        is_done = True
        try:
            network.check_peer(address, socket.kind)
            handle = network.handle_of(socket)
            code = handle.connect_ex(to_host_address(address))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            local = from_host_address(handle.getsockname())
        except WasiError as error:
            return error.errno, b""
        except OSError as error:
            return to_wasi_errno(error), b""
        return (Errno.INPROGRESS if code else 0), pack_result(local, address)

    effect = _pack_connect(fd, address)
    result, value = context.tape.perform(SocketConnect.tag, effect, HostCall.CONNECT, fd, action)
    if not is_done:
        socket.close()
    if result not in (0, Errno.INPROGRESS):
        if socket.is_stream:
            _forget_connection(socket)
        context.network.restore_socket(fd, socket)
        raise WasiError(result)
    socket.local, socket.peer = unpack_result(value, socket.family, 2)
    socket.connection = Connection.PENDING if result else Connection.ESTABLISHED
    context.network.restore_socket(fd, socket)


def _forget_connection(socket: HostSocketState) -> None:
    """Make a socket whose request has failed unconnected, with its bound address."""
    socket.close()
    socket.connection, socket.local, socket.peer = Connection.FAILED, socket.bound, None


def _ask_outcome(
    context: "CallContext", fd: int, socket: HostSocketState, function: str, *, is_waiting: bool
) -> bool:
    """Return whether a pending connection is established; raise ``WasiError`` if it has failed."""
    network = context.network

    def find() -> bytes:
        handle = network.handle_of(socket)
        if is_waiting:
            limit = socket.limits.get(TimeType.CONNECT)
            if not wait_for(context, function, handle, select.POLLOUT, limit):
                raise WasiError(Errno.TIMEDOUT)
        elif not find_events(handle, select.POLLOUT):
            raise WasiError(Errno.INPROGRESS)
        code = handle.getsockopt(host.SOL_SOCKET, host.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        assert socket.peer is not None
        return pack_result(from_host_address(handle.getsockname()), socket.peer)

    reply = context.tape.request_host_result(HostCall.CONNECT, fd, lambda: capture_result(find))
    apply_outcome(socket, *reply)
    if socket.connection is Connection.FAILED:
        context.network.restore_socket(fd, socket)
    if socket.connection is Connection.FAILED or reply[0] == Errno.INTR:
        raise WasiError(reply[0])
    return socket.connection is Connection.ESTABLISHED


def apply_outcome(socket: HostSocketState, result: int, value: bytes) -> None:
    """Apply the recorded outcome of a pending connection."""
    if result in STILL_PENDING:
        return
    if result:
        _forget_connection(socket)
        return
    socket.local, socket.peer = unpack_result(value, socket.family, 2)
    socket.connection = Connection.ESTABLISHED


def note_established(context: "CallContext", fd: int, socket: HostSocketState) -> None:
    """Record that the guest has learned of its connection."""
    effect = _pack_connected(fd, socket.local, socket.peer)
    context.tape.record_effect(SocketConnected.tag, effect)


def settle(context: "CallContext", fd: int, socket: HostSocketState, function: str = "") -> None:
    """Learn whether a pending connection is established; raise ``WasiError`` if it has failed.

    With ``function`` a socket that waits does so until it is known.
    """
    if socket.connection is Connection.PENDING:
        is_waiting = bool(function) and socket.is_blocking
        if _ask_outcome(context, fd, socket, function, is_waiting=is_waiting):
            note_established(context, fd, socket)


def require_outcome(
    context: "CallContext", fd: int, socket: HostSocketState, function: str
) -> None:
    """Raise ``WasiError`` with ``AGAIN`` if a connection is still pending."""
    settle(context, fd, socket, function)
    if socket.connection is Connection.PENDING:
        raise WasiError(Errno.AGAIN)


def check_connected(
    context: "CallContext", fd: int, socket: HostSocketState, function: str
) -> None:
    """Raise ``WasiError`` unless the socket is connected; wait for a pending connection."""
    if socket.connection is Connection.PENDING:
        require_outcome(context, fd, socket, function)
    if socket.connection is not Connection.ESTABLISHED:
        raise WasiError(Errno.NOTCONN)


# -- accepted connections -------------------------------------------------------------------------


def accept(
    context: "CallContext", fd: int, socket: HostSocketState, flags: int, function: str
) -> tuple[int, HostSocketState]:
    """Accept a connection, and return its descriptor and its socket."""
    if not socket.is_stream:
        raise WasiError(Errno.NOTSUP)
    if socket.backlog is None:
        raise WasiError(Errno.INVAL)
    accepted_fd = context.descriptors.next_fd()
    handle: host.socket | None = None

    def find() -> bytes:
        nonlocal handle
        listener = context.network.handle_of(socket)
        handle, peer = _accept(context, socket, listener, function)
        handle.setblocking(False)
        return pack_result(from_host_address(handle.getsockname()), from_host_address(peer))

    try:
        reply = context.tape.request_host_result(HostCall.ACCEPT, fd, lambda: capture_result(find))
        local, peer = unpack_result(unwrap_result(reply), socket.family, 2)
        accepted = add_accepted(context, fd, accepted_fd, flags, local, peer)
    except BaseException:  # A full disk, for example: no descriptor owns the connection.
        if handle is not None:
            handle.close()
        raise
    accepted.handle = handle
    context.network.restore_socket(accepted_fd, accepted)
    return accepted_fd, accepted


def add_accepted(
    context: "CallContext",
    fd: int,
    accepted_fd: int,
    flags: int,
    local: SocketAddress,
    peer: SocketAddress,
) -> HostSocketState:
    """Add the socket of a connection that the listener ``fd`` accepted, and return it."""
    listener = context.descriptors.get_channel(fd, HostSocketState)
    is_non_blocking = bool(flags & FdFlags.NONBLOCK)
    effect = _pack_accepted(fd, accepted_fd, flags, is_non_blocking, local, peer)
    context.tape.record_effect(SocketAccepted.tag, effect)
    accepted = type(listener)(
        listener.family,
        listener.kind,
        listener.protocol,
        local=local,
        peer=peer,
        flags=flags,
        connection=Connection.ESTABLISHED,
    )
    added = context.descriptors.add(accepted)
    assert added == accepted_fd
    return accepted


def _accept(
    context: "CallContext", socket: HostSocketState, handle: host.socket, function: str
) -> tuple[host.socket, tuple[object, ...]]:
    """Return the next connection, and the address of its peer; wait for it unless NONBLOCK."""
    while True:
        try:
            return with_more_descriptors(handle.accept)
        except BlockingIOError:
            limit = socket.limits.get(TimeType.ACCEPT)
            if not socket.is_blocking:
                raise
            if not wait_for(context, function, handle, select.POLLIN, limit):
                raise WasiError(Errno.TIMEDOUT) from None


# -- ends of connections, and their state ---------------------------------------------------------


def shutdown(context: "CallContext", fd: int, socket: HostSocketState, how: Shutdown) -> None:
    """End one or both directions of a connection."""
    settle(context, fd, socket)
    if socket.connection is not Connection.ESTABLISHED:
        raise WasiError(Errno.NOTCONN)

    def operation() -> bytes:
        handle = context.network.handle_of(socket)
        if socket.is_lost:
            raise WasiError(Errno.NOTCONN)
        handle.shutdown(int(how))  # The numbers are those of the host.
        return b""

    effect, call = _pack_shutdown(fd, how), HostCall.SHUTDOWN
    unwrap_result(
        context.tape.perform(
            SocketShutdown.tag, effect, call, fd, lambda again: capture_result(operation)
        )
    )
    socket.ended |= _ENDED[how]


def find_status(context: "CallContext", fd: int, socket: HostSocketState) -> SocketStatus:
    """Return the state of a socket and of its connection."""
    if not socket.is_stream or socket.backlog is not None:
        return SocketStatus.OPENED
    try:
        settle(context, fd, socket)
    except WasiError:
        return SocketStatus.FAILED
    if socket.connection is not Connection.ESTABLISHED:
        is_failed = socket.connection is Connection.FAILED
        return SocketStatus.FAILED if is_failed else SocketStatus.OPENING

    def find() -> bytes:
        handle = context.network.handle_of(socket)
        found = find_events(handle, 0)
        return bytes([SocketStatus.CLOSED if found & select.POLLHUP else SocketStatus.OPENED])

    reply = context.tape.request_host_result(HostCall.STATUS, fd, lambda: capture_result(find))
    value = unwrap_result(reply)
    if value not in (bytes([SocketStatus.OPENED]), bytes([SocketStatus.CLOSED])):
        raise ValueError(f"recorded status is {value[:8].hex()}")
    return SocketStatus(value[0])


def find_local_address(context: "CallContext", fd: int, socket: HostSocketState) -> SocketAddress:
    """Ask the host for the address that it has chosen for a socket."""

    def find() -> bytes:
        handle = context.network.handle_of(socket)
        return pack_result(from_host_address(handle.getsockname()))

    reply = context.tape.request_host_result(HostCall.ADDRESS, fd, lambda: capture_result(find))
    (address,) = unpack_result(unwrap_result(reply), socket.family, 1)
    return address


def find_peer(context: "CallContext", fd: int, socket: HostSocketState) -> SocketAddress:
    """Return the address of the peer of a connection; raise ``WasiError`` without one."""
    settle(context, fd, socket)
    if socket.connection is not Connection.ESTABLISHED or socket.peer is None:
        raise WasiError(Errno.NOTCONN)
    return socket.peer

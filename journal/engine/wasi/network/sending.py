"""Sending of bytes through sockets of the host.

What a guest sends is an effect, whose result says how much the host accepted. All events before it
are durable before the first byte leaves.
"""

import select
import socket as host
import struct
from typing import TYPE_CHECKING

from journal.engine.tape import HostReply
from journal.engine.wasi.filesystem.host_files import unwrap_result
from journal.engine.wasi.filesystem.host_paths import capture_result
from journal.engine.wasi.network import connections
from journal.engine.wasi.network.addresses import fits_family, to_host_address
from journal.engine.wasi.network.socket_state import Connection, HostSocketState
from journal.engine.wasi.network.waiting import HandleWait, find_events, wait_for
from journal.events import codec
from journal.events.inputs import HostCall, HostResult
from journal.events.sockets import SocketSend, SocketSendFile, SocketSendTo, TimeType
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import Errno, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

SEND_SIZE_MAX = 1 << 18
"""Largest size of one event of sent bytes. The host may accept less of it, so that the rest is
stored again: this limits how much."""

SMALL_SIZE = 4096
"""Largest size of bytes that are stored and sent without looking whether the host has room."""

DATAGRAM_SIZE_MAX = 1 << 16
"""Larger than any datagram of UDP."""

SEND_DONT_WAIT = 1
"""The one bit of siflags."""

_NO_SIGNAL = int(host.MSG_NOSIGNAL)  # An operation on an enum flag costs more than a struct.
_COUNT = struct.Struct("<I")

_pack_send = codec.make_late_packer(SocketSend)
_pack_send_to = codec.make_late_packer(SocketSendTo)
_pack_send_file = codec.make_late_packer(SocketSendFile)


def send(
    context: "CallContext",
    fd: int,
    socket: HostSocketState,
    data: bytes,
    flags: int,
    function: str,
    to: SocketAddress | None = None,
) -> int:
    """Send bytes and return how many; a socket that waits sends all of them."""
    if socket.is_stream:
        connections.check_connected(context, fd, socket, function)
        to = None  # As on Linux.
    else:
        _check_datagram(socket, len(data), to)
    waiting = function if socket.is_blocking and not flags & SEND_DONT_WAIT else ""
    sent_size, is_full = 0, len(data) > SMALL_SIZE
    while True:
        part = data[sent_size : sent_size + SEND_SIZE_MAX] if is_full else data
        try:
            if is_full:
                _wait_for_room(context, fd, socket, waiting, is_first=not sent_size)
            sent_size += send_part(context, fd, socket, part, flags, to)
        except WasiError as error:
            if error.errno == Errno.AGAIN and waiting and not is_full:
                is_full = True
                continue
            if not sent_size:
                raise
            return sent_size  # The next call reports the error.
        if sent_size >= len(data) or not waiting:
            return sent_size
        is_full = True


def _check_datagram(socket: HostSocketState, size: int, to: SocketAddress | None) -> None:
    """Raise ``WasiError`` unless a datagram has a possible size and a receiver."""
    if size >= DATAGRAM_SIZE_MAX:
        raise WasiError(Errno.MSGSIZE)
    if to is None and socket.connection is not Connection.ESTABLISHED:
        raise WasiError(Errno.DESTADDRREQ)
    if to is not None and not fits_family(to, socket.family):
        raise WasiError(Errno.AFNOSUPPORT)


def _wait_for_room(
    context: "CallContext", fd: int, socket: HostSocketState, function: str, *, is_first: bool
) -> None:
    """Wait until the host accepts bytes; raise ``WasiError`` if it does not in time.

    An empty ``function`` means that the call does not wait. A refusal is a result of the host
    without an effect, so the bytes are not stored. Once a first part was sent, a snapshot waits for
    the end of the call.
    """
    tape, errno = context.tape, 0
    if tape.replaying:
        payload = tape.peek(HostResult.tag)
        if payload is None or payload[0] != HostCall.SEND:
            return
    else:
        errno = _find_room(context, socket, function, is_first=is_first)
        if not errno:
            return
    recorded, _ = tape.request_host_result(HostCall.SEND, fd, lambda: (errno, b""))
    if not recorded:
        raise ValueError("the recorded refusal of a send has no error number")
    raise WasiError(recorded)


def _find_room(
    context: "CallContext", socket: HostSocketState, function: str, *, is_first: bool
) -> int:
    """Return 0 when the host accepts bytes or reports an error, and else an error number."""
    try:
        handle = context.network.handle_of(socket)
    except (OSError, WasiError):
        return 0  # The send reports it.
    if find_events(handle, select.POLLOUT):
        return 0
    if not function:
        return Errno.AGAIN
    limit = socket.limits.get(TimeType.WRITE)
    try:
        if is_first:
            is_ready = wait_for(context, function, handle, select.POLLOUT, limit)
        else:
            context.before_wait(False)
            is_ready = context.interrupter.wait(HandleWait(handle, select.POLLOUT), limit)
    except WasiError as error:  # A signal.
        return error.errno
    return 0 if is_ready else Errno.TIMEDOUT


def send_part(
    context: "CallContext",
    fd: int,
    socket: HostSocketState,
    data: bytes,
    flags: int,
    to: SocketAddress | None,
) -> int:
    """Record the bytes, send them, and return how many the host accepted."""
    network = context.network

    def operation() -> bytes:
        handle = network.handle_of(socket)
        if socket.is_lost:
            raise_lost(handle)
        if to is None:
            return _COUNT.pack(handle.send(data, _NO_SIGNAL))
        network.check_peer(to, socket.kind)
        return _COUNT.pack(handle.sendto(data, _NO_SIGNAL, to_host_address(to)))

    def action(again: bool) -> HostReply:
        if again and not socket.is_stream:  # It may have been sent, and a datagram may be lost.
            return 0, _COUNT.pack(len(data))
        return capture_result(operation)

    if to is None:
        tag, effect = SocketSend.tag, _pack_send(fd, flags, False, data)
    else:
        tag, effect = SocketSendTo.tag, _pack_send_to(fd, flags, False, to, data)
    reply = context.tape.perform(tag, effect, HostCall.SEND, fd, action)
    socket.has_sent = socket.has_sent or not socket.is_stream
    return _read_count(unwrap_result(reply), len(data))


def send_file(
    context: "CallContext", fd: int, socket: HostSocketState, file_fd: int, offset: int, count: int
) -> int:
    """Send bytes of a file from ``offset`` and return how many.

    Reading the file records what it must. The bytes are not stored again.
    """
    connections.check_connected(context, fd, socket, "sock_send_file")
    file = context.descriptors.get_file(file_fd)
    if not file.is_readable:
        raise WasiError(Errno.BADF)
    sent_size = 0
    while sent_size < count:
        size_max, start = min(count - sent_size, SEND_SIZE_MAX), offset + sent_size
        try:
            waiting = "sock_send_file" if socket.is_blocking else ""
            _wait_for_room(context, fd, socket, waiting, is_first=not sent_size)
            data = file.file.read(file_fd, start, size_max)
            if not data:
                break
            size = send_file_part(context, fd, socket, file_fd, start, len(data), data)
        except WasiError:
            if not sent_size:
                raise
            break  # The next call reports the error.
        sent_size += size
        if not socket.is_blocking:
            break
    return sent_size


def send_file_part(
    context: "CallContext",
    fd: int,
    socket: HostSocketState,
    file_fd: int,
    offset: int,
    count: int,
    data: bytes,
) -> int:
    """Record a part of a file, send its bytes, and return how many the host accepted."""

    def operation() -> bytes:
        handle = context.network.handle_of(socket)
        if socket.is_lost:
            raise_lost(handle)
        return _COUNT.pack(handle.send(data, _NO_SIGNAL))

    effect = _pack_send_file(fd, file_fd, offset, count)
    reply = context.tape.perform(
        SocketSendFile.tag, effect, HostCall.SEND, fd, lambda again: capture_result(operation)
    )
    return _read_count(unwrap_result(reply), count)


def _read_count(value: bytes, size: int) -> int:
    """Return the count in the result of a send of ``size`` bytes."""
    if len(value) != _COUNT.size or int.from_bytes(value, "little") > size:
        raise ValueError(f"recorded result of a send of {size} bytes is {value[:8].hex()}")
    return int.from_bytes(value, "little")


def raise_lost(handle: host.socket) -> None:
    """Raise the error of a send over a connection that a resume could not continue."""
    has_error = handle.getsockopt(host.SOL_SOCKET, host.SO_ERROR)
    raise WasiError(Errno.CONNRESET if has_error else Errno.PIPE)

"""Receipt of bytes through sockets of the host: inputs of the guest."""

import select
import socket as host
import struct
from typing import TYPE_CHECKING

from journal.engine.wasi.network import connections
from journal.engine.wasi.network.addresses import (
    from_host_address,
    pack_result,
    result_size,
    unpack_result,
)
from journal.engine.wasi.network.sending import DATAGRAM_SIZE_MAX
from journal.engine.wasi.network.socket_state import HostSocketState
from journal.engine.wasi.network.waiting import HandleWait, wait_for
from journal.engine.wasi.socket_calls import Received
from journal.events.inputs import PEEKED, BytesReceived
from journal.events.sockets import AddressFamily, TimeType
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import Errno, WasiError, to_wasi_errno

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

RECEIVE_SIZE_MAX = 1 << 20
"""Largest size of one receipt, in bytes. A longer request receives less."""

# The parts of a BytesReceived: descriptor, errno, roflags and the flag of a sender; the sender; the
# size of the data. The common codec of events takes ten times as long.
_START = struct.Struct("<IHHB")
_HEAD = struct.Struct("<IHHBI")  # Without a sender.
_HAS_SENDER = 8  # Offset of the flag of the sender.
_COUNT = struct.Struct("<I")

# Bits of riflags. With the third one the result has the size of the whole datagram.
_PEEK, _WAIT_ALL, _WHOLE_SIZE, _DONT_WAIT = 1, 2, 4, 8
_TRUNCATED = 1  # The one bit of roflags: the buffers are too small for the datagram.
# An operation on an enum flag costs a tenth of a receipt.
_HOST_PEEK, _HOST_TRUNCATED = int(host.MSG_PEEK), int(host.MSG_TRUNC)

_HostReceipt = tuple[bytes, int, SocketAddress | None]
"""Bytes, roflags and sender that a socket of the host has returned."""


def receive(
    context: "CallContext",
    fd: int,
    socket: HostSocketState,
    size_max: int,
    flags: int,
    function: str,
) -> Received:
    """Return the next bytes or the next datagram; wait for it if the socket does."""
    if socket.is_stream:
        connections.check_connected(context, fd, socket, function)
    requested_size = size_max
    if flags & _WHOLE_SIZE and not socket.is_stream:
        size_max = max(size_max, DATAGRAM_SIZE_MAX)
    size_max = min(size_max, RECEIVE_SIZE_MAX)

    payload = context.tape.request_input(
        BytesReceived.tag,
        fd.to_bytes(4, "little"),
        lambda: _receive_payload(context, fd, socket, size_max, flags, function),
    )
    errno, received = _unpack(payload, socket.family)
    if len(received.data) > size_max:
        raise ValueError(
            f"recorded receipt has {len(received.data)} bytes: at most {size_max} were requested"
        )
    if errno:
        raise WasiError(errno)
    if len(received.data) > requested_size:
        received = received._replace(flags=_TRUNCATED)
    return received


def _receive_payload(
    context: "CallContext",
    fd: int,
    socket: HostSocketState,
    size_max: int,
    flags: int,
    function: str,
) -> bytes:
    """Return what a live guest receives, or its errno, as the payload of an event."""
    try:
        data, roflags, sender = _receive(context, socket, size_max, flags, function)
    except WasiError as error:
        if error.errno == Errno.INTR:
            raise  # A signal stands in place of the input.
        return _HEAD.pack(fd, error.errno, 0, 0, 0)
    except OSError as error:
        return _HEAD.pack(fd, to_wasi_errno(error), 0, 0, 0)
    if flags & _PEEK:
        roflags |= PEEKED
    if sender is None:
        return _HEAD.pack(fd, 0, roflags, 0, len(data)) + data
    start = _START.pack(fd, 0, roflags, True)
    return b"".join((start, pack_result(sender), _COUNT.pack(len(data)), data))


def _unpack(payload: bytes, family: AddressFamily) -> tuple[int, Received]:
    """Return the errno and the content of a recorded receipt."""
    if len(payload) >= _HEAD.size and not payload[_HAS_SENDER]:
        _, errno, roflags, _, size = _HEAD.unpack_from(payload)
        data = payload[_HEAD.size :]
        if len(data) != size:
            raise ValueError(f"recorded receipt has {len(data)} bytes instead of {size}")
        return errno, Received(data, roflags & _TRUNCATED, None)
    _, errno, roflags, _ = _START.unpack_from(payload)
    end = _START.size + result_size(family)
    (sender,) = unpack_result(payload[_START.size : end], family, 1)
    (size,) = _COUNT.unpack_from(payload, end)
    data = payload[end + _COUNT.size :]
    if len(data) != size:
        raise ValueError(f"recorded receipt has {len(data)} bytes instead of {size}")
    return errno, Received(data, roflags & _TRUNCATED, sender)


def _receive(
    context: "CallContext", socket: HostSocketState, size_max: int, flags: int, function: str
) -> _HostReceipt:
    """Return what the host's socket has; wait for it unless a flag says otherwise."""
    handle = context.network.handle_of(socket)
    is_waiting = socket.is_blocking and not flags & _DONT_WAIT
    how = _HOST_PEEK if flags & _PEEK else 0
    while True:
        try:
            received = _receive_once(handle, socket, size_max, how, function)
            break
        except BlockingIOError:
            if not is_waiting:
                raise
            limit = socket.limits.get(TimeType.READ)
            if not wait_for(context, function, handle, select.POLLIN, limit):
                raise WasiError(Errno.TIMEDOUT) from None
    if flags & _WAIT_ALL and is_waiting and socket.is_stream and not how:
        return _receive_rest(context, handle, size_max, received[0]), 0, None
    return received


def _receive_once(
    handle: host.socket, socket: HostSocketState, size_max: int, how: int, function: str
) -> _HostReceipt:
    """Return what the host's socket has now, with the sender if the guest asks for it."""
    if socket.is_stream:
        return handle.recv(size_max, how), 0, None
    data, _, found, sender = handle.recvmsg(size_max, 0, how)
    truncated = _TRUNCATED if found & _HOST_TRUNCATED else 0
    is_asked = function == "sock_recv_from" and sender
    return data, truncated, from_host_address(sender) if is_asked else None


def _receive_rest(context: "CallContext", handle: host.socket, size_max: int, data: bytes) -> bytes:
    """Return ``data`` and the bytes after it until there are ``size_max``, or the end.

    A snapshot waits for the end of the call, because these bytes are not in the journal yet.
    """
    parts, size = [data], len(data)
    while parts[-1] and size < size_max:
        try:
            parts.append(handle.recv(size_max - size))
        except BlockingIOError:
            try:
                context.before_wait(False)
                context.interrupter.wait(HandleWait(handle, select.POLLIN), None)
            except WasiError:  # A signal.
                break
            continue
        except OSError:
            break  # The next call reports it.
        size += len(parts[-1])
    return b"".join(parts)

"""State of a socket inside the guest as a snapshot stores it, with the connections of the socket.

The first part is a header, the second the address of the peer, and the third the descriptors of
the sockets that wait to connect. Each connection that waits to be accepted follows as one part, and
then the contents of the socket itself. A connected socket is stored with the lowest descriptor of
its peer. So a rebuild needs no events of sockets that are closed.
"""

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from journal.engine.wasi.channel import ChannelState
from journal.engine.wasi.objects.inner_network import InnerNetwork
from journal.engine.wasi.objects.inner_socket import (
    InnerSocket,
    pack_inner_address,
    unpack_inner_address,
)

if TYPE_CHECKING:
    from journal.engine.wasi.objects.named_socket import NamedSocket

S = TypeVar("S", bound=InnerSocket)

CONNECTED, READ_SHUT, WRITE_SHUT, CONNECTING, FAILED = 1, 2, 4, 8, 16
NO_SOCKET = (1 << 32) - 1

_HEADER = struct.Struct("<BII")  # State, descriptor of the peer, count of pending connections.
_STATE = struct.Struct("<QII")  # Value, flags and count of the parts of a pending connection.
_NUMBER = struct.Struct("<I")
_FIRST_PARTS = 3


def save_socket(socket: "NamedSocket", contents: ChannelState | None) -> ChannelState | None:
    """Return the state of a socket; ``contents`` are those of its queue."""
    state = CONNECTED * socket.is_connected | READ_SHUT * socket.is_read_shut
    state |= WRITE_SHUT * socket.is_write_shut | CONNECTING * socket.is_connecting
    state |= FAILED * socket.has_failed
    has_state = state or socket.remote is not None
    if not (has_state or socket.pending or socket.waiting or contents):
        return None
    value, flags, parts = contents or ChannelState(0, 0, ())
    numbers = socket.network.numbers
    peer = numbers.get(id(socket.peer), NO_SOCKET)
    pending = [each.save() for each in socket.pending]
    first = (
        _HEADER.pack(state, peer, len(pending)),
        pack_inner_address(socket.remote),
        b"".join(_NUMBER.pack(numbers[id(each)]) for each in socket.waiting),
    )
    packed = tuple(_pack_state(each or ChannelState(0, 0, ())) for each in pending)
    return ChannelState(value, flags, first + packed + parts)


def load_socket(socket: "NamedSocket", state: ChannelState) -> ChannelState:
    """Restore the state of a socket, and return the contents of its queue.

    The network connects the sockets when all are restored. Raises ``ValueError`` for a state that a
    socket cannot have.
    """
    parts = state.parts
    if len(parts) < _FIRST_PARTS or len(parts[0]) != _HEADER.size:
        raise ValueError("a socket has no header")
    bits, peer, count = _HEADER.unpack(parts[0])
    pending, contents = parts[_FIRST_PARTS:][:count], parts[_FIRST_PARTS + count :]
    if len(pending) != count or (count and socket.backlog is None):
        raise ValueError(f"a socket cannot have {count} connections that wait")
    socket.is_connected, socket.is_connecting = bool(bits & CONNECTED), bool(bits & CONNECTING)
    socket.is_read_shut, socket.is_write_shut = bool(bits & READ_SHUT), bool(bits & WRITE_SHUT)
    socket.has_failed = bool(bits & FAILED)
    socket.remote = unpack_inner_address(parts[1])
    if peer != NO_SOCKET:
        socket.network.peers.append((socket, peer))
    for (number,) in _NUMBER.iter_unpack(parts[2]):
        socket.network.requests.append((socket, number))
    for packed in pending:
        made = socket.make_accepted(socket.local, None, socket.protocol)
        made.load(_unpack_state(packed))
        socket.pending.append(made)
    return ChannelState(state.value, state.flags, contents)


def _pack_state(state: ChannelState) -> bytes:
    parts = [_NUMBER.pack(len(part)) + part for part in state.parts]
    return _STATE.pack(state.value, state.flags, len(parts)) + b"".join(parts)


def _unpack_state(packed: bytes) -> ChannelState:
    if len(packed) < _STATE.size:
        raise ValueError("a connection that waits is cut short")
    value, flags, count = _STATE.unpack_from(packed)
    parts, offset = [], _STATE.size
    for _ in range(count):
        start = offset + _NUMBER.size
        if start > len(packed):
            raise ValueError("a connection that waits is cut short")
        offset = start + _NUMBER.unpack_from(packed, offset)[0]
        parts.append(packed[start:offset])
    if offset != len(packed):
        raise ValueError("a connection that waits is cut short")
    return ChannelState(value, flags, tuple(parts))


def connect_restored(network: InnerNetwork, sockets: Mapping[int, object]) -> None:
    """Connect the restored sockets with their peers; ``sockets`` are those of the descriptors.

    Raises ``ValueError`` if a descriptor is no socket of the type.
    """
    for socket, number in network.peers:
        peer = _get_socket(sockets, number, socket)
        socket.connect_to(peer)
        if peer.has_connections and peer.peer is None:
            peer.connect_to(socket)  # A connection that waits has no descriptor to be stored with.
    for listener, number in network.requests:
        listener.waiting.append(_get_socket(sockets, number, listener))
    network.peers.clear()
    network.requests.clear()


def _get_socket(sockets: Mapping[int, object], number: int, other: S) -> S:
    found = sockets.get(number)
    if not isinstance(found, type(other)) or found.kind is not other.kind:
        raise ValueError(f"descriptor {number} is not a socket that another one can have as peer")
    return found

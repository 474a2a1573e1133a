"""Sockets that live inside the guest: all Unix sockets, and those of the internal loopback.

An internet socket starts as one of the host. The first bind, connection or datagram to a loopback
address that no other rule of the policy grants moves it inside, for good. The journal has the
place, so a replay asks no policy.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from journal.engine.wasi.network.socket_state import Connection, HostSocketState
from journal.engine.wasi.objects.inner_network import to_plain
from journal.engine.wasi.objects.inner_options import TIMES
from journal.engine.wasi.objects.named_socket import NamedSocket
from journal.events import codec
from journal.events.sockets import AddressFamily, SocketInside, SocketOpen, SocketType
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import Errno, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

_pack_open = codec.make_late_packer(SocketOpen)
_pack_inside = codec.make_late_packer(SocketInside)
_UNIX_KINDS = (SocketType.STREAM, SocketType.DGRAM, SocketType.SEQPACKET)


def open_unix(context: "CallContext", kind: int, protocol: int, fd: int) -> None:
    """Create a Unix socket with the free descriptor ``fd``."""
    check_unix(kind, protocol)
    effect = _pack_open(AddressFamily.UNIX, SocketType(kind), protocol, fd)
    context.tape.record_effect(SocketOpen.tag, effect)
    socket = NamedSocket(context.inner_network, AddressFamily.UNIX, SocketType(kind), protocol)
    context.descriptors.add_at(fd, socket)


def check_unix(kind: int, protocol: int) -> None:
    """Raise ``WasiError`` unless there are Unix sockets of this type and protocol."""
    if kind > max(SocketType):
        raise WasiError(Errno.INVAL)
    if kind not in _UNIX_KINDS:
        raise WasiError(Errno.NOTSUP)
    if protocol:
        raise WasiError(Errno.PROTONOSUPPORT)


def find_for_bind(
    context: "CallContext", fd: int, socket: HostSocketState, address: SocketAddress
) -> NamedSocket | None:
    """Return the socket inside that is bound in place of ``socket``; None for one of the host."""
    policy = context.network.policy
    return _move(context, fd, socket, address, lambda: policy.may_listen(address, socket.kind))


def find_for_peer(
    context: "CallContext", fd: int, socket: HostSocketState, address: SocketAddress
) -> NamedSocket | None:
    """Return the socket inside that reaches ``address`` in place of ``socket``, as above."""
    names = context.network.resolver.names.find(address.address)
    policy = context.network.policy
    return _move(
        context, fd, socket, address, lambda: policy.may_connect(address, socket.kind, names)
    )


def _move(
    context: "CallContext",
    fd: int,
    socket: HostSocketState,
    address: SocketAddress,
    is_granted: Callable[[], bool],
) -> NamedSocket | None:
    is_used = socket.local is not None or socket.connection is not Connection.NONE
    if is_used or socket.has_sent or socket.is_preopened:
        return None
    if context.tape.replaying:
        is_inside = context.tape.peek(SocketInside.tag) == _pack_inside(fd)
    else:
        ip = to_plain(address.address)
        is_inside = (
            context.network.policy.has_loopback
            and (ip.is_loopback or ip.is_unspecified)
            and not is_granted()
        )
    return move_inside(context, fd, socket) if is_inside else None


def move_inside(context: "CallContext", fd: int, socket: HostSocketState) -> NamedSocket:
    """Replace a new socket of the host by one inside the guest, for all descriptors."""
    context.tape.record_effect(SocketInside.tag, _pack_inside(fd))
    inside = NamedSocket(context.inner_network, socket.family, socket.kind, socket.protocol)
    inside.flags = socket.flags
    inside.options.update(socket.options)
    for option, kind in TIMES.items():
        if kind in socket.limits:
            inside.set_limit(option, socket.limits[kind])
    context.descriptors.replace(socket, inside)
    socket.close()
    return inside

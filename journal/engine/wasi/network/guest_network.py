"""Network of one guest: its sockets of the host, made, bound and listening.

A replay does not use the network, because the journal contains every result. When the guest
continues live, its sockets are created again, with their options, bound to their recorded addresses
and listening as before. A connection cannot be created again: it is lost.
"""

import errno
import os
import socket as host
import warnings
from collections.abc import Callable

from journal.engine.tape import HostReply, Tape
from journal.engine.wasi.descriptors import Descriptors
from journal.engine.wasi.filesystem.host_files import unwrap_result
from journal.engine.wasi.filesystem.host_paths import capture_result
from journal.engine.wasi.filesystem.reopening import with_more_descriptors
from journal.engine.wasi.network import lost_connection
from journal.engine.wasi.network.addresses import (
    HOST_FAMILIES,
    fits_family,
    format_address,
    from_host_address,
    make_any_address,
    pack_result,
    to_host_address,
    unpack_result,
)
from journal.engine.wasi.network.options import set_again
from journal.engine.wasi.network.policy import NO_NETWORK, NetworkPolicy
from journal.engine.wasi.network.resolver import Resolver
from journal.engine.wasi.network.socket import Socket
from journal.engine.wasi.network.socket_state import HostSocketState
from journal.events import codec
from journal.events.inputs import HostCall
from journal.events.sockets import (
    AddressFamily,
    SocketBind,
    SocketListen,
    SocketOpen,
    SocketType,
)
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import Errno, WasiError

#: Longest connection queue requested from the host.
BACKLOG_MAX = 4096
PROTOCOL_MAX = 0xFFFF

_TYPES = {SocketType.STREAM: host.SOCK_STREAM, SocketType.DGRAM: host.SOCK_DGRAM}
_PROTOCOLS = {
    SocketType.STREAM: (0, int(host.IPPROTO_TCP)),
    SocketType.DGRAM: (0, int(host.IPPROTO_UDP)),
}

_pack_open = codec.make_late_packer(SocketOpen)
_pack_bind = codec.make_late_packer(SocketBind)
_pack_listen = codec.make_late_packer(SocketListen)


class SocketLost(RuntimeWarning):
    """Warning: a socket of a resumed guest could not be created again.

    Each later call that needs the socket tries again, and returns the errno if that fails.
    """


class GuestNetwork:
    """Network of a guest. A call that the policy does not grant is refused with ``ACCES``.

    ``has_listeners`` says whether the listeners that the guest has from its start may listen again
    after a resume, whatever the policy says.
    """

    def __init__(
        self,
        tape: Tape,
        descriptors: Descriptors,
        *,
        policy: NetworkPolicy = NO_NETWORK,
        has_listeners: bool = False,
    ) -> None:
        self._tape = tape
        self._descriptors = descriptors
        self.policy = policy
        self._has_listeners = has_listeners
        self.resolver = Resolver(tape, policy)
        self._is_closed = False

    # -- calls of the guest -----------------------------------------------------------------------

    def open(self, family: int, kind: int, protocol: int) -> int:
        """Create a TCP or UDP socket and return its descriptor."""
        socket = _make_socket(family, kind, protocol)
        fd = self._descriptors.next_fd()
        payload = _pack_open(socket.family, socket.kind, protocol, fd)
        self.perform(SocketOpen.tag, payload, HostCall.SOCKET, fd, socket, lambda _: b"")
        added = self._descriptors.add(socket)
        assert added == fd
        return fd

    def bind(self, fd: int, socket: HostSocketState, address: SocketAddress) -> None:
        """Bind a socket. Port 0 selects a free port."""
        if socket.asked is not None or socket.local is not None:
            raise WasiError(Errno.INVAL)
        if not fits_family(address, socket.family):
            raise WasiError(Errno.AFNOSUPPORT)

        def operation(handle: host.socket) -> bytes:
            if not self.policy.may_listen(address, socket.kind):
                raise WasiError(Errno.ACCES)
            handle.bind(to_host_address(address))
            return _local_address(handle)

        def apply(value: bytes) -> None:
            (socket.local,) = unpack_result(value, socket.family, 1)
            socket.bound, socket.asked = socket.local, address

        payload = _pack_bind(fd, address)
        self.perform(SocketBind.tag, payload, HostCall.BIND, fd, socket, operation, apply)

    def listen(self, fd: int, socket: HostSocketState, backlog: int) -> None:
        """Listen for connections. An unbound socket is bound to a free port first."""
        if not socket.is_stream:
            raise WasiError(Errno.NOTSUP)
        if socket.has_connection:
            raise WasiError(Errno.INVAL)
        asked = socket.asked or make_any_address(socket.family)

        def operation(handle: host.socket) -> bytes:
            if socket.bound is None and not self.policy.may_listen(asked, socket.kind):
                raise WasiError(Errno.ACCES)
            handle.listen(min(backlog, BACKLOG_MAX))
            return _local_address(handle)

        def apply(value: bytes) -> None:
            (socket.local,) = unpack_result(value, socket.family, 1)
            socket.bound, socket.asked, socket.backlog = socket.local, asked, backlog

        payload = _pack_listen(fd, backlog)
        self.perform(SocketListen.tag, payload, HostCall.LISTEN, fd, socket, operation, apply)

    def perform(
        self,
        tag: int,
        effect: bytes,
        call: HostCall,
        fd: int,
        socket: HostSocketState,
        operation: Callable[[host.socket], bytes],
        apply: Callable[[bytes], None] = lambda value: None,
    ) -> None:
        """Perform an operation on the socket of the host, and ``apply`` its result to the state.

        A crash removes that socket, so repeating the operation is harmless.
        """
        is_done = False

        def perform(again: bool) -> HostReply:
            nonlocal is_done
            is_done = True
            return capture_result(lambda: operation(self.handle_of(socket)))

        value = unwrap_result(self._tape.perform(tag, effect, call, fd, perform))
        apply(value)
        if not is_done:
            # A socket of the host that exists was created from the state before this result.
            socket.close()
            self.restore_socket(fd, socket)

    def check_peer(self, address: SocketAddress, kind: SocketType) -> None:
        """Raise ``WasiError`` with ``ACCES`` unless the guest may connect or send to an address."""
        names = self.resolver.names.find(address.address)
        if not self.policy.may_connect(address, kind, names):
            raise WasiError(Errno.ACCES)

    # -- sockets of the host ----------------------------------------------------------------------

    def adopt(self, fd: int, handle: host.socket) -> None:
        """Use a socket of the host for the socket ``fd``, a listener of a guest that starts."""
        self._descriptors.get_channel(fd, HostSocketState).handle = handle

    def handle_of(self, socket: HostSocketState) -> host.socket:
        """Return the socket of the host, creating it after a replay."""
        if socket.handle is None:
            socket.handle = self._make_handle(socket)
            socket.announce()
        return socket.handle

    def restore_sockets(self) -> None:
        """Create the sockets of the host again after a replay."""
        restored: set[int] = set()
        for fd, descriptor in sorted(self._descriptors.used.items()):
            if isinstance(descriptor, HostSocketState) and id(descriptor) not in restored:
                restored.add(id(descriptor))
                self.restore_socket(fd, descriptor)

    def close(self) -> None:
        """Close the sockets of the host, and create no more."""
        self._is_closed = True
        self.resolver.close()
        self.close_sockets()

    def close_sockets(self) -> None:
        """Close the sockets of the host that the guest has now."""
        for descriptor in self._descriptors.used.values():
            if isinstance(descriptor, HostSocketState):
                descriptor.close()

    def restore_socket(self, fd: int, socket: HostSocketState) -> None:
        """Create the socket of the host in its recorded state, if the guest is live.

        If that fails, a :class:`SocketLost` warning is issued. Each call that needs the
        socket tries again and returns the errno.
        """
        if self._tape.replaying or self._is_closed:
            return
        try:
            self.handle_of(socket)
        except (OSError, WasiError) as error:
            location = f" at {format_address(socket.local)}" if socket.local is not None else ""
            reason = "it may have no network now"
            if isinstance(error, OSError):
                reason = error.strerror or str(error)
            warnings.warn(
                f"the guest's socket {fd}{location} could not be created again: {reason}",
                SocketLost,
                stacklevel=2,
            )

    def _make_handle(self, socket: HostSocketState) -> host.socket:
        """Return a new socket of the host in the recorded state."""
        if socket.is_connected:
            socket.is_lost = True
            return lost_connection.make_handle()
        self._check_again(socket)
        values = HOST_FAMILIES[socket.family], _TYPES[socket.kind], socket.protocol
        handle = with_more_descriptors(lambda: host.socket(*values))
        try:
            handle.setblocking(False)
            if socket.is_stream:
                # Without this option the port of a killed session stays in use for minutes.
                handle.setsockopt(host.SOL_SOCKET, host.SO_REUSEADDR, 1)
            set_again(handle, socket)
            if socket.bound is not None:
                handle.bind(to_host_address(socket.bound))
            if socket.backlog is not None:
                handle.listen(min(socket.backlog, BACKLOG_MAX))
            if socket.peer is not None:
                self._connect_again(handle, socket, socket.peer)
        except BaseException:
            handle.close()
            raise
        return handle

    def _connect_again(
        self, handle: host.socket, socket: HostSocketState, peer: SocketAddress
    ) -> None:
        """Connect a datagram socket, or a stream whose connection was pending.

        Nothing was sent over a pending connection, so it can be requested again.
        """
        self.check_peer(peer, socket.kind)
        code = handle.connect_ex(to_host_address(peer))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))

    def _check_again(self, socket: HostSocketState) -> None:
        """Raise ``WasiError`` with ``ACCES`` unless the guest may have a socket, in its state."""
        if socket.is_preopened and self._has_listeners:
            return
        if self.policy.is_empty:
            raise WasiError(Errno.ACCES)
        if (
            socket.bound is not None
            and socket.asked is not None
            and not self.policy.may_listen_again(socket.asked, socket.bound, socket.kind)
        ):
            raise WasiError(Errno.ACCES)


def _make_socket(family: int, kind: int, protocol: int) -> Socket:
    if protocol > PROTOCOL_MAX or family > max(AddressFamily) or kind > max(SocketType):
        raise WasiError(Errno.INVAL)
    if family not in HOST_FAMILIES:
        raise WasiError(Errno.AFNOSUPPORT)
    if kind not in _TYPES:
        raise WasiError(Errno.NOTSUP)
    socket = Socket(AddressFamily(family), SocketType(kind), protocol)
    if protocol not in _PROTOCOLS[socket.kind]:
        raise WasiError(Errno.PROTONOSUPPORT)
    return socket


def _local_address(handle: host.socket) -> bytes:
    """Return the address of a socket of the host, as the value of a host result."""
    return pack_result(from_host_address(handle.getsockname()))

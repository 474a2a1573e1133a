"""Sockets of one process, backed by sockets of the host.

A replay does not use the network, because the journal contains every result. When the guest
continues live, its sockets are created again, bound to their recorded addresses and listening as
before.
"""

import socket as host
import warnings
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

from journal.engine.tape import HostReply, Tape
from journal.engine.wasi.descriptors import Descriptors, Socket
from journal.engine.wasi.filesystem.host_files import unwrap_result
from journal.engine.wasi.filesystem.host_paths import capture_result
from journal.engine.wasi.network.policy import NO_NETWORK, NetworkPolicy
from journal.engine.wasi.network.resolver import Resolver
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
FLOW_MAX = (1 << 20) - 1

_FAMILIES = {AddressFamily.INET4: host.AF_INET, AddressFamily.INET6: host.AF_INET6}
_TYPES = {SocketType.STREAM: host.SOCK_STREAM, SocketType.DGRAM: host.SOCK_DGRAM}
_PROTOCOLS = {
    SocketType.STREAM: (0, int(host.IPPROTO_TCP)),
    SocketType.DGRAM: (0, int(host.IPPROTO_UDP)),
}

_pack_open = codec.make_packer(SocketOpen)
_pack_bind = codec.make_packer(SocketBind)
_unpack_bind = codec.make_unpacker(SocketBind)
_pack_listen = codec.make_packer(SocketListen)
_FD_SIZE = 4  # Size of the descriptor at the start of a SocketBind payload.


class SocketLost(RuntimeWarning):
    """Warning: a socket of a resumed guest could not be created again.

    Each later call that needs the socket tries again, and returns the errno if that fails.
    """


class GuestNetwork:
    """Network of a guest. A call that the policy does not grant is refused with ``ACCES``."""

    def __init__(
        self, tape: Tape, descriptors: Descriptors, *, policy: NetworkPolicy = NO_NETWORK
    ) -> None:
        self._tape = tape
        self._descriptors = descriptors
        self._policy = policy
        self.resolver = Resolver(tape, policy)
        self._is_closed = False

    # -- calls of the guest -----------------------------------------------------------------------

    def open(self, family: int, kind: int, protocol: int) -> int:
        """Create a TCP or UDP socket and return its descriptor."""
        socket = _make_socket(family, kind, protocol)
        fd = self._descriptors.next_fd()
        payload = _pack_open(socket.family, socket.kind, protocol, fd)
        self._perform(SocketOpen.tag, payload, HostCall.SOCKET, fd, socket, lambda _: b"")
        added = self._descriptors.add(socket)
        assert added == fd
        self._restore_socket(fd, socket)
        return fd

    def bind(self, fd: int, address: SocketAddress) -> SocketAddress:
        """Bind a socket and return its address. Port 0 selects a free port."""
        socket = self._descriptors.get_socket(fd)
        if socket.local is not None:
            raise WasiError(Errno.INVAL)
        if address.address.version != _ip_version(socket):
            raise WasiError(Errno.AFNOSUPPORT)
        if address.flow > FLOW_MAX:
            raise WasiError(Errno.INVAL)

        def operation(handle: host.socket) -> bytes:
            if not self._policy.may_listen(address, socket.kind):
                raise WasiError(Errno.ACCES)
            handle.bind(_host_address(socket, address))
            return _local_address(handle)

        payload = _pack_bind(fd, address)
        value = self._perform(SocketBind.tag, payload, HostCall.BIND, fd, socket, operation)
        socket.local, socket.asked = _decode_address(socket, value), address
        self._restore_socket(fd, socket)
        return socket.local

    def listen(self, fd: int, backlog: int) -> None:
        """Listen for connections. An unbound socket is bound to a free port first."""
        socket = self._descriptors.get_socket(fd)
        if socket.kind is not SocketType.STREAM:
            raise WasiError(Errno.NOTSUP)
        asked = socket.asked or _any_address(socket)

        def operation(handle: host.socket) -> bytes:
            if socket.local is None and not self._policy.may_listen(asked, socket.kind):
                raise WasiError(Errno.ACCES)
            handle.listen(min(backlog, BACKLOG_MAX))
            return _local_address(handle)

        payload = _pack_listen(fd, backlog)
        value = self._perform(SocketListen.tag, payload, HostCall.LISTEN, fd, socket, operation)
        socket.local, socket.backlog = _decode_address(socket, value), backlog
        socket.asked = asked
        self._restore_socket(fd, socket)

    # -- sockets of the host ----------------------------------------------------------------------

    def restore_sockets(self) -> None:
        """Create the sockets of the host again after a replay."""
        for fd, descriptor in sorted(self._descriptors.used.items()):
            if isinstance(descriptor, Socket):
                self._restore_socket(fd, descriptor)

    def close(self) -> None:
        """Close the sockets of the host, and create no more."""
        self._is_closed = True
        self.resolver.close()
        self.close_sockets()

    def close_sockets(self) -> None:
        """Close the sockets of the host that the guest has now."""
        for descriptor in self._descriptors.used.values():
            if isinstance(descriptor, Socket):
                descriptor.close()

    def _perform(
        self,
        tag: int,
        effect: bytes,
        call: HostCall,
        fd: int,
        socket: Socket,
        operation: Callable[[host.socket], bytes],
    ) -> bytes:
        """Perform an operation on the socket of the host.

        A crash removes that socket, so repeating the operation is harmless.
        """

        is_done = False

        def perform(again: bool) -> HostReply:
            nonlocal is_done
            is_done = True
            return capture_result(lambda: operation(self._host_socket(socket)))

        value = unwrap_result(self._tape.perform(tag, effect, call, fd, perform))
        if not is_done:
            # The host result came from the journal. A socket of the host that already exists
            # was created from the state before this result, so it has to be created again.
            socket.close()
        return value

    def _restore_socket(self, fd: int, socket: Socket) -> None:
        """Create the socket of the host in its recorded state, if the guest is live.

        If that fails, a :class:`SocketLost` warning is issued. Each call that needs the
        socket tries again and returns the errno.
        """
        if self._tape.replaying or self._is_closed:
            return
        try:
            self._host_socket(socket)
        except (OSError, WasiError) as error:
            location = f" at {_format_address(socket.local)}" if socket.local is not None else ""
            reason = "it may have no network now"
            if isinstance(error, OSError):
                reason = error.strerror or str(error)
            warnings.warn(
                f"the guest's socket {fd}{location} could not be created again: {reason}",
                SocketLost,
                stacklevel=2,
            )

    def _host_socket(self, socket: Socket) -> host.socket:
        """Return the socket of the host, creating it after a replay."""
        if self._policy.is_empty:
            raise WasiError(Errno.ACCES)
        if socket.handle is None:
            if not self._may_bind_again(socket):
                raise WasiError(Errno.ACCES)
            handle = host.socket(_FAMILIES[socket.family], _TYPES[socket.kind], socket.protocol)
            try:
                if socket.kind is SocketType.STREAM:
                    # Without this option the port of a killed session stays in use for minutes.
                    handle.setsockopt(host.SOL_SOCKET, host.SO_REUSEADDR, 1)
                if socket.local is not None:
                    handle.bind(_host_address(socket, socket.local))
                if socket.backlog is not None:
                    handle.listen(min(socket.backlog, BACKLOG_MAX))
            except BaseException:
                handle.close()
                raise
            socket.handle = handle
        return socket.handle

    def _may_bind_again(self, socket: Socket) -> bool:
        """Return whether a socket may get the local address that it had in a former session."""
        if socket.local is None or socket.asked is None:
            return True
        return self._policy.may_listen_again(socket.asked, socket.local, socket.kind)


def _make_socket(family: int, kind: int, protocol: int) -> Socket:
    if protocol > PROTOCOL_MAX or family > max(AddressFamily) or kind > max(SocketType):
        raise WasiError(Errno.INVAL)
    if family not in _FAMILIES:
        raise WasiError(Errno.AFNOSUPPORT)
    if kind not in _TYPES:
        raise WasiError(Errno.NOTSUP)
    socket = Socket(AddressFamily(family), SocketType(kind), protocol)
    if protocol not in _PROTOCOLS[socket.kind]:
        raise WasiError(Errno.PROTONOSUPPORT)
    return socket


def _decode_address(socket: Socket, value: bytes) -> SocketAddress:
    """Return the address in a host result."""
    _, address = _unpack_bind(bytes(_FD_SIZE) + value)
    assert isinstance(address, SocketAddress)
    if address.address.version != _ip_version(socket) or address.flow > FLOW_MAX:
        raise ValueError(
            f"recorded address {_format_address(address)} does not fit the family of the socket"
        )
    return address


def _local_address(handle: host.socket) -> bytes:
    """Return the address of a socket of the host, as the value of a host result."""
    name, port, *rest = handle.getsockname()
    name = name.partition("%")[0]  # ``getsockname`` repeats the scope after the address.
    return _pack_bind(0, SocketAddress(ip_address(name), port, *rest))[_FD_SIZE:]


def _host_address(socket: Socket, address: SocketAddress) -> tuple[object, ...]:
    if socket.family is AddressFamily.INET4:
        return str(address.address), address.port
    return str(address.address), address.port, address.flow, address.scope


def _any_address(socket: Socket) -> SocketAddress:
    any_address = IPv4Address(0) if socket.family is AddressFamily.INET4 else IPv6Address(0)
    return SocketAddress(any_address, 0)


def _ip_version(socket: Socket) -> int:
    return 4 if socket.family is AddressFamily.INET4 else 6


def _format_address(address: SocketAddress) -> str:
    name = str(address.address)
    return f"[{name}]:{address.port}" if ":" in name else f"{name}:{address.port}"

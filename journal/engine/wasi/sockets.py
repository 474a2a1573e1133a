"""The sockets of one process: what the guest made, and the sockets of the host behind them.

A replay touches no network: every answer is in the journal. Where the guest goes on live, the
sockets that it has are made again, bound to the addresses that it was told and listening as before.
"""

import socket as host
import warnings
from collections.abc import Callable
from ipaddress import ip_address

from journal.engine.tape import HostReply, Tape
from journal.engine.wasi.descriptors import Descriptors, Socket
from journal.engine.wasi.filesystem.host_files import unwrap_result
from journal.engine.wasi.filesystem.host_paths import capture_result
from journal.engine.wasi_abi import Errno, WasiError
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

#: The longest queue of connections that the host is asked for.
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
_FD_SIZE = 4  # of a descriptor, with which SocketBind begins


class SocketLost(RuntimeWarning):
    """A socket of a guest that goes on could not be made again.

    Its next call that needs it is answered with the errno, unless it can be had by then.
    """


class GuestNetwork:
    """The network as a guest sees it. Without ``allowed`` it is refused every socket."""

    def __init__(self, tape: Tape, descriptors: Descriptors, *, allowed: bool = False) -> None:
        self._tape = tape
        self._descriptors = descriptors
        self._allowed = allowed
        self._is_closed = False

    # -- what a guest does ------------------------------------------------------------------------

    def open(self, family: int, kind: int, protocol: int) -> int:
        """Make a socket; its number. Refuses what is neither TCP nor UDP."""
        socket = _make_socket(family, kind, protocol)
        fd = self._descriptors.next_fd()
        payload = _pack_open(socket.family, socket.kind, protocol, fd)
        self._act(SocketOpen.tag, payload, HostCall.SOCKET, fd, socket, lambda _: b"")
        assert self._descriptors.add(socket) == fd
        self._restore(fd, socket)
        return fd

    def bind(self, fd: int, address: SocketAddress) -> SocketAddress:
        """Bind a socket, to a free port where the port is 0; the address that it has then."""
        socket = self._descriptors.get_socket(fd)
        if socket.local is not None:
            raise WasiError(Errno.INVAL)
        if address.address.version != _version(socket):
            raise WasiError(Errno.AFNOSUPPORT)
        if address.flow > FLOW_MAX:
            raise WasiError(Errno.INVAL)

        def deed(handle: host.socket) -> bytes:
            handle.bind(_host_address(socket, address))
            return _local_address(handle)

        payload = _pack_bind(fd, address)
        value = self._act(SocketBind.tag, payload, HostCall.BIND, fd, socket, deed)
        socket.local = _decode_address(socket, value)
        self._restore(fd, socket)
        return socket.local

    def listen(self, fd: int, backlog: int) -> None:
        """Let a socket take connections; one that is not bound gets an address by that."""
        socket = self._descriptors.get_socket(fd)
        if socket.kind is not SocketType.STREAM:
            raise WasiError(Errno.NOTSUP)

        def deed(handle: host.socket) -> bytes:
            handle.listen(min(backlog, BACKLOG_MAX))
            return _local_address(handle)

        payload = _pack_listen(fd, backlog)
        value = self._act(SocketListen.tag, payload, HostCall.LISTEN, fd, socket, deed)
        socket.local, socket.backlog = _decode_address(socket, value), backlog
        self._restore(fd, socket)

    # -- the host's sockets -----------------------------------------------------------------------

    def restore_sockets(self) -> None:
        """The guest goes on live: make its sockets again."""
        for fd, descriptor in sorted(self._descriptors.used.items()):
            if isinstance(descriptor, Socket):
                self._restore(fd, descriptor)

    def close(self) -> None:
        """The run is over: close the host's sockets, and make no more."""
        self._is_closed = True
        for descriptor in self._descriptors.used.values():
            if isinstance(descriptor, Socket):
                descriptor.close()

    def _act(
        self,
        tag: int,
        effect: bytes,
        call: HostCall,
        fd: int,
        socket: Socket,
        deed: Callable[[host.socket], bytes],
    ) -> bytes:
        """Do something to the host's socket; a crash takes it away, so twice is no harm."""

        is_done = False

        def perform(again: bool) -> HostReply:
            nonlocal is_done
            is_done = True
            return capture_result(lambda: deed(self._handle(socket)))

        value = unwrap_result(self._tape.perform(tag, effect, call, fd, perform))
        if not is_done:
            socket.close()  # it was made again from what was told before this answer, if at all
        return value

    def _restore(self, fd: int, socket: Socket) -> None:
        """Where the guest is live, let the host's socket be what the guest was told that it is.

        What cannot be had now is tried again at each call that needs it, which answers the errno.
        """
        if self._tape.replaying or self._is_closed:
            return
        try:
            self._handle(socket)
        except (OSError, WasiError) as error:
            where = f" at {_format_address(socket.local)}" if socket.local is not None else ""
            reason = "it may have no network now"
            if isinstance(error, OSError):
                reason = error.strerror or str(error)
            warnings.warn(
                f"the guest's socket {fd}{where} could not be made again: {reason}",
                SocketLost,
                stacklevel=2,
            )

    def _handle(self, socket: Socket) -> host.socket:
        """The host's socket, made again where a replay has left none."""
        if not self._allowed:
            raise WasiError(Errno.ACCES)
        if socket.handle is None:
            handle = host.socket(_FAMILIES[socket.family], _TYPES[socket.kind], socket.protocol)
            try:
                if socket.kind is SocketType.STREAM:
                    # The port of a session that was killed is not free for minutes without.
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
    """The address in an answer of the host."""
    _, address = _unpack_bind(bytes(_FD_SIZE) + value)
    assert isinstance(address, SocketAddress)
    if address.address.version != _version(socket) or address.flow > FLOW_MAX:
        raise ValueError(f"no socket like this one is at {_format_address(address)}")
    return address


def _local_address(handle: host.socket) -> bytes:
    """What a socket of the host is bound to, as the value of an answer."""
    name, port, *rest = handle.getsockname()
    name = name.partition("%")[0]  # the scope stands behind it a second time
    return _pack_bind(0, SocketAddress(ip_address(name), port, *rest))[_FD_SIZE:]


def _host_address(socket: Socket, address: SocketAddress) -> tuple[object, ...]:
    if socket.family is AddressFamily.INET4:
        return str(address.address), address.port
    return str(address.address), address.port, address.flow, address.scope


def _version(socket: Socket) -> int:
    return 4 if socket.family is AddressFamily.INET4 else 6


def _format_address(address: SocketAddress) -> str:
    name = str(address.address)
    return f"[{name}]:{address.port}" if ":" in name else f"{name}:{address.port}"

"""Calls that every socket has, whether it is one of the host or lives inside the guest.

The functions of the guest find the object of a descriptor and call it. A socket that can be either
starts as one of the host. The first bind, connection or datagram to an address of the internal
loopback replaces it, for all its descriptors, by a socket inside the guest.
"""

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from journal.engine.wasi.channel import ByteChannel
from journal.events.paths import FileType
from journal.events.sockets import AddressFamily, Shutdown, SocketOption, SocketType
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import Errno, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext


AnyAddress = SocketAddress | bytes
"""Address of an internet socket, or name of a Unix socket.

A name is a path, an abstract name that starts with a zero byte, or empty.
"""


class Received(NamedTuple):
    """Result of a receive. ``flags`` are WASI's roflags. ``sender`` is None if it is unknown."""

    data: bytes
    flags: int
    sender: AnyAddress | None


class SocketChannel(ByteChannel):
    """A socket in the state that the guest knows.

    A method records its effects, and takes its inputs from the tape of ``context``. ``fd`` is the
    descriptor of the call, and ``function`` its name, for a call that has to wait. Pointers of the
    guest were checked before. All methods raise ``WasiError`` to refuse a call.
    """

    family: AddressFamily
    kind: SocketType
    protocol: int

    _FILETYPES: ClassVar[dict[SocketType, FileType]] = {
        SocketType.STREAM: FileType.SOCKET_STREAM,
        SocketType.SEQPACKET: FileType.SOCKET_STREAM,
    }

    @property
    def filetype(self) -> FileType:  # type: ignore[override]  # A socket has one of two types.
        """Return the WASI file type."""
        return self._FILETYPES.get(self.kind, FileType.SOCKET_DGRAM)

    def bind(self, context: "CallContext", fd: int, address: AnyAddress) -> None:
        """Give the socket a local address. Port 0 selects a free port."""
        raise WasiError(Errno.NOTSUP)

    def listen(self, context: "CallContext", fd: int, backlog: int) -> None:
        """Wait for connections from now on."""
        raise WasiError(Errno.NOTSUP)

    def accept(
        self, context: "CallContext", fd: int, function: str, flags: int
    ) -> "tuple[int, SocketChannel]":
        """Wait for a connection unless NONBLOCK is set; return its new descriptor and socket.

        ``flags`` are WASI's fdflags of the new socket.
        """
        raise WasiError(Errno.NOTSUP)

    def connect(self, context: "CallContext", fd: int, function: str, address: AnyAddress) -> None:
        """Connect to a peer. Without waiting the call fails with ``INPROGRESS``."""
        raise WasiError(Errno.NOTSUP)

    def send(self, context: "CallContext", fd: int, function: str, data: bytes, flags: int) -> int:
        """Send bytes to the peer and return how many were accepted. ``flags`` are siflags."""
        raise WasiError(Errno.NOTSUP)

    def send_to(
        self,
        context: "CallContext",
        fd: int,
        function: str,
        data: bytes,
        flags: int,
        address: AnyAddress,
    ) -> int:
        """Send a datagram to ``address`` and return its size. ``flags`` are siflags."""
        raise WasiError(Errno.NOTSUP)

    def receive(
        self, context: "CallContext", fd: int, function: str, size_max: int, flags: int
    ) -> Received:
        """Wait for bytes and return them, unless NONBLOCK is set. ``flags`` are riflags.

        The result has the sender if the socket knows it.
        """
        raise WasiError(Errno.NOTSUP)

    def shutdown(self, context: "CallContext", fd: int, how: Shutdown) -> None:
        """End one or both directions of the connection."""
        raise WasiError(Errno.NOTSUP)

    def status(self, context: "CallContext", fd: int) -> int:
        """Return the state of the connection: 0 opening, 1 opened, 2 closed, 3 failed."""
        raise WasiError(Errno.NOTSUP)

    def local_address(self, context: "CallContext", fd: int) -> AnyAddress:
        """Return the local address; unspecified, or an empty name, if the socket is not bound."""
        raise WasiError(Errno.NOTSUP)

    def peer_address(self, context: "CallContext", fd: int) -> AnyAddress:
        """Return the address of the peer; raise ``WasiError`` with ``NOTCONN`` without one."""
        raise WasiError(Errno.NOTSUP)

    def get_option(self, context: "CallContext", fd: int, option: SocketOption) -> int | None:
        """Return a flag, a size, or a time in nanoseconds, None without a limit of time."""
        raise WasiError(Errno.NOTSUP)

    def set_option(
        self, context: "CallContext", fd: int, option: SocketOption, value: int | None
    ) -> None:
        """Set a flag, a size, or a time in nanoseconds, None without a limit of time."""
        raise WasiError(Errno.NOTSUP)

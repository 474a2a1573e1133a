"""State of a socket that is backed by a socket of the host."""

import socket as host
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from journal.engine.wasi.channel import Readiness, from_poll_mask, to_poll_mask
from journal.engine.wasi.network.waiting import find_events
from journal.engine.wasi.socket_calls import SocketChannel
from journal.events.sockets import AddressFamily, SocketOption, SocketType, TimeType
from journal.events.wire_types import SocketAddress
from journal.wasi_abi import FdFlags

_NONBLOCK = int(FdFlags.NONBLOCK)
_ALL = Readiness.READABLE | Readiness.WRITABLE | Readiness.READ_HANGUP
_UNUSABLE = _ALL | Readiness.ERROR | Readiness.HANGUP

Group = tuple[IPv4Address | IPv6Address, IPv4Address | int]
"""A multicast group, and the interface on which a socket joined it: its address, or its number."""


class Connection(Enum):
    """State of a connection, as far as the guest has learned it.

    ``ESTABLISHED`` also means that a datagram socket has a default peer. After ``FAILED`` the guest
    may request another connection.
    """

    NONE = 0
    PENDING = 1
    ESTABLISHED = 2
    FAILED = 3


@dataclass(slots=True, eq=False)
class HostSocketState(SocketChannel):
    """State of a socket that the guest knows, and the socket of the host.

    ``local`` is the address of the socket. ``bound`` is the one that it got from a bind, and
    ``asked`` the one that the guest passed then, whose port may be 0. ``peer`` is the address that
    the guest requested or accepted. ``backlog`` is the queue length of a listening socket.
    ``options`` has the values that the guest has set, ``limits`` its time limits in nanoseconds.
    ``ended`` has the directions that the guest shut down: 1 for reading, 2 for writing.
    ``has_sent`` says whether a datagram was sent, so that the host has chosen a port.
    ``is_preopened`` marks a listener that the guest has from its start.

    ``handle`` is the socket of the host, which never blocks, or None during a replay. ``is_lost``
    says whether it stands for a connection that a resume could not continue.
    """

    family: AddressFamily
    kind: SocketType
    protocol: int
    local: SocketAddress | None = None
    bound: SocketAddress | None = None
    asked: SocketAddress | None = None
    peer: SocketAddress | None = None
    backlog: int | None = None
    flags: int = 0
    connection: Connection = Connection.NONE
    options: dict[SocketOption, int] = field(default_factory=dict)
    limits: dict[TimeType, int] = field(default_factory=dict)
    groups: dict[Group, None] = field(default_factory=dict)
    ended: int = 0
    has_sent: bool = False
    is_preopened: bool = False
    handle: host.socket | None = None
    is_lost: bool = False

    @property
    def is_stream(self) -> bool:
        """Return whether the socket is a TCP socket."""
        return self.kind is SocketType.STREAM

    @property
    def is_blocking(self) -> bool:
        """Return whether a call waits."""
        return not self.flags & _NONBLOCK

    @property
    def is_connected(self) -> bool:
        """Return whether the socket is TCP and connected: the end of a session ends that."""
        return self.is_stream and self.connection is Connection.ESTABLISHED

    @property
    def has_connection(self) -> bool:
        """Return whether the socket is TCP, and has a connection or has requested one."""
        active = (Connection.PENDING, Connection.ESTABLISHED)
        return self.is_stream and self.connection in active

    def readiness(self) -> Readiness:
        """Return what the guest could do now without waiting.

        A socket that could not be created again is ready: each call of it returns an error.
        """
        if self.handle is None:
            return _UNUSABLE
        return from_poll_mask(find_events(self.handle, to_poll_mask(_ALL)))

    def poll_events(self, wanted: Readiness) -> list[tuple[int, int]]:
        """Return the descriptor of the host's socket, and the events to watch."""
        return [] if self.handle is None else [(self.handle.fileno(), to_poll_mask(wanted))]

    def close(self) -> None:
        """Close the socket of the host, if there is one."""
        if self.handle is not None:
            self.handle.close()
            self.handle = None
            self.announce()
        self.is_lost = False

"""Events of sockets. Received data is an input and has no event here."""

from enum import IntEnum
from typing import Annotated

import construct as cs

from journal.events.definition import Event, Group, Needed, Opens, Role, event
from journal.events.wire_types import (
    U16,
    U32,
    U64,
    Address,
    Enumerated,
    Fd,
    Flag,
    Ipv4,
    Ipv6,
    MaybeDuration,
    OutputBytes,
    PublicBytes,
)


class AddressFamily(IntEnum):
    """Kind of the addresses of a socket."""

    UNSPECIFIED = 0
    INET4 = 1
    INET6 = 2
    UNIX = 3


class SocketType(IntEnum):
    """Transfer type of a socket."""

    UNKNOWN = 0
    STREAM = 1
    DGRAM = 2
    RAW = 3
    SEQPACKET = 4


class SocketOption(IntEnum):
    """Socket options of WASIX, with their WASIX numbers."""

    NOOP = 0
    REUSE_PORT = 1
    REUSE_ADDR = 2
    NO_DELAY = 3
    DONT_ROUTE = 4
    ONLY_V6 = 5
    BROADCAST = 6
    MULTICAST_LOOP_V4 = 7
    MULTICAST_LOOP_V6 = 8
    PROMISCUOUS = 9
    LISTENING = 10
    LAST_ERROR = 11
    KEEP_ALIVE = 12
    LINGER = 13
    OOB_INLINE = 14
    RECV_BUF_SIZE = 15
    SEND_BUF_SIZE = 16
    RECV_LOWAT = 17
    SEND_LOWAT = 18
    RECV_TIMEOUT = 19
    SEND_TIMEOUT = 20
    CONNECT_TIMEOUT = 21
    ACCEPT_TIMEOUT = 22
    TTL = 23
    MULTICAST_TTL_V4 = 24
    TYPE = 25
    PROTO = 26


class TimeType(IntEnum):
    """Time limit of a socket."""

    READ = 0
    WRITE = 1
    ACCEPT = 2
    CONNECT = 3
    BIND = 4
    LINGER = 5


class Shutdown(IntEnum):
    """Directions of a connection to end."""

    READ = 0
    WRITE = 1
    BOTH = 2


AddressFamilyField = Annotated[AddressFamily, Enumerated(cs.Int8ul, AddressFamily)]
SocketTypeField = Annotated[SocketType, Enumerated(cs.Int8ul, SocketType)]
SocketOptionField = Annotated[SocketOption, Enumerated(cs.Int8ul, SocketOption)]
TimeTypeField = Annotated[TimeType, Enumerated(cs.Int8ul, TimeType)]
ShutdownField = Annotated[Shutdown, Enumerated(cs.Int8ul, Shutdown)]


@event(tag=43, group=Group.SOCKETS, role=Role.EFFECT, rule=Opens())
class SocketOpen(Event):
    """The guest created a socket with sock_open. ``pt`` is the protocol number."""

    af: AddressFamilyField
    ty: SocketTypeField
    pt: U16
    fd: Fd


@event(tag=64, group=Group.SOCKETS, role=Role.EFFECT, rule=Opens(("fd1", "fd2")))
class SocketPair(Event):
    """The guest created two connected sockets with sock_pair."""

    fd1: Fd
    fd2: Fd


@event(tag=204, group=Group.SOCKETS, role=Role.EFFECT, rule=Opens(("fd1", "fd2")))
class SocketPairOfType(Event):
    """SocketPair of another family, type or protocol than a Unix stream."""

    fd1: Fd
    fd2: Fd
    af: AddressFamilyField
    ty: SocketTypeField
    pt: U16


@event(tag=208, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketInside(Event):
    """A socket lives inside the guest from here on, at a loopback address that no host has.

    No result of the host follows its events. A Unix socket is always inside the guest.
    """

    fd: Fd


@event(tag=206, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class UnixSocketBind(Event):
    """The guest bound a Unix socket to a name with sock_bind.

    ``name`` is a path, or an abstract name, which starts with a zero byte.
    """

    fd: Fd
    name: PublicBytes


@event(tag=207, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class UnixSocketConnect(Event):
    """The guest connected a Unix socket to the name of another one with sock_connect."""

    fd: Fd
    name: PublicBytes


@event(tag=44, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketListen(Event):
    """The guest started to listen on a socket with sock_listen."""

    fd: Fd
    backlog: U32


@event(tag=45, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketBind(Event):
    """The guest bound a socket to a local address with sock_bind."""

    fd: Fd
    addr: Address


@event(tag=190, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketConnect(Event):
    """The guest requested a connection to a peer with sock_connect."""

    fd: Fd
    addr: Address


@event(tag=46, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketConnected(Event):
    """A connection that the guest requested with sock_connect is established."""

    fd: Fd
    local_addr: Address
    peer_addr: Address


@event(tag=47, group=Group.SOCKETS, role=Role.EFFECT, rule=Opens())
class SocketAccepted(Event):
    """The guest accepted a connection on ``listen_fd`` with sock_accept. ``fd_flags``: fdflags."""

    listen_fd: Fd
    fd: Fd
    fd_flags: U16
    non_blocking: Flag
    local_addr: Address
    peer_addr: Address


@event(tag=48, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketJoinIpv4Multicast(Event):
    """A socket joined a multicast group on the interface with address ``iface``."""

    fd: Fd
    multiaddr: Ipv4
    iface: Ipv4


@event(tag=49, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketJoinIpv6Multicast(Event):
    """A socket joined a multicast group on the interface with number ``iface``."""

    fd: Fd
    multiaddr: Ipv6
    iface: U32


@event(tag=50, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketLeaveIpv4Multicast(Event):
    """A socket left a multicast group on the interface with address ``iface``."""

    fd: Fd
    multiaddr: Ipv4
    iface: Ipv4


@event(tag=51, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketLeaveIpv6Multicast(Event):
    """A socket left a multicast group on the interface with number ``iface``."""

    fd: Fd
    multiaddr: Ipv6
    iface: U32


@event(tag=52, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketSendFile(Event):
    """The guest sent ``count`` bytes of a file from ``offset`` with sock_send_file."""

    socket_fd: Fd
    file_fd: Fd
    offset: U64
    count: U64


@event(tag=53, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketSendTo(Event):
    """The guest sent bytes to an address with sock_send_to. ``flags``: WASI's siflags."""

    fd: Fd
    flags: U16
    is_64bit: Flag = False
    addr: Address
    data: OutputBytes


@event(tag=54, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketSend(Event):
    """The guest sent bytes over a connection with sock_send. ``flags``: WASI's siflags."""

    fd: Fd
    flags: U16
    is_64bit: Flag = False
    data: OutputBytes


@event(tag=55, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketSetOptFlag(Event):
    """The guest set a boolean option of a socket with sock_set_opt_flag."""

    fd: Fd
    opt: SocketOptionField
    flag: Flag


@event(tag=56, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketSetOptSize(Event):
    """The guest set an option of a socket to a size with sock_set_opt_size."""

    fd: Fd
    opt: SocketOptionField
    size: U64


@event(tag=57, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketSetOptTime(Event):
    """The guest set a time limit of a socket with sock_set_opt_time.

    ``time`` is in nanoseconds, None for no limit.
    """

    fd: Fd
    ty: TimeTypeField
    time: MaybeDuration


@event(tag=58, group=Group.SOCKETS, role=Role.EFFECT, rule=Needed())
class SocketShutdown(Event):
    """The guest ended one or both directions of a connection with sock_shutdown."""

    fd: Fd
    how: ShutdownField

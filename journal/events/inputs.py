"""Events of inputs that the guest received from outside, in the order of receipt."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

import construct as cs

from journal.events.definition import Consumed, Event, Group, Needed, Role, event
from journal.events.wire_types import (
    U8,
    U16,
    U32,
    U64,
    Enumerated,
    Fd,
    FileBytes,
    Flag,
    HostName,
    InputBytes,
    Ips,
    ListOf,
    MaybeAddress,
    PublicBytes,
    RecordOf,
)


class HostCall(IntEnum):
    """Kind of a request of the guest to its host.

    ``WAIT`` is a wait for something inside the guest, such as bytes in a pipe. Its result says how
    the wait ended.
    """

    OPEN = 0
    READ = 1
    WRITE = 2
    STAT = 3
    LIST = 4
    SIZE = 5
    TIMES = 6
    SYNC = 7
    ALLOCATE = 8
    MKDIR = 9
    RMDIR = 10
    UNLINK = 11
    RENAME = 12
    LINK = 13
    SYMLINK = 14
    READLINK = 15
    CLOSE = 16
    PROBE = 17
    ADVISE = 18
    SOCKET = 19
    BIND = 20
    LISTEN = 21
    CONNECT = 22
    ACCEPT = 23
    SEND = 24
    SHUTDOWN = 25
    SET_OPTION = 26
    GET_OPTION = 27
    STATUS = 28
    ADDRESS = 29
    MULTICAST = 30
    SPAWN = 31
    JOIN = 32
    FORK = 33
    WAIT = 34
    SIGNAL = 35


NETWORK_CALLS = frozenset(
    call for call in HostCall if HostCall.SOCKET <= call <= HostCall.MULTICAST
)
"""Requests to the network of the host."""

HostCallField = Annotated[HostCall, Enumerated(cs.Int8ul, HostCall)]


@event(tag=170, group=Group.INPUTS, role=Role.INPUT, rule=Consumed())
class ClockRead(Event):
    """Result of clock_time_get: ``time`` in nanoseconds on the WASI clock ``clock``."""

    clock: U8
    time: U64


@event(tag=171, group=Group.INPUTS, role=Role.INPUT, rule=Consumed())
class ClockResolution(Event):
    """Result of clock_res_get: ``resolution`` in nanoseconds."""

    clock: U8
    resolution: U64


@event(tag=172, group=Group.INPUTS, role=Role.INPUT, rule=Consumed())
class RandomBytes(Event):
    """Result of random_get."""

    data: InputBytes


@event(tag=173, group=Group.INPUTS, role=Role.INPUT, rule=Consumed())
class StreamRead(Event):
    """The guest read bytes from a standard stream with fd_read; no bytes at the end of the stream.

    ``stream`` is 0 for input. ``offset`` is the number of bytes that the guest had read before.
    """

    stream: U8
    offset: U64
    data: InputBytes


@event(tag=174, group=Group.INPUTS, role=Role.INPUT, rule=Consumed())
class PollResult(Event):
    """Result of poll_oneoff: consecutive WASI event structs of 32 bytes each."""

    events: PublicBytes


@event(tag=175, group=Group.INPUTS, role=Role.INPUT, rule=Needed())
class HostResult(Event):
    """Result of a request of the guest to its host: to a directory, the network or a process.

    Also the error of a read or a write of a standard stream that the host could not make.
    ``fd`` is the descriptor of the request, ``errno`` WASI's error number, 0 for success. The
    content of ``value`` depends on ``call``: file contents, a WASI struct, or nothing.
    """

    call: HostCallField
    fd: Fd
    errno: U16
    value: FileBytes


@event(tag=176, group=Group.INPUTS, role=Role.INPUT, rule=Consumed())
class TtyRead(Event):
    """Result of tty_get: the terminal of the guest, with the fields of TtySet."""

    cols: U32
    rows: U32
    width: U32
    height: U32
    stdin_tty: Flag
    stdout_tty: Flag
    stderr_tty: Flag
    echo: Flag
    line_buffered: Flag
    line_feeds: Flag


@dataclass(frozen=True, slots=True)
class ReadyDescriptor:
    """A watched descriptor, and its events as the bits of WASIX's epoll.

    ``fd`` has the descriptor in its lower 16 bits. Above them is the rank of the watch among those
    of the same number, because a watch lives on while a duplicate of its descriptor is open.
    """

    fd: int
    events: int


DESCRIPTOR_MASK = (1 << 16) - 1
"""The bits of ``ReadyDescriptor.fd`` that are the descriptor."""

ReadyDescriptors = Annotated[
    tuple[ReadyDescriptor, ...],
    ListOf(RecordOf(ReadyDescriptor, fd=cs.Int32ul, events=cs.Int32ul)),
]


PEEKED = 1 << 15
"""Bit of ``BytesReceived.flags``: the bytes have stayed in the socket."""


@event(tag=177, group=Group.INPUTS, role=Role.INPUT, rule=Consumed())
class BytesReceived(Event):
    """The guest received bytes through a socket, or through a pipe to another process.

    ``errno`` is WASI's error number, 0 for success. No bytes and no error are the end of the
    stream, or an empty datagram. ``flags`` are the roflags of sock_recv, and bit 15 says that the
    guest only peeked: the bytes come again. ``sender`` is the address that sock_recv_from reported.
    """

    fd: Fd
    errno: U16
    flags: U16
    sender: MaybeAddress
    data: InputBytes


@event(tag=178, group=Group.INPUTS, role=Role.INPUT, rule=Consumed())
class Resolved(Event):
    """Result of resolve: the addresses of ``host``. ``errno`` is WASI's error number."""

    host: HostName
    port: U16
    errno: U16
    addresses: Ips


@event(tag=179, group=Group.INPUTS, role=Role.INPUT, rule=Consumed())
class EpollResult(Event):
    """Result of epoll_wait: the watched descriptors that have events."""

    epfd: Fd
    ready: ReadyDescriptors


@event(tag=200, group=Group.INPUTS, role=Role.INPUT, rule=Consumed())
class SignalDelivered(Event):
    """A signal from outside reached the guest, at the end of a host call.

    ``signal`` is WASI's number. ``calls`` is the number of host calls that the guest has made since
    its start, up to this one. ``interrupts`` is set if the signal ended a wait: then the call
    returned INTR, and the journal has no other result of it unless a HostResult precedes.
    ``expired`` is set if an interval timer sent the signal. ``monotonic`` is the guest's monotonic
    clock, in nanoseconds. Signals that the guest sends to itself have no event.
    """

    signal: U8
    calls: U64
    interrupts: Flag
    expired: Flag
    monotonic: U64


@event(tag=201, group=Group.INPUTS, role=Role.INPUT, rule=Consumed())
class IntervalStarted(Event):
    """The guest started an interval timer, which sends ``signal`` after ``interval`` nanoseconds.

    With ``repeats`` the timer starts again each time. ``monotonic`` is the guest's monotonic clock
    at the start, in nanoseconds.
    """

    signal: U8
    interval: U64
    repeats: Flag
    monotonic: U64

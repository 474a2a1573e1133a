"""Events of snapshots: their start, their end, and the positions of descriptors."""

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated

import construct as cs

from journal.events.definition import Event, Group, Keep, Marks, Merged, Role, event
from journal.events.wire_types import (
    FLAG,
    IP_ADDRESS,
    TEXT,
    U32,
    U64,
    Duration,
    Enumerated,
    Fd,
    Flag,
    Hash256,
    ListOf,
    MemoryBytes,
    MemoryParts,
    PublicBytes,
    PublicEntries,
    RecordOf,
    Text,
    TupleOf,
    U32s,
)


class Trigger(IntEnum):
    """Reason for a snapshot."""

    IDLE = 0
    FIRST_LISTEN = 1
    FIRST_ENVIRON = 2
    FIRST_STDIN = 3
    PERIODIC_INTERVAL = 4
    SIGINT = 5
    SIGALRM = 6
    SIGTSTP = 7
    SIGSTOP = 8
    NON_DETERMINISTIC_CALL = 9
    BOOTSTRAP = 10
    TRANSACTION = 11
    EXPLICIT = 12
    FIRST_SIGINT = 13
    JOURNAL_SIZE = 14
    """The bytes written since the last snapshot reached a limit."""
    EVENT_COUNT = 15
    """The events written since the last snapshot reached a limit."""


Positions = Annotated[tuple[tuple[int, int], ...], ListOf(TupleOf(cs.Int32ul, cs.Int64ul))]
Inodes = Annotated[tuple[int, ...], ListOf(cs.Int64ul)]
TriggerField = Annotated[Trigger, Enumerated(cs.Int8ul, Trigger)]


@event(tag=59, group=Group.SNAPSHOTS, role=Role.RECORDING, rule=Marks())
class Snapshot(Event):
    """End of a snapshot: the guest can resume from the state that the events before it define.

    ``when`` is the host's clock, in nanoseconds since the epoch. ``digest`` is a hash of the whole
    state, empty if the writer did not compute it. It detects accidents, not intent.
    """

    when: Duration
    trigger: TriggerField
    digest: MemoryBytes = b""


@event(tag=60, group=Group.SNAPSHOTS, role=Role.EFFECT, rule=Keep())
class ClearEthereal(Event):
    """Staged events without a snapshot are void, and so are all threads before this event."""


@event(tag=180, group=Group.SNAPSHOTS, role=Role.RECORDING, rule=Merged())
class SafePoint(Event):
    """Start of a snapshot, with the point at which the guest is suspended.

    Events that were staged before it are void. The guest is about to call the host for the
    ``calls``-th time since its start, counted from 1. ``function`` is the called function, empty at
    a safe point that is not a call. ``entry`` is the exported function that the host called, empty
    if the host has not called one yet. ``monotonic`` is the guest's monotonic clock, in
    nanoseconds. ``code`` is the SHA-256 of the instrumented module to which the stacks in SetThread
    belong; all zeros without stacks. If ``whole`` is set, pages and table elements that the
    snapshot does not contain are zero and empty, and no earlier event counts.
    """

    calls: U64
    monotonic: U64
    code: Hash256
    whole: Flag
    entry: Text
    function: Text


@event(tag=181, group=Group.SNAPSHOTS, role=Role.RECORDING, rule=Merged())
class DescriptorPositions(Event):
    """Positions of the guest's files and streams, for the next snapshot.

    ``positions`` has each descriptor with a position, by number, and its offset in bytes. ``free``
    are the descriptor numbers that were closed and are not in use, ascending.
    """

    positions: Positions
    free: U32s


@event(tag=182, group=Group.SNAPSHOTS, role=Role.RECORDING, rule=Merged())
class DirectoryListing(Event):
    """Entries of a directory when the guest started to read it, for the next snapshot.

    A cookie of fd_readdir keeps its meaning although entries are added and removed. ``entries`` are
    the names. ``inodes`` has one inode number for each entry, ``kinds`` one byte for each entry:
    its file type.
    """

    fd: Fd
    entries: PublicEntries
    inodes: Inodes
    kinds: PublicBytes


@event(tag=183, group=Group.SNAPSHOTS, role=Role.RECORDING, rule=Merged())
class DescriptorContents(Event):
    """Contents of an object inside the guest, for the next snapshot.

    ``fd`` is the lowest descriptor of the object. ``parts`` are the bytes that wait to be read: one
    part for a pipe or a stream, two for each message, its sender and its bytes. Sockets with a name
    and epoll sets have further parts. ``value`` is the value of a counter, the count of bytes that
    were read from a pipe before, or the accepted size of an unfinished write. ``flags`` have the
    pending error of a socket in their upper 16 bits.
    """

    fd: Fd
    value: U64
    flags: U32
    parts: MemoryParts


@dataclass(frozen=True, slots=True)
class IntervalTimer:
    """A running interval timer. ``deadline`` is on the guest's monotonic clock, in nanoseconds."""

    signal: int
    repeats: bool
    interval: int
    deadline: int


IntervalTimers = Annotated[
    tuple[IntervalTimer, ...],
    ListOf(
        RecordOf(
            IntervalTimer,
            signal=cs.Int8ul,
            repeats=FLAG,
            interval=cs.Int64ul,
            deadline=cs.Int64ul,
        )
    ),
]


@event(tag=202, group=Group.SNAPSHOTS, role=Role.RECORDING, rule=Merged())
class SignalState(Event):
    """Signals of the guest, for the next snapshot. A snapshot without it has no such state.

    ``handler`` is the exported function that handles signals, if ``has_handler`` is set.
    ``pending`` has a byte with the number of each pending signal, in the order of arrival.
    ``timers`` are the running interval timers.
    """

    has_handler: Flag
    handler: Text
    pending: PublicBytes
    timers: IntervalTimers


@dataclass(frozen=True, slots=True)
class HostName:
    """A host name in its normal form, and addresses that the guest resolved it to."""

    name: str
    addresses: tuple[IPv4Address | IPv6Address, ...]


HostNames = Annotated[
    tuple[HostName, ...],
    ListOf(RecordOf(HostName, name=TEXT, addresses=ListOf(IP_ADDRESS))),
]


@event(tag=205, group=Group.SNAPSHOTS, role=Role.RECORDING, rule=Merged())
class ResolvedNames(Event):
    """Names that the guest has resolved, for the next snapshot, the oldest first.

    A rule of the network policy that has a name grants the addresses of the name. A snapshot
    without the event has no names.
    """

    hosts: HostNames

"""Snapshot markers."""

from enum import IntEnum
from typing import Annotated

import construct as cs

from journal.events.definition import Event, Group, Marks, Resets, Staged, event
from journal.events.wire_types import (
    U64,
    Blob,
    Blobs,
    Duration,
    Enumerated,
    Fd,
    Flag,
    Hash256,
    ListOf,
    Text,
    TupleOf,
    U32s,
)


class Trigger(IntEnum):
    """What made the host take a snapshot."""

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
    """So many bytes were written since the last snapshot."""
    EVENT_COUNT = 15
    """So many events were written since the last snapshot."""


Positions = Annotated[tuple[tuple[int, int], ...], ListOf(TupleOf(cs.Int32ul, cs.Int64ul))]
Inodes = Annotated[tuple[int, ...], ListOf(cs.Int64ul)]
TriggerField = Annotated[Trigger, Enumerated(cs.Int8ul, Trigger)]


@event(tag=59, group=Group.SNAPSHOTS, rule=Marks())
class Snapshot(Event):
    """Everything before this event is a state that the guest can resume from.

    ``when`` is the host's clock, in nanoseconds since the epoch. ``digest`` is a hash of the whole
    state, empty where the writer did not compute one.
    """

    when: Duration
    trigger: TriggerField
    digest: Blob = b""


@event(tag=60, group=Group.SNAPSHOTS, rule=Resets())
class ClearEthereal(Event):
    """What was held back for a snapshot that never came is void, and so are threads before it."""


@event(tag=180, group=Group.SNAPSHOTS, rule=Staged("safe point"))
class SafePoint(Event):
    """A snapshot begins: where the guest stands still. What was staged before it is void.

    The guest is about to call the host for the ``calls``-th time since its start, counted from 1;
    ``function`` is what it calls, empty at a safe point that is no call. ``entry`` is the exported
    function that the host had called; where it is empty, none has been called yet. ``monotonic`` is
    the guest's monotonic clock, in nanoseconds. ``code`` is the SHA-256 of the instrumented module
    whose stacks SetThread has; all zeros where there are none. If ``whole``, pages and elements of
    tables that this snapshot does not name are zero and empty: nothing before it counts.
    """

    calls: U64
    monotonic: U64
    code: Hash256
    whole: Flag
    entry: Text
    function: Text


@event(tag=181, group=Group.SNAPSHOTS, rule=Staged("positions"))
class DescriptorPositions(Event):
    """Where the guest stands in its files and streams, for the next snapshot.

    For each descriptor that has a position, by number: the descriptor, and the offset in bytes.
    ``free`` are the numbers that were given back and stand for nothing, ascending.
    """

    positions: Positions
    free: U32s


@event(tag=182, group=Group.SNAPSHOTS, rule=Staged("listing", ("fd",)))
class DirectoryListing(Event):
    """What a directory had when the guest began to read it, for the next snapshot.

    A cookie of fd_readdir means the same entry although entries come and go. ``entries`` are their
    names; ``inodes``, and ``kinds``, the file types a byte each, have one item for each.
    """

    fd: Fd
    entries: Blobs
    inodes: Inodes
    kinds: Blob

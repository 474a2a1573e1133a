"""Events of the identity of a process, of its sessions, and of the origin of a journal."""

from enum import IntEnum
from typing import Annotated

import construct as cs

from journal.events.definition import (
    Event,
    Group,
    Keep,
    Latest,
    Pinned,
    Resets,
    Rewritten,
    Role,
    event,
)
from journal.events.wire_types import (
    U32,
    U64,
    Address,
    Enumerated,
    EnvironmentEntries,
    Fd,
    Flag,
    Generation,
    GuestPath,
    Hash256,
    HostPath,
    JournalId,
    PublicBytes,
    Text,
    TextPairs,
)


class RecordingLevel(IntEnum):
    """Amount of events that a journal records."""

    STATE = 0
    """Effects and snapshots: enough to resume from a snapshot."""
    FULL = 1
    """Effects, snapshots and inputs: enough to replay every instruction."""


class MountKind(IntEnum):
    """Storage of a mount of the guest."""

    MEMORY = 0
    """Files in memory, which the journal can rebuild."""
    HOST = 1
    """A directory of the host."""
    HOST_READ_ONLY = 2
    """A directory of the host that the guest cannot change."""
    GENERATION = 3
    """One file in memory, the generation file, which the host changes and the guest cannot."""


HOST_MOUNTS = frozenset((MountKind.HOST, MountKind.HOST_READ_ONLY))
"""Kinds of mounts of directories of the host."""


RecordingLevelField = Annotated[RecordingLevel, Enumerated(cs.Int8ul, RecordingLevel)]
MountKindField = Annotated[MountKind, Enumerated(cs.Int8ul, MountKind)]


@event(tag=128, group=Group.CORE, role=Role.PREAMBLE, rule=Resets())
class ProcessStart(Event):
    """Identity of the process: module, arguments, environment and engine. The first event.

    ``module_hash`` is the SHA-256 of the ``module_size`` bytes of the module before any
    instrumentation, and ``module_path`` the file that they were read from. If ``embedded`` is set,
    ModulePart events follow. Each entry of ``environment`` is ``NAME=value``, or ``NAME`` if its
    value is secret, of which ``configuration`` then has a salted hash. ``engine`` and the
    versions identify the writer. ``host_revision`` counts changes in the results of the host's
    functions. ``platform`` is system and machine. ``configuration`` holds the other values that a
    run depends on, as names and values. ``realtime`` is the host's clock, in nanoseconds since the
    epoch.
    """

    module_hash: Hash256
    module_size: U64
    embedded: Flag
    level: RecordingLevelField
    host_revision: U32
    realtime: U64
    module_path: HostPath
    arguments: EnvironmentEntries
    environment: EnvironmentEntries
    engine: Text
    engine_version: Text
    journal_version: Text
    platform: Text
    configuration: TextPairs


@event(tag=129, group=Group.CORE, role=Role.PREAMBLE, rule=Keep())
class ModulePart(Event):
    """A part of the module's bytes, which starts at ``offset``."""

    offset: U64
    data: PublicBytes


@event(tag=135, group=Group.CORE, role=Role.PREAMBLE, rule=Keep())
class InstrumentedPart(Event):
    """A part of the instrumented module that ran. The stacks in snapshots belong to that module."""

    offset: U64
    data: PublicBytes


@event(tag=130, group=Group.CORE, role=Role.PREAMBLE, rule=Pinned())
class Mount(Event):
    """A directory that the guest has from its start, preopened as ``fd`` with the name ``guest``.

    ``host`` is the directory of the host; it is empty for files in memory. Each read of a
    generation file has a HostResult.
    """

    fd: Fd
    kind: MountKindField
    guest: GuestPath
    host: HostPath


@event(tag=139, group=Group.CORE, role=Role.PREAMBLE, rule=Pinned())
class Listener(Event):
    """A TCP socket that listens at ``addr``, which the guest has from its start as ``fd``.

    An accept of a ``non_blocking`` socket does not wait.
    """

    fd: Fd
    addr: Address
    non_blocking: Flag


@event(tag=131, group=Group.CORE, role=Role.RECORDING, rule=Keep())
class SessionStart(Event):
    """A host started or resumed the process. Each run and each resume has one such event.

    ``realtime`` is the host's clock, in nanoseconds since the epoch. ``monotonic`` is the current
    value of the guest's monotonic clock, in nanoseconds, from which a resume continues.
    """

    realtime: U64
    monotonic: U64
    engine_version: Text
    journal_version: Text
    platform: Text


@event(tag=137, group=Group.CORE, role=Role.RECORDING, rule=Latest())
class ClockPoint(Event):
    """The guest's monotonic clock at the time of this event, in nanoseconds.

    A host records it after its real-time clock was set. It also records it when the guest begins
    a wait that ends at a time, in its ``calls``-th host call since its start: then ``waits`` is
    set. ``calls`` is 0 if the host does not count the calls.
    """

    monotonic: U64
    waits: Flag
    calls: U64


@event(tag=138, group=Group.CORE, role=Role.RECORDING, rule=Keep())
class Reseeded(Event):
    """The process is one of several that have the history before this event.

    Inputs after this event are the process's own. ``generation`` are random bytes that no other
    reseeding has. They are the new content of the generation file, if the guest has one. Until the
    next SessionStart the guest's monotonic clock counts the real time, also while no host runs the
    guest. ``realtime`` is the host's clock, in nanoseconds since the epoch.
    """

    generation: Generation
    realtime: U64


@event(tag=132, group=Group.CORE, role=Role.EFFECT, rule=Resets())
class ProcessTrap(Event):
    """The guest trapped and the process ended. ``kind`` is the engine's name of the trap."""

    kind: Text
    message: Text


@event(tag=133, group=Group.CORE, role=Role.RECORDING, rule=Keep())
class ParentLink(Event):
    """This journal continues another journal after the event with sequence number ``seq``.

    ``hash`` is the body hash of the block of the parent that holds that event.
    """

    journal: JournalId
    seq: U64
    hash: U64


@event(tag=134, group=Group.CORE, role=Role.RECORDING, rule=Rewritten())
class Seal(Event):
    """The journal is complete: no event follows.

    ``count`` is the number of events before this event, ``hash`` the hash of the block before its
    own block.
    """

    count: U64
    hash: U64

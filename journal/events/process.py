"""Events that say what ran, on what, and where this journal comes from."""

from enum import IntEnum
from typing import Annotated

import construct as cs

from journal.events.definition import Event, Group, Keep, Region, Resets, Rewritten, event
from journal.events.wire_types import (
    U32,
    U64,
    Blob,
    Blobs,
    Enumerated,
    Fd,
    Flag,
    Hash256,
    HostPath,
    JournalId,
    Text,
    TextPairs,
)


class RecordingLevel(IntEnum):
    """How much a journal records."""

    STATE = 0
    """Effects and snapshots: enough to resume from a snapshot."""
    FULL = 1
    """Inputs too: enough to play every instruction again."""


class MountKind(IntEnum):
    """What a mount of the guest is made of."""

    MEMORY = 0
    """Files that the journal owns and rebuilds."""
    HOST = 1
    """A directory of the host."""
    HOST_READ_ONLY = 2
    """A directory of the host that the guest cannot change."""


RecordingLevelField = Annotated[RecordingLevel, Enumerated(cs.Int8ul, RecordingLevel)]
MountKindField = Annotated[MountKind, Enumerated(cs.Int8ul, MountKind)]


@event(tag=128, group=Group.CORE, rule=Keep())
class ProcessStart(Event):
    """The identity of the process: what is run, with what, and by what. The first event.

    ``module_hash`` is the SHA-256 of the module's ``module_size`` bytes as they were given, before
    any instrumentation; ``module_path`` is where they were read. If ``embedded``, ModulePart events
    follow. An entry of ``environment`` is ``NAME=value``. ``engine`` and the versions say who wrote
    this; ``host_revision`` counts changes in how the host's functions answer; ``platform`` is
    system and machine; ``configuration`` is what else a run depends on, as names and values.
    ``realtime`` is the host's clock, in nanoseconds since the epoch.
    """

    module_hash: Hash256
    module_size: U64
    embedded: Flag
    level: RecordingLevelField
    host_revision: U32
    realtime: U64
    module_path: HostPath
    arguments: Blobs
    environment: Blobs
    engine: Text
    engine_version: Text
    journal_version: Text
    platform: Text
    configuration: TextPairs


@event(tag=129, group=Group.CORE, rule=Region("offset", "data"))
class ModulePart(Event):
    """A piece of the module's bytes, to be put at ``offset`` of it."""

    offset: U64
    data: Blob


@event(tag=135, group=Group.CORE, rule=Region("offset", "data"))
class InstrumentedPart(Event):
    """A piece of the instrumented module that ran, whose stacks the snapshots have."""

    offset: U64
    data: Blob


@event(tag=130, group=Group.CORE, rule=Keep())
class Mount(Event):
    """A directory that the guest has from the start, preopened as ``fd`` under the name ``guest``.

    ``host`` is the host's directory, and empty for files in memory.
    """

    fd: Fd
    kind: MountKindField
    guest: Text
    host: HostPath


@event(tag=131, group=Group.CORE, rule=Keep())
class SessionStart(Event):
    """A host began to run the process, for the first time or again: one for each run or resume.

    ``realtime`` is the host's clock, in nanoseconds since the epoch; ``monotonic`` is what the
    guest's monotonic clock says at this moment, in nanoseconds, so that it can go on from there.
    """

    realtime: U64
    monotonic: U64
    engine_version: Text
    journal_version: Text
    platform: Text


@event(tag=132, group=Group.CORE, rule=Resets())
class ProcessTrap(Event):
    """The guest trapped, and the process is over: ``kind`` is the trap's name, as in the engine."""

    kind: Text
    message: Text


@event(tag=133, group=Group.CORE, rule=Keep())
class ParentLink(Event):
    """This journal goes on from a point of another one: from behind its event number ``seq``.

    ``hash`` is the body hash of the parent's block that holds that event.
    """

    journal: JournalId
    seq: U64
    hash: U64


@event(tag=134, group=Group.CORE, rule=Rewritten())
class Seal(Event):
    """The journal is complete: nothing is written behind this event.

    ``count`` is how many events stand before it, ``hash`` the hash of the block before its own.
    """

    count: U64
    hash: U64

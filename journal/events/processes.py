"""Events of processes that start each other, and of the pipes between them.

Each process has a journal of its own. A pipe between processes is named by the process that
created it, and by the sequence number of its CreatePipe event there. Pipes of the creator 0 are the
standard streams of the first process, numbered as these, through which the other processes use
them.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

import construct as cs

from journal.events.definition import Event, Group, Keep, Pinned, Resets, Role, event
from journal.events.wire_types import (
    GUEST_PATH,
    U8,
    U16,
    U32,
    U64,
    Enumerated,
    EnvironmentEntries,
    Fd,
    GuestPath,
    InputBytes,
    JournalId,
    ListOf,
    OutputBytes,
    PublicBytes,
    RecordOf,
    Text,
    U32s,
)


class StartKind(IntEnum):
    """Origin of a descriptor that a process has from its start."""

    READ_END = 0
    """The reading end of a pipe."""
    WRITE_END = 1
    """The writing end of a pipe."""
    DUPLICATE = 2
    """Another descriptor of the same process."""


class StartedKind(IntEnum):
    """What was started, as the process sees it to which the event belongs."""

    CHILD = 0
    """A child with a program of its own."""
    PROGRAM = 1
    """Another program of the process itself."""
    FORK = 2
    """A child that continues as this process does."""
    ITSELF = 3
    """The process itself, which was forked: this is the first event of its own."""


class EndKind(IntEnum):
    """Kind of the end of a process, with the numbers of WASIX's join_status."""

    NONE = 0
    """No process has ended."""
    EXITED = 1
    KILLED = 2


@dataclass(frozen=True, slots=True)
class StartDescriptor:
    """A descriptor that a process has from its start: an end of a pipe, or a copy of ``source``.

    ``flags`` are WASI's fdflags.
    """

    fd: int
    origin: StartKind
    source: int
    creator: int
    number: int
    flags: int


@dataclass(frozen=True, slots=True)
class StartFile:
    """A file that a process opens as ``fd`` before its program starts.

    The fields are those of OpenFileDescriptor; ``position`` is where it begins to read and write.
    """

    fd: int
    dirflags: int
    o_flags: int
    fs_flags: int
    rights: int
    position: int
    path: str


StartDescriptors = Annotated[
    tuple[StartDescriptor, ...],
    ListOf(
        RecordOf(
            StartDescriptor,
            fd=cs.Int32ul,
            origin=Enumerated(cs.Int8ul, StartKind),
            source=cs.Int32ul,
            creator=cs.Int32ul,
            number=cs.Int64ul,
            flags=cs.Int16ul,
        )
    ),
]
StartFiles = Annotated[
    tuple[StartFile, ...],
    ListOf(
        RecordOf(
            StartFile,
            fd=cs.Int32ul,
            dirflags=cs.Int32ul,
            o_flags=cs.Int16ul,
            fs_flags=cs.Int16ul,
            rights=cs.Int64ul,
            position=cs.Int64ul,
            path=GUEST_PATH,
        )
    ),
]
StartedKindField = Annotated[StartedKind, Enumerated(cs.Int8ul, StartedKind)]
EndKindField = Annotated[EndKind, Enumerated(cs.Int8ul, EndKind)]


@event(tag=192, group=Group.CORE, role=Role.EFFECT, rule=Keep())
class ProcessSpawned(Event):
    """The guest requested a new process with proc_spawn. ``fds`` are the descriptors that it gets.

    ``command`` is the name of a program that the user allowed.
    """

    command: Text
    arguments: EnvironmentEntries
    fds: U32s


@event(tag=193, group=Group.INPUTS, role=Role.INPUT, rule=Keep())
class ChildStarted(Event):
    """Result of proc_spawn, proc_exec or proc_fork: what was started has a journal of its own.

    ``errno`` is WASI's error number, 0 for success. ``pid`` and ``parent`` are the numbers of the
    process that was started and of its parent. ``image`` counts the programs that the process had
    before this one.
    """

    errno: U16
    kind: StartedKindField
    pid: U32
    parent: U32
    image: U32


@event(tag=194, group=Group.INPUTS, role=Role.INPUT, rule=Keep())
class ChildEnded(Event):
    """Result of proc_join for the child ``wanted``, 0 for any: the process ``pid`` has ended.

    ``errno`` is WASI's error number. ``code`` is the exit code, or the signal that killed the
    process. With the kind NONE no process has ended yet.
    """

    wanted: U32
    errno: U16
    pid: U32
    kind: EndKindField
    code: U32


@event(tag=195, group=Group.INPUTS, role=Role.INPUT, rule=Keep())
class PipeWrite(Event):
    """The guest wrote bytes to a pipe between processes, at ``offset`` of all bytes of the pipe.

    ``errno`` is WASI's error number, 0 for success. ``data`` are the bytes that the pipe accepted.
    """

    fd: Fd
    creator: U32
    number: U64
    errno: U16
    offset: U64
    data: OutputBytes


@event(tag=196, group=Group.INPUTS, role=Role.INPUT, rule=Keep())
class PipeRead(Event):
    """The guest read bytes from a pipe between processes, at ``offset`` of all bytes of the pipe.

    ``errno`` is WASI's error number. No bytes and no error are the end of the stream.
    """

    fd: Fd
    creator: U32
    number: U64
    errno: U16
    offset: U64
    data: InputBytes


@event(tag=197, group=Group.CORE, role=Role.PREAMBLE, rule=Pinned())
class ChildStart(Event):
    """The process was started by another one, whose journal has the id ``journal``.

    ``pid`` is the number of the process, ``parent`` that of its parent. ``image`` counts the
    programs that the process had before this one, in journals of their own: it is above 0 after
    proc_exec. ``directory`` is the working directory, and ``ignored`` has a byte for each signal
    that the process ignores. ``descriptors`` and ``files`` are what it has open from its start
    besides its mounts.
    """

    journal: JournalId
    pid: U32
    parent: U32
    image: U32
    directory: GuestPath
    ignored: PublicBytes
    descriptors: StartDescriptors
    files: StartFiles


@event(tag=198, group=Group.STDIO, role=Role.RECORDING, rule=Keep())
class StreamPassed(Event):
    """Bytes passed between a standard stream of the first process and another process.

    ``stream`` is 0 for input, 1 for output and 2 for error, ``offset`` the offset of the bytes in
    the stream. The bytes are at ``pipe_offset`` of the pipe of the creator 0 and the number
    ``stream``.
    """

    stream: U8
    offset: U64
    pipe_offset: U64
    data: OutputBytes


@event(tag=199, group=Group.CORE, role=Role.EFFECT, rule=Resets())
class ProcessReplaced(Event):
    """The guest replaced its program with proc_exec. The process continues in another journal.

    ``image`` is that of the ChildStart event there, and of the ChildStarted event before.
    """

    pid: U32
    image: U32

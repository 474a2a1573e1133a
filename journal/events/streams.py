"""Events of the guest's standard output and error, and of their targets."""

from enum import IntEnum
from typing import Annotated

import construct as cs

from journal.events.definition import Event, Group, Keep, Latest, Role, event
from journal.events.wire_types import U8, U64, Enumerated, Flag, OutputBytes


class TargetKind(IntEnum):
    """Kind of the target of a standard stream."""

    REGULAR = 0
    PIPE = 1
    TERMINAL = 2
    OTHER = 3
    CAPTURED = 4
    """The host keeps the output; it is not visible outside."""


TargetKindField = Annotated[TargetKind, Enumerated(cs.Int8ul, TargetKind)]


@event(tag=160, group=Group.STDIO, role=Role.EFFECT, rule=Keep())
class StreamWrite(Event):
    """The guest wrote bytes to a standard stream with fd_write.

    ``stream`` is 1 for output and 2 for error. ``offset`` is the number of bytes that the guest had
    written to the stream before, since the start of the process.
    """

    stream: U8
    offset: U64
    data: OutputBytes


@event(tag=161, group=Group.STDIO, role=Role.RECORDING, rule=Latest(("stream",)))
class StreamDelivered(Event):
    """The target of a standard stream has accepted all bytes before the stream offset ``upto``."""

    stream: U8
    upto: U64


@event(tag=162, group=Group.STDIO, role=Role.RECORDING, rule=Keep())
class StreamOpened(Event):
    """A session connected a standard stream to a target.

    ``position``, ``device`` and ``inode`` describe the target, 0 if it has none. With them a later
    session can check whether it appends to the same bytes. ``append`` is O_APPEND of the target.
    """

    stream: U8
    kind: TargetKindField
    append: Flag
    position: U64
    device: U64
    inode: U64

"""Events of the guest's standard output and error, and of what they are connected to."""

from enum import IntEnum
from typing import Annotated

import construct as cs

from journal.events.definition import Event, Group, Keep, Latest, event
from journal.events.wire_types import U8, U64, Blob, Enumerated, Flag


class TargetKind(IntEnum):
    """What a standard stream leads to."""

    REGULAR = 0
    PIPE = 1
    TERMINAL = 2
    OTHER = 3
    CAPTURED = 4
    """Kept by the host; nothing outside sees it."""


TargetKindField = Annotated[TargetKind, Enumerated(cs.Int8ul, TargetKind)]


@event(tag=160, group=Group.STDIO, rule=Keep())
class StreamWrite(Event):
    """Bytes the guest wrote to a standard stream with fd_write.

    ``stream`` is 1 for output and 2 for error; ``offset`` is how many bytes the guest had written
    to it before, since the process started.
    """

    stream: U8
    offset: U64
    data: Blob


@event(tag=161, group=Group.STDIO, rule=Latest(("stream",)))
class StreamDelivered(Event):
    """The target of a standard stream has taken every byte before the stream offset ``upto``."""

    stream: U8
    upto: U64


@event(tag=162, group=Group.STDIO, rule=Latest(("stream",)))
class StreamOpened(Event):
    """A session connected a standard stream to a target.

    ``position``, ``device`` and ``inode`` are the target's, zero where it has none, so that a
    later session can see whether it writes behind the same bytes; ``append`` is its O_APPEND.
    """

    stream: U8
    kind: TargetKindField
    append: Flag
    position: U64
    device: U64
    inode: U64

"""Events of inputs that the guest received from outside, in the order of receipt."""

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
    InputBytes,
    PublicBytes,
)


class HostCall(IntEnum):
    """Kind of a request of the guest to a directory or the network of the host."""

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
    """Result of a request of the guest to a directory or the network of the host.

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

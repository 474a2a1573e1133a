"""Events of the whole process, which a journal of another runtime can have too."""

from enum import IntEnum
from typing import Annotated

import construct as cs

from journal.events.definition import Event, Group, Latest, Resets, Role, event
from journal.events.wire_types import U32, U64, Enumerated, Flag, MaybeI32, PublicBytes


class Clock(IntEnum):
    """Clocks of WASI, with their WASI numbers."""

    REALTIME = 0
    MONOTONIC = 1
    PROCESS_CPU = 2
    THREAD_CPU = 3
    UNKNOWN = 255


ClockField = Annotated[Clock, Enumerated(cs.Int8ul, Clock)]


@event(tag=1, group=Group.CORE, role=Role.EFFECT, rule=Resets())
class InitModule(Event):
    """A new module started with the files that earlier events left.

    Memory, threads and descriptors of the previous module no longer exist. ``wasm_hash``
    identifies the module with a hash that the writer chooses. A journal of this library has
    details in ProcessStart.
    """

    wasm_hash: PublicBytes


@event(tag=2, group=Group.CORE, role=Role.EFFECT, rule=Resets())
class ProcessExit(Event):
    """The guest process ended: it called proc_exit or returned from its start function.

    ``exit_code`` is the exit code of the guest, or None if it did not pass one.
    """

    exit_code: MaybeI32


@event(tag=9, group=Group.CORE, role=Role.EFFECT, rule=Latest(("clock_id",)))
class SetClockTime(Event):
    """The guest set a clock with clock_time_set. ``time`` is in nanoseconds."""

    clock_id: ClockField
    time: U64


@event(tag=30, group=Group.CORE, role=Role.EFFECT, rule=Latest())
class TtySet(Event):
    """The guest changed its terminal with tty_set.

    ``cols`` and ``rows`` are in characters, ``width`` and ``height`` in pixels. The other fields
    state which streams are a terminal, and how the terminal processes typed characters.
    """

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

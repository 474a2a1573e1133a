"""Events of the process as a whole that are in every journal, also in converted ones."""

from enum import IntEnum
from typing import Annotated

import construct as cs

from journal.events.definition import Event, Group, Keep, Latest, Resets, event
from journal.events.wire_types import U32, U64, Blob, Enumerated, Flag, MaybeI32


class Clock(IntEnum):
    """The clocks of WASI, by its numbers."""

    REALTIME = 0
    MONOTONIC = 1
    PROCESS_CPU = 2
    THREAD_CPU = 3
    UNKNOWN = 255


ClockField = Annotated[Clock, Enumerated(cs.Int8ul, Clock)]


@event(tag=1, group=Group.CORE, rule=Keep())
class InitModule(Event):
    """A module was started anew over the files that the journal has so far.

    Memory, threads and descriptors of what ran before it are gone. ``wasm_hash`` names the module
    in whatever way the writer hashes modules; a journal of ours says more in ProcessStart.
    """

    wasm_hash: Blob


@event(tag=2, group=Group.CORE, rule=Resets())
class ProcessExit(Event):
    """The guest process ended, by proc_exit or by returning from its start function.

    ``exit_code`` is what it said, or None when it did not come to say anything.
    """

    exit_code: MaybeI32


@event(tag=9, group=Group.CORE, rule=Latest(("clock_id",)))
class SetClockTime(Event):
    """The guest set a clock with clock_time_set. ``time`` is in nanoseconds."""

    clock_id: ClockField
    time: U64


@event(tag=30, group=Group.CORE, rule=Latest())
class TtySet(Event):
    """The guest changed its terminal with tty_set.

    ``cols`` and ``rows`` are in characters, ``width`` and ``height`` in pixels; the rest says which
    streams are a terminal, and what the terminal does with what is typed.
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

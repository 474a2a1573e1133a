"""Snapshot markers."""

from enum import IntEnum
from typing import Annotated

import construct as cs

from journal.event import Event, Group, Marks, Resets, event
from journal.wire import Blob, Duration, Enumerated


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

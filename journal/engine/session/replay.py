"""Recorded part of a run, as a process replays it before it continues live."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from journal.engine.session.guest_time import InterruptedWait
from journal.engine.session.snapshot_check import CheckPlan
from journal.engine.snapshot.capture import MachineState
from journal.engine.tape import Batch
from journal.engine.trust.access import HostAccess
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.filesystem.reopening import RecordedTimes
from journal.events.snapshots import Trigger


class ResumePoint(Protocol):
    """A snapshot from which a process resumes."""

    @property
    def entry(self) -> str:
        """Return the exported function that was running; empty if none had been called."""

    @property
    def function(self) -> str:
        """Return the host function that the guest was about to call; empty in a loop."""

    @property
    def calls(self) -> int:
        """Return the count of host calls that the guest had made."""

    @property
    def session(self) -> tuple[int, int]:
        """Return the time of the snapshot in µs since the epoch, and its monotonic clock in ns."""

    @property
    def is_last(self) -> bool:
        """Return whether the journal has no later snapshot."""

    def apply(self, machine: MachineState, state: CallContext) -> bytes | None:
        """Restore the machine and the state; return the stack to rewind, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Recorded events that a process replays, and the state in which it does so.

    ``batches`` are the events, None for a new run. ``start`` is the snapshot before them, None for
    the start of the program. ``fired`` are the triggers of the recorded snapshots.
    ``delivered_sizes`` has the bytes of each recorded output that its target holds.
    ``access`` is the access to the host that the guest has been granted.
    ``times`` are those of the recording, for a guest that continues live. ``wait`` is the wait at
    its end if the time since then counts as waited. With ``plan`` the guest does not continue live:
    its snapshots are compared, and the run ends at the end of the journal.
    ``reseeds`` says whether the guest is reseeded when it continues live, and ``counts_pause``
    whether the time between the sessions counts on its monotonic clock. ``generation`` is that of
    the last reseeding, None if there was none.
    ``on_input_wait`` is called once when the guest, live, waits for input before any output has
    reached a terminal.
    """

    batches: Iterator[Batch] | None = None
    start: ResumePoint | None = None
    fired: Collection[Trigger] = ()
    delivered_sizes: dict[int, int] = field(default_factory=dict)
    access: HostAccess = field(default_factory=HostAccess)
    times: RecordedTimes = field(default_factory=RecordedTimes)
    wait: InterruptedWait | None = None
    plan: CheckPlan | None = None
    on_input_wait: Callable[[], object] | None = None
    reseeds: bool = False
    counts_pause: bool = False
    generation: bytes | None = None

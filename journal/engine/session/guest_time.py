"""The guest's clock and waits across sessions."""

import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from journal.engine.session.recorded_run import RecordedRun
from journal.engine.snapshot.restore import COUNT_MAX
from journal.engine.wasi.call_context import CallContext
from journal.errors import NotResumable
from journal.events import codec, tag_sets
from journal.events.definition import Event
from journal.events.process import ClockPoint, Reseeded, SessionStart

_STEP_NS = 100_000_000
"""Smallest step of the real-time clock that is recorded, in nanoseconds."""
_WAIT_TAGS = (tag_sets.KNOWN - tag_sets.RECORDING) | {ClockPoint.tag}
_GENERATION_TAGS = frozenset((Reseeded.tag,))
_RESEEDING_TAGS = frozenset((Reseeded.tag, SessionStart.tag))


class SleepPolicy(Enum):
    """Treatment of a wait of the guest that the end of a session interrupted."""

    #: The wait keeps its deadline: the time between the sessions counts.
    KEEP = "keep"
    #: The whole wait begins again.
    RESTART = "restart"


class InterruptedWait(NamedTuple):
    """Wait in which a recording ends.

    ``started`` is its start in nanoseconds since the epoch, ``monotonic`` the guest's monotonic
    clock at that time.
    """

    started: int
    monotonic: int


def find_interrupted_wait(recording: RecordedRun) -> InterruptedWait | None:
    """Return the recorded wait in which the guest is at the end of the recording, or None."""
    for frame in recording.reader.last(1, tags=_WAIT_TAGS):
        if frame.tag != ClockPoint.tag:
            break
        point = codec.decode(frame.tag, frame.payload, frame.offset)
        assert isinstance(point, ClockPoint)
        # A compaction drops inputs before a snapshot, so the guest may have continued since.
        later = (info for info in recording.snapshots if info.seq > frame.seq)
        if point.waits and all(info.calls == point.calls for info in later):
            return InterruptedWait(frame.time * 1000, point.monotonic)
    return None


def has_new_reseeding(recording: RecordedRun) -> bool:
    """Return whether no session has started since the process was reseeded last."""
    frames = recording.reader.last(1, tags=_RESEEDING_TAGS)
    return any(frame.tag == Reseeded.tag for frame in frames)


def find_generation(recording: RecordedRun) -> bytes | None:
    """Return the generation of the last reseeding, None if the process was never reseeded."""
    for frame in recording.reader.last(1, tags=_GENERATION_TAGS):
        event = codec.decode(frame.tag, frame.payload, frame.offset)
        assert isinstance(event, Reseeded), "the tag says so"
        return event.generation
    return None


class GuestTime:
    """Monotonic clock of one guest, in the journal and after a resume.

    Event times follow the real-time clock, which may be set. So the journal has a new reading of
    the monotonic clock after each step.
    """

    def __init__(self, context: CallContext, append: Callable[[Event], int]) -> None:
        self._context, self._append = context, append
        # Latest recorded reading: its time in µs since the epoch, and the clock in ns.
        self._reading: tuple[int, int] | None = None
        self._offset = _measure_offset()

    def note_reading(self, micros: int, monotonic: int) -> None:
        """Note a recorded reading, in the order of the journal."""
        self._reading = micros, monotonic

    def continue_after(
        self,
        last_time: int,
        last_monotonic: int,
        wait: InterruptedWait | None,
        *,
        counts_pause: bool = False,
    ) -> int:
        """Continue the guest's clock after a replay, and return its value in nanoseconds.

        ``last_time`` is the time of the last event in µs, ``last_monotonic`` the last value that
        the guest has read. The time since the start of ``wait`` counts as waited. With
        ``counts_pause`` the time since the last event counts, too.
        """
        if counts_pause:
            last_time = max(last_time, time.time_ns() // 1000)
        monotonic = last_monotonic
        if self._reading is not None:
            micros, reading = self._reading
            # There is no later time yet if no event follows the reading.
            monotonic = max(monotonic, reading + max(0, last_time - micros) * 1000)
        if wait is not None:
            waited = max(0, time.time_ns() - wait.started)
            monotonic = max(monotonic, wait.monotonic + waited)
            self._context.wait_started = time.monotonic_ns() - waited
        if monotonic > COUNT_MAX:
            raise NotResumable(f"the guest's monotonic clock is impossible: {monotonic} ns")
        self._context.clocks.resume_at(monotonic)
        self._offset = _measure_offset()
        return monotonic

    def record_wait(self, calls: int) -> None:
        """Record that the guest begins a wait, in its ``calls``-th call or 0 if unknown."""
        self._record(waits=True, calls=calls)

    def record_step(self) -> None:
        """Record the clock if the real-time clock was set or stood still since the last reading.

        During a wait the record of its start must remain the last one.
        """
        context = self._context
        if context.tape.replaying or context.wait_started is not None:
            return
        if abs(_measure_offset() - self._offset) >= _STEP_NS:
            self._record(waits=False)

    def _record(self, *, waits: bool, calls: int = 0) -> None:
        self._offset = _measure_offset()
        monotonic = self._context.clocks.monotonic()
        self._append(ClockPoint(monotonic=monotonic, waits=waits, calls=calls))


def _measure_offset() -> int:
    """Return the difference of the host's real-time and monotonic clocks, in nanoseconds."""
    return time.time_ns() - time.monotonic_ns()

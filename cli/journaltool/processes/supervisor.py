"""Watching over a running guest: signals, the time limit, and telling how it ended."""

import gc
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from signal import Signals
from typing import TYPE_CHECKING

from journaltool import exit_codes as exits
from journaltool.output import text as render

if TYPE_CHECKING:
    from journal import Recorder, RunResult, SnapshotOptions


@dataclass(frozen=True, slots=True)
class Ended:
    """How a supervised run ended: ``stopped_by`` is a signal's number, 0 for none.

    What neither a signal nor the time limit has stopped, has stopped with its snapshot.
    """

    outcome: "RunResult"
    seconds: float
    timed_out: bool = False
    stopped_by: int = 0

    @property
    def code(self) -> int:
        """The exit code that says it."""
        ending = self.outcome.kind.value
        if ending == "exited":
            return (self.outcome.code or 0) & 0xFF
        if ending == "trapped":
            return exits.Code.TRAPPED
        if self.stopped_by:
            return exits.of_signal(self.stopped_by)
        return exits.Code.TIMEOUT if self.timed_out else exits.Code.FINE

    @property
    def with_snapshot(self) -> bool:
        """Whether it has stopped with its snapshot, as it was to do."""
        stopped = self.outcome.kind.value == "stopped"
        return stopped and not self.stopped_by and not self.timed_out


def until_end(recorder: "Recorder", timeout: float | None, snapshots: "SnapshotOptions") -> Ended:
    """Run the guest until it ends, time is over, or a signal stops it; then close the journal.

    Signals take the ``snapshots`` that are taken for them.
    """
    from journaltool.processes import signals as signalling

    gc.freeze()
    gc.enable()
    began = time.monotonic()
    with signalling.watching(recorder, snapshots) as watch, recorder:
        try:
            outcome = recorder.wait(timeout)
            timed_out = outcome is None
            if outcome is None:
                recorder.stop()
                outcome = recorder.wait()
        finally:
            watch.over = True
    assert outcome is not None, "a wait without a limit ends with an outcome"
    stopped = outcome.kind.value == "stopped"
    return Ended(
        outcome,
        time.monotonic() - began,
        timed_out=stopped and timed_out and not watch.caught,
        stopped_by=watch.caught if stopped else 0,
    )


def note(quiet: bool) -> Callable[[str], None]:
    """What becomes of what the library has to say meanwhile."""
    return (lambda text: None) if quiet else render.say


def tell(ended: Ended, journal: str, *, quiet: bool, as_json: bool, resumable: bool) -> None:
    """Say on stderr what the exit code alone does not say."""
    outcome = ended.outcome
    if not quiet:
        if outcome.kind.value == "trapped":
            trace = render.backtrace(outcome.backtrace)
            render.say(f"the guest trapped: {outcome.reason}", *trace)
        elif outcome.kind.value == "stopped":
            render.say(_stopped(ended, journal, resumable))
    if as_json:
        render.say_json(_as_json(ended, journal))


def _stopped(ended: Ended, journal: str, resumable: bool) -> str:
    after = f" after {render.seconds(round(ended.seconds, 1))}" if ended.timed_out else ""
    after += " with its snapshot" if ended.with_snapshot else ""
    if not resumable:
        return f"stopped{after}; recorded at level state, so it cannot be resumed"
    return f"stopped{after}; journaltool resume {shlex.quote(journal)} goes on"


def _as_json(ended: Ended, journal: str) -> dict[str, object]:
    from journal import Reader

    with Reader(journal) as reader:
        events = reader.summary().events
    outcome = ended.outcome
    return {
        "journal": journal,
        "outcome": outcome.kind.value,
        "exit_code": outcome.code,
        "reason": outcome.reason,
        "backtrace": outcome.backtrace,
        "events": events,
        "seconds": round(ended.seconds, 6),
        "timed_out": ended.timed_out,
        "stopped_with_snapshot": ended.with_snapshot,
        "signal": Signals(ended.stopped_by).name if ended.stopped_by else None,
    }

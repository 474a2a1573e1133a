"""Watching over a running guest: signals, the time limit, and telling how it ended."""

import gc
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from journaltool import exits, render

if TYPE_CHECKING:
    from journal import Outcome, Recorder

#: What stops a guest so that it can be resumed.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a supervised run ended: ``stopped_by`` is a signal's number, 0 for none."""

    outcome: "Outcome"
    seconds: float
    timed_out: bool = False
    stopped_by: int = 0

    @property
    def code(self) -> int:
        """The exit code that says it."""
        ending = self.outcome.ending.value
        if ending == "exited":
            return (self.outcome.code or 0) & 0xFF
        if ending == "trapped":
            return exits.Code.TRAPPED
        return exits.of_signal(self.stopped_by) if self.stopped_by else exits.Code.TIMEOUT


class _Watch:
    """What the signals that stop a guest do, as long as there is one."""

    def __init__(self, recorder: "Recorder") -> None:
        self._recorder = recorder
        self.over = False
        self.caught = 0

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the main thread waits on, and sees the guest stop."""
        if not self.over:
            self.caught = self.caught or number
            self._recorder.stop()


def until_end(recorder: "Recorder", timeout: float | None) -> Ended:
    """Run the guest until it ends, time is over, or a signal stops it; then close the journal."""
    gc.freeze()
    gc.enable()
    watch = _Watch(recorder)
    began = time.monotonic()
    with _handling(watch), recorder:
        try:
            outcome = recorder.wait(timeout)
            timed_out = outcome is None
            if outcome is None:
                recorder.stop()
                outcome = recorder.wait()
        finally:
            watch.over = True
    assert outcome is not None, "a wait without a limit ends with an outcome"
    stopped = outcome.ending.value == "stopped"
    return Ended(
        outcome,
        time.monotonic() - began,
        timed_out=stopped and timed_out and not watch.caught,
        stopped_by=watch.caught if stopped else 0,
    )


@contextmanager
def _handling(watch: _Watch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOPPING}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # nohup, or a job in the background, asked for that
            signal.signal(number, watch.stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tell(ended: Ended, journal: str, *, quiet: bool, as_json: bool, resumable: bool) -> None:
    """Say on stderr what the exit code alone does not say."""
    outcome = ended.outcome
    if not quiet:
        if outcome.ending.value == "trapped":
            trace = render.backtrace(outcome.backtrace)
            render.say(f"the guest trapped: {outcome.reason}", *trace)
        elif outcome.ending.value == "stopped":
            render.say(_stopped(ended, journal, resumable))
    if as_json:
        render.say_json(_as_json(ended, journal))


def _stopped(ended: Ended, journal: str, resumable: bool) -> str:
    after = f" after {render.seconds(round(ended.seconds, 1))}" if ended.timed_out else ""
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
        "outcome": outcome.ending.value,
        "exit_code": outcome.code,
        "reason": outcome.reason,
        "backtrace": outcome.backtrace,
        "events": events,
        "seconds": round(ended.seconds, 6),
        "timed_out": ended.timed_out,
        "signal": signal.Signals(ended.stopped_by).name if ended.stopped_by else None,
    }

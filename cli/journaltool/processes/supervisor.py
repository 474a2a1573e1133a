"""Supervision of a running guest: signals, the time limit, and the report of its end."""

import gc
import os
import shlex
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

from journaltool import exit_codes
from journaltool.output import terminal

if TYPE_CHECKING:
    from journal import Recorder
    from journal.engine import RunResult, SnapshotOptions


START_SECONDS_MIN = 10.0
"""Seconds that the start of a guest may take, however short its time limit is."""


@dataclass(frozen=True, slots=True)
class SupervisedResult:
    """End of a supervised run. ``stopped_by`` is the number of a signal, or 0.

    A stopped run without a signal and without a timeout stopped after its snapshot.
    """

    outcome: "RunResult"
    seconds: float
    timed_out: bool = False
    stopped_by: int = 0

    @property
    def code(self) -> int:
        """Return the exit code of the command."""
        ending = self.outcome.kind.value
        if ending == "exited":
            return (self.outcome.code or 0) & 0xFF
        if ending == "trapped":
            return exit_codes.ExitCode.TRAPPED
        if self.stopped_by:
            return exit_codes.code_for_signal(self.stopped_by)
        return exit_codes.ExitCode.TIMEOUT if self.timed_out else exit_codes.ExitCode.FINE

    @property
    def with_snapshot(self) -> bool:
        """Return whether --stop-after-snapshot stopped the run after its snapshot."""
        stopped = self.outcome.kind.value == "stopped"
        return stopped and not self.stopped_by and not self.timed_out


def run_until_end(
    recorder: "Recorder",
    timeout: float | None,
    snapshots: "SnapshotOptions",
    forwarded: Collection[Signals] = (),
) -> SupervisedResult:
    """Run the guest until it ends, or the time limit or a signal stops it. Close the journal.

    ``snapshots`` has the triggers that signals fire. The guest gets the signals in ``forwarded`` if
    it has a handler.
    """
    from journaltool.processes import signals

    gc.freeze()
    gc.enable()
    start_time = time.monotonic()
    with signals.watch_signals(recorder, snapshots, forwarded) as watcher, recorder:
        try:
            outcome = recorder.wait(timeout)
            timed_out = outcome is None
            if outcome is None:
                recorder.stop()
                outcome = recorder.wait()
        finally:
            watcher.is_over = True
    assert outcome is not None, "a wait without a limit returns a result"
    stopped = outcome.kind.value == "stopped"
    return SupervisedResult(
        outcome,
        time.monotonic() - start_time,
        timed_out=stopped and timed_out and not watcher.stop_signal,
        stopped_by=watcher.stop_signal if stopped else 0,
    )


@contextmanager
def limit_time(
    seconds: float | None, describe: Callable[[], str], *, quiet: bool
) -> Iterator[None]:
    """End this process with 124 if the block takes longer. ``describe`` completes the message.

    > Why not an exception? Native code, such as a compilation or the guest, would delay it.
    """
    is_done, lock = threading.Event(), threading.Lock()

    def watch(seconds: float) -> None:
        if is_done.wait(min(seconds, threading.TIMEOUT_MAX)):
            return
        with lock:  # Either the block ends first, or the process.
            if not is_done.is_set():
                if not quiet:
                    limit = terminal.format_seconds(seconds)
                    terminal.print_status(f"stopped after {limit}, {describe()}")
                os._exit(exit_codes.ExitCode.TIMEOUT)

    if seconds is not None:
        threading.Thread(target=watch, args=(seconds,), name="journal-limit", daemon=True).start()
    try:
        yield
    finally:
        with lock:
            is_done.set()


@contextmanager
def limit_start(timeout: float | None, journal: Path, *, quiet: bool) -> Iterator[None]:
    """End this process with 124 if the block, which prepares the guest, takes too long.

    It may take ``timeout`` seconds, but at least ``START_SECONDS_MIN``. The journal is as after a
    kill then: a new one does not exist, and an old one can be resumed.
    """
    seconds = None if timeout is None else max(timeout, START_SECONDS_MIN)
    with limit_time(seconds, lambda: _describe_late_start(journal), quiet=quiet):
        yield


def _describe_late_start(journal: Path) -> str:
    what = "before the program was running"
    if not os.path.lexists(journal):
        return what
    return f"{what}; continue with: journaltool resume {shlex.quote(str(journal))}"


def report(
    result: SupervisedResult, journal: str, *, quiet: bool, as_json: bool, resumable: bool
) -> None:
    """Print the details of the end on stderr, beyond the exit code."""
    outcome = result.outcome
    if not quiet:
        if outcome.kind.value == "trapped":
            trace = terminal.indent_backtrace(outcome.backtrace)
            terminal.print_status(f"the guest trapped: {outcome.reason}", *trace)
        elif outcome.kind.value == "stopped":
            terminal.print_status(_describe_stop(result, journal, resumable))
    if as_json:
        terminal.print_status_json(to_json(result, journal))


def _describe_stop(result: SupervisedResult, journal: str, resumable: bool) -> str:
    after = (
        f" after {terminal.format_seconds(round(result.seconds, 1))}" if result.timed_out else ""
    )
    after += " after its snapshot" if result.with_snapshot else ""
    if not resumable:
        return (
            f"stopped{after}; the journal was recorded with --level state, so it cannot be resumed"
        )
    return f"stopped{after}; continue with: journaltool resume {shlex.quote(journal)}"


def to_json(result: SupervisedResult, journal: str) -> dict[str, object]:
    """Return the result as JSON values."""
    from journal import Reader

    with Reader(journal) as reader:
        events = reader.summary().events
    outcome = result.outcome
    return {
        "journal": journal,
        "outcome": outcome.kind.value,
        "exit_code": outcome.code,
        "reason": outcome.reason,
        "backtrace": outcome.backtrace,
        "events": events,
        "seconds": round(result.seconds, 6),
        "timed_out": result.timed_out,
        "stopped_with_snapshot": result.with_snapshot,
        "signal": Signals(result.stopped_by).name if result.stopped_by else None,
    }

"""Progress of long operations on stderr, and their safe interruption."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from journaltool.output import terminal

ProgressCallback = Callable[[str, int, int], object]

QUIET_SECONDS = 0.5
"""A phase that takes no longer than this shows nothing."""
QUIET_SECONDS_IN_LOGS = 2.0
"""The same where stderr is not a terminal: a line stays there."""
DELAY_VARIABLE = "JOURNALTOOL_PROGRESS_DELAY"
"""Environment variable with another number of seconds for both, for scripts that compare output."""
REDRAW_SECONDS = 0.25
"""Time between two updates of the line on a terminal."""
REPEAT_SECONDS = 10.0
"""Time between two lines of one phase where stderr is not a terminal."""


class _Phase:
    """A phase of an operation, since its first report."""

    __slots__ = ("done", "is_shown", "shown_time", "size", "start_time", "what")

    def __init__(self, what: str, now: float) -> None:
        self.what, self.done, self.size = what, 0, 0
        self.start_time = self.shown_time = now
        self.is_shown = False

    def describe(self, now: float) -> str:
        """Return the phase with its share, if that is known, and its time."""
        share = f"{100 * self.done // self.size} %, " if self.done and self.size else ""
        return f"{self.what}: {share}{format_elapsed(now - self.start_time)}"


class ProgressDisplay:
    """Display of the phases that take longer than a moment, as a context manager.

    On a terminal, one line shows the phase, and disappears at its end. Elsewhere each phase has a
    line when it is shown first, one every ``REPEAT_SECONDS``, and one at its end. A thread writes
    them, because a phase such as a compilation reports only its begin and its end. When the report
    of the end of a phase returns, the line has gone, and nothing is written until the next phase.
    """

    def __init__(self, *, is_terminal: bool) -> None:
        self._is_terminal = is_terminal
        self._quiet_seconds = _read_delay(QUIET_SECONDS if is_terminal else QUIET_SECONDS_IN_LOGS)
        self._changed = threading.Condition()
        self._phase: _Phase | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        # Short phases that follow each other are silent only as long as one of them may be.
        self._silent_since = self._end_time = -self._quiet_seconds

    def __enter__(self) -> ProgressCallback:
        return self.report

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closed = True
            self._phase = None
            with suppress(OSError):
                terminal.clear_transient_line()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def report(self, what: str, done: int, size: int) -> None:
        """Note how much of a phase is done. The phase ends when all of it is."""
        phase = self._phase
        if done >= size:
            if phase is not None:
                self._end(phase)
            return
        if phase is None or phase.what != what:
            phase = self._begin(what)
        phase.done, phase.size = done, size

    def _begin(self, what: str) -> _Phase:
        with self._changed:
            now = time.monotonic()
            if now - self._end_time >= self._quiet_seconds:
                self._silent_since = now
            self._phase = phase = _Phase(what, now)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="journal-progress", daemon=True
                )
                self._thread.start()
            self._changed.notify()
        return phase

    def _end(self, phase: _Phase) -> None:
        with self._changed:
            self._phase = None
            self._end_time = time.monotonic()
            with suppress(OSError):  # A message that nobody can read does not end the work.
                terminal.clear_transient_line()
                if phase.is_shown and not self._is_terminal:
                    elapsed = format_elapsed(self._end_time - phase.start_time)
                    terminal.print_status(f"{phase.what}: done after {elapsed}")

    def _run(self) -> None:
        with self._changed, suppress(OSError):
            while not self._is_closed:
                if self._phase is None:
                    self._changed.wait()
                else:
                    self._changed.wait(self._show(self._phase, time.monotonic()))

    def _show(self, phase: _Phase, now: float) -> float:
        """Show the phase if it is time for that, and return the seconds until the next time."""
        since = self._silent_since if self._is_terminal else phase.start_time
        if now < since + self._quiet_seconds:
            return since + self._quiet_seconds - now
        if self._is_terminal:
            terminal.show_transient_line(phase.describe(now))
            return REDRAW_SECONDS
        if phase.is_shown and now < phase.shown_time + REPEAT_SECONDS:
            return phase.shown_time + REPEAT_SECONDS - now
        terminal.print_status(phase.describe(now) if phase.is_shown else phase.what)
        phase.is_shown, phase.shown_time = True, now
        return REPEAT_SECONDS


def _read_delay(default: float) -> float:
    """Return the number of seconds in the environment, or ``default`` if there is none."""
    text = os.environ.get(DELAY_VARIABLE, "")
    is_number = text.isascii() and text.isdecimal()
    return min(float(text), threading.TIMEOUT_MAX / 2) if is_number else default


def format_elapsed(seconds: float) -> str:
    """Return a time as ``7 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else _format_hours(whole)


def _format_hours(seconds: int) -> str:
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def ignore(what: str, done: int, size: int) -> None:
    """Do nothing: a callback for the progress of a quiet command."""


@contextmanager
def show_progress(quiet: bool, *, to_stdout: bool = False) -> Iterator[ProgressCallback]:
    """Yield the callback of a display, which shows nothing if ``quiet``.

    ``to_stdout`` says that the command writes data to stdout meanwhile. It shows nothing if that is
    a terminal, which the data fills.
    """
    if quiet or (to_stdout and sys.stdout.isatty()):
        yield ignore
        return
    with ProgressDisplay(is_terminal=sys.stderr.isatty()) as report:
        yield report


@contextmanager
def show_phase(what: str, quiet: bool, *, to_stdout: bool = False) -> Iterator[None]:
    """Show the block as one phase whose share is not known, as ``show_progress`` does."""
    with show_progress(quiet, to_stdout=to_stdout) as report:
        report(what, 0, 1)
        yield


@contextmanager
def defer_interrupts(report: ProgressCallback) -> Iterator[ProgressCallback]:
    """Yield a callback that raises the exception of a SIGINT or SIGTERM at its next call.

    At a callback the operation can clean up. An exception elsewhere could leave files that nothing
    removes. A second signal raises at once. Work after the last callback is completed.
    """
    arrived: list[tuple[int, FrameType | None]] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def raise_first() -> None:
        for number, frame in arrived[:1]:
            handler = before[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)
            raise KeyboardInterrupt

    def interrupt(number: int, frame: FrameType | None) -> None:
        arrived.append((number, frame))
        if len(arrived) > 1:
            raise_first()

    def check(what: str, done: int, size: int) -> None:
        raise_first()
        report(what, done, size)

    changed = [number for number, handler in before.items() if callable(handler)]
    for number in changed:
        signal.signal(number, interrupt)
    try:
        yield check
    finally:
        for number in changed:
            signal.signal(number, before[number])

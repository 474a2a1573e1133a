"""A bar on stderr that tells how far a long work on a journal is."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ProgressCallback = Callable[[str, int, int], object]

SIZE_MIN = 1 << 26
"""Bytes below which no bar is worth its room."""
_STEP_SIZE = 1 << 22
"""Bytes between two looks at the bar."""


class _ProgressBar:
    """A bar that appears when there is something long to tell."""

    def __init__(self) -> None:
        self._drawn: tuple[str, Callable[[int], None]] | None = None
        self._next = 0
        self.end: Callable[[], None] = lambda: None

    def report(self, what: str, done: int, size: int) -> None:
        """Show how many bytes are done of how many."""
        if size < SIZE_MIN or (self._drawn and self._drawn[0] == what and done < self._next):
            return
        if self._drawn is None or self._drawn[0] != what:
            self.end()
            self._drawn = (what, self._begin(what, size))
        self._next = done + _STEP_SIZE if done < size else 0
        self._drawn[1](done)

    def _begin(self, what: str, size: int) -> Callable[[int], None]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        shown = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        task = shown.add_task(what, total=size)
        shown.start()
        self.end = shown.stop
        return lambda done: shown.update(task, completed=done)


@contextmanager
def show_bar(wanted: bool = True) -> Iterator[ProgressCallback | None]:
    """What a work reports to; None where nobody could see it."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    shown = _ProgressBar()
    try:
        yield shown.report
    finally:
        shown.end()


@contextmanager
def defer_interrupts(report: ProgressCallback | None) -> Iterator[ProgressCallback]:
    """What a work reports to that Ctrl-C ends at its next report, where it can clear up.

    Wherever else it came, something could be left that nobody knows of yet. A second Ctrl-C does
    not wait. What is done when the first has come is done.
    """
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def watched(what: str, done: int, size: int) -> None:
        if asked:
            raise KeyboardInterrupt
        if report is not None:
            report(what, done, size)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield watched
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield watched
    finally:
        signal.signal(signal.SIGINT, before)

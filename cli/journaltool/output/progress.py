"""Progress bar on stderr, and a safe interruption of long operations."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ProgressCallback = Callable[[str, int, int], object]

SIZE_MIN = 1 << 26
"""Operations on fewer bytes have no bar."""
_STEP_SIZE = 1 << 22
"""Bytes between two updates of the bar."""


class _ProgressBar:
    """Progress bar that appears at the first report of a large operation."""

    def __init__(self) -> None:
        self._drawn: tuple[str, Callable[[int], None]] | None = None
        self._next = 0
        self.end: Callable[[], None] = lambda: None

    def report(self, what: str, done: int, size: int) -> None:
        """Show how many of ``size`` bytes of an operation are done."""
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
def show_bar(is_requested: bool = True) -> Iterator[ProgressCallback | None]:
    """Yield the callback of a bar, or None if stderr is not a terminal or no bar is requested."""
    if not is_requested or not sys.stderr.isatty():
        yield None
        return
    progress_bar = _ProgressBar()
    try:
        yield progress_bar.report
    finally:
        progress_bar.end()


@contextmanager
def defer_interrupts(report: ProgressCallback | None) -> Iterator[ProgressCallback]:
    """Yield a callback that raises ``KeyboardInterrupt`` at its first call after a SIGINT.

    At a callback the operation can clean up. An exception elsewhere could leave files that nothing
    removes. A second SIGINT raises at once. Work after the last callback is completed.
    """
    is_interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal is_interrupted
        if is_interrupted:
            raise KeyboardInterrupt
        is_interrupted = True

    def check(what: str, done: int, size: int) -> None:
        if is_interrupted:
            raise KeyboardInterrupt
        if report is not None:
            report(what, done, size)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield check
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)

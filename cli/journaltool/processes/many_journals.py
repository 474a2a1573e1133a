"""One command for many journals: worker processes, lines of output, and the gravest exit code."""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from journaltool import error_report, exit_codes
from journaltool.options import many
from journaltool.output import progress, terminal
from journaltool.output.phrases import format_count

if TYPE_CHECKING:
    from journal.operations import MapResult

Values = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyTask:
    """Work of a command for each journal.

    ``function`` returns JSON values; a worker process imports it. ``verb`` is such as ``checking``.
    ``find_verdict`` returns a word, ``find_code`` the exit code, and ``describe`` the lines of the
    output for one journal: the first one follows its verdict and path. Without ``keeps_results``,
    something besides the journal decides the result, so it is not stored.
    """

    command: str
    verb: str
    function: Callable[[Path], Values]
    find_verdict: Callable[[Values], str]
    find_code: Callable[[Values], exit_codes.ExitCode]
    describe: Callable[[Values], list[str]]
    rewrites: bool = False
    keeps_results: bool = True
    seconds_max: float | None = None
    total_seconds_max: float | None = None


def run_task(
    task: ManyTask,
    journals: Sequence[Path],
    options: many.ManyArguments,
    *,
    quiet: bool,
    as_json: bool,
) -> exit_codes.ExitCode:
    """Do the work for all journals, print the results, and return the gravest exit code.

    Raises KeyboardInterrupt, after a sentence that says how far the work came.
    """
    from journal import map as map_journals

    report = _Report(task, len(journals), quiet=quiet, as_json=as_json)
    deadline = _find_deadline(task.total_seconds_max)
    with _keep_answering(report), progress.show_progress(quiet) as show:
        results = map_journals(
            task.function,
            journals,
            jobs=options.jobs,
            state=_prepare_state(task),
            again=options.again,
            rewrites=task.rewrites,
            seconds_max=task.seconds_max,
            memory_size_max=options.job_memory,
            stop=None if deadline is None else lambda: time.monotonic() >= deadline,
            progress=report.make_callback(show),
        )
        with closing(_as_generator(results)) as found:
            for result in found:
                report.add(result)
    return report.finish()


def _as_generator(results: "Iterator[MapResult[Values]]") -> "Any":
    """Return the iterator of the library, which has ``close``."""
    return results


def _find_deadline(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds


def _prepare_state(task: ManyTask) -> Path | None:
    """Return the file for results, or None if none can be kept."""
    path = many.find_state(task.command) if task.keeps_results else None
    if path is None:
        return None
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path if os.access(path.parent, os.W_OK) else None


@contextmanager
def _keep_answering(report: "_Report") -> Iterator[None]:
    """Say how far the work came if a signal ends it."""
    try:
        yield
    except KeyboardInterrupt:
        terminal.print_status(report.describe_stop())
        raise


class _Report:
    """Output of the results, and their counts."""

    def __init__(self, task: ManyTask, count: int, *, quiet: bool, as_json: bool) -> None:
        self._task, self._count = task, count
        self._quiet, self._as_json = quiet, as_json
        self._verdicts: Counter[str] = Counter()
        self._codes: set[exit_codes.ExitCode] = set()
        self._remembered = 0
        self._done = 0

    def make_callback(self, show: progress.ProgressCallback) -> progress.ProgressCallback:
        """Return the callback for the library."""
        what = f"{self._task.verb} {format_count(self._count, 'journal')}"

        def note(_: str, done: int, size: int) -> None:
            self._done = done if done < size else self._done
            show(what, done, size)

        return note

    def add(self, result: "MapResult[Values]") -> None:
        """Print the result for one journal."""
        self._remembered += result.is_remembered
        if result.error is not None:
            self._add_error(result.path, result.error)
            return
        assert result.value is not None, "a result has a value or an error"
        # A stored value has the path as it was spelled then.
        names = [name for name in ("journal", "source", "target") if result.value.get(name)]
        values = result.value | dict.fromkeys(names, str(result.path))
        verdict = self._task.find_verdict(values)
        self._verdicts[verdict] += 1
        self._codes.add(self._task.find_code(values))
        if self._as_json:
            self._print_json(values | {"remembered": result.is_remembered})
        elif not self._quiet:
            first, *others = self._task.describe(values)
            path = terminal.quote(str(result.path))
            self._print_line(f"{verdict}  {path}  {first}", *(f"    {line}" for line in others))

    def finish(self) -> exit_codes.ExitCode:
        """Print the counts, and return the gravest exit code."""
        left = self._count - self._verdicts.total()
        if left:
            self._verdicts["not done"] = left
            self._codes.add(exit_codes.ExitCode.UNFINISHED)
        if not (self._as_json or self._quiet):
            counts = ", ".join(f"{count} {verdict}" for verdict, count in self._verdicts.items())
            line = f"{format_count(self._count, 'journal')}: {counts}"
            if self._remembered:
                line += f"; {self._remembered} unchanged since an earlier run (--again repeats)"
            self._print_line(line)
        return exit_codes.find_gravest(self._codes)

    def describe_stop(self) -> str:
        """Return a sentence that says how far the work came."""
        done = max(self._done, self._verdicts.total())
        kept = "; the same command continues" if self._task.keeps_results else ""
        return f"stopped after {done} of {format_count(self._count, 'journal')}{kept}"

    def _add_error(self, path: Path, error: Exception) -> None:
        reason = error_report.describe_error(error, path)
        self._verdicts["failed"] += 1
        self._codes.add(exit_codes.code_for_error(error))
        if getattr(error, "timed_out", False):
            self._codes.add(exit_codes.ExitCode.TIMEOUT)
        terminal.print_status(f"error: {reason}")
        if self._as_json:
            values = {"journal": str(path), "error": type(error).__name__, "message": reason}
            self._print_json(values)

    def _print_json(self, values: Values) -> None:
        self._print_line(json.dumps(values))

    def _print_line(self, *lines: str) -> None:
        terminal.clear_transient_line()
        sys.stdout.write("".join(f"{terminal.escape(line)}\n" for line in lines))
        sys.stdout.flush()

"""One function for many journals, in worker processes."""

import json
import multiprocessing
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from journal._arguments import (
    check_callable,
    check_each,
    check_flag,
    check_int,
    check_optional,
    check_path,
    check_seconds,
)
from journal._platform import find_interpreter
from journal.errors import JobFailed, OptionError, WrongProcess
from journal.log.seal_keys import serialize_keys
from journal.operations.finished_work import FinishedWork
from journal.operations.map_worker import JobReply, MapWorker, WorkerSetup
from journal.rewrite.progress import ProgressCallback, check_progress

T = TypeVar("T")

JOBS_MAX = 1024
"""Largest number of worker processes."""
MEMORY_SIZE_MIN = 64 << 20
"""Smallest limit in bytes of the memory of a worker. Python and the library need half of it."""

_RESULTS_AHEAD_MAX = 256
"""Number of results that wait for the result of an earlier journal."""
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class MapResult(Generic[T]):
    """Result of the function for one journal.

    ``error`` is what the function raised, or a ``JobFailed`` if its process did not return a
    result. ``is_remembered`` says that the value is from an earlier run.
    """

    path: Path
    value: T | None
    error: Exception | None = None
    is_remembered: bool = False

    def get(self) -> T:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        value: Any = self.value
        return value  # type: ignore[no-any-return]


def map(
    function: Callable[[Path], T],
    paths: Iterable[str | os.PathLike[str]],
    *,
    jobs: int | None = None,
    state: str | os.PathLike[str] | None = None,
    again: bool = False,
    rewrites: bool = False,
    seconds_max: float | None = None,
    memory_size_max: int | None = None,
    stop: Callable[[], bool] | None = None,
    progress: ProgressCallback | None = None,
) -> Iterator[MapResult[T]]:
    """Call a function for each journal in worker processes, and yield the results in order.

    A result is yielded as soon as those before it are. ``function`` is called with a path; it must
    be defined in a module, or be a ``functools.partial`` of such a function. An exception of one
    call, or the death of its process, is the ``error`` of one result and stops nothing else. There
    are ``jobs`` processes, by default one for each processor that this process may use.

    With ``state``, values must be values that JSON has, and are stored in this file. A later run
    with the same function takes them from there for journals whose files are unchanged (path, size,
    times and inode), unless it has ``again``. ``rewrites`` says that the function replaces each
    journal, so that the new one counts as done. Remove the file to forget all results.

    A call that takes longer than ``seconds_max`` is ended. ``memory_size_max`` bounds the memory of
    each process. When ``stop`` returns true, all processes end, and so does the iteration; the
    same happens when the iterator is closed.
    """
    check_callable("function", function)
    checked = check_each("paths", paths, check_path, what="paths")
    count = check_optional("jobs", jobs, check_int, 1, JOBS_MAX)
    file = check_optional("state", state, check_path)
    check_flag("again", again)
    check_flag("rewrites", rewrites)
    check_optional("seconds_max", seconds_max, _check_time_limit)
    check_optional("memory_size_max", memory_size_max, check_int, MEMORY_SIZE_MIN)
    check_optional("stop", stop, check_callable)
    report = check_progress(progress)
    keys = serialize_keys()
    setup = WorkerSetup(_pickle(function), keys, file is not None, rewrites, memory_size_max)
    work = None
    if file is not None:
        work = FinishedWork(file, _name_task(setup), again=again)
    limits = _Limits(count or count_processors(), seconds_max or float("inf"), stop)
    return _Run[T](checked, setup, limits, work, report).results()


def _pickle(function: Callable[[Path], Any]) -> bytes:
    """Return what a worker process needs to import the function.

    Raises OptionError if it could not, or if no worker process can be started.
    """
    if find_interpreter() is None:
        raise OptionError("a frozen program cannot start worker processes: call the function")
    if multiprocessing.current_process().daemon:
        raise OptionError("map cannot be called in a worker process: call the function")
    try:
        return pickle.dumps(function)
    except Exception as error:
        raise OptionError(
            f"function must be defined in a module, so that a worker can import it ({error})"
        ) from None


def _name_task(setup: WorkerSetup) -> bytes:
    """Return bytes that tell the function, its arguments and the keys from others."""
    program = ""
    if b"__main__" in setup.function:  # Functions of two programs may have one name.
        program = os.path.abspath(getattr(sys.modules["__main__"], "__file__", ""))  # noqa: PTH100
    return pickle.dumps((setup.function, setup.keys, program))


def count_processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return min(JOBS_MAX, len(os.sched_getaffinity(0)))
    return min(JOBS_MAX, os.cpu_count() or 1)


def _check_time_limit(name: str, value: Any) -> float:
    return check_seconds(name, value, can_be_zero=False)


class _Limits(NamedTuple):
    """Number of workers, seconds of a job, and the function that says when to stop."""

    jobs: int
    seconds_max: float
    stop: Callable[[], bool] | None


class _Run(Generic[T]):
    """A run over journals. ``_finished`` has results by position until they are yielded."""

    def __init__(
        self,
        paths: list[Path],
        setup: WorkerSetup,
        limits: _Limits,
        work: FinishedWork | None,
        report: ProgressCallback,
    ) -> None:
        self._paths, self._setup, self._limits, self._work = paths, setup, limits, work
        self._report, self._process = report, os.getpid()
        self._finished: dict[int, MapResult[T]] = {}
        self._workers: list[MapWorker] = []
        self._started = self._yielded = self._done = 0
        self._what = f"working on {len(paths)} journals"

    def results(self) -> Iterator[MapResult[T]]:
        """Yield the results in order."""
        count = len(self._paths)
        is_complete = False
        try:
            if count:
                self._report(self._what, 0, count)
            while self._yielded < count:
                self._check_process()
                self._start_jobs()
                if self._yielded not in self._finished:
                    if self._limits.stop is not None and self._limits.stop():
                        return
                    self._receive(self._find_timeout())
                    continue
                self._receive(0.0)
                self._start_jobs()  # The workers continue while the caller uses the result.
                found = self._finished.pop(self._yielded)
                self._yielded += 1
                yield found
            is_complete = True
        finally:
            self._close(at_once=not is_complete)
            if count:
                self._report(self._what, count, count)

    def _check_process(self) -> None:
        process = os.getpid()
        if process != self._process:
            raise WrongProcess("the iterator of map", self._process, process)

    def _start_jobs(self) -> None:
        """Give journals to idle workers, and take stored results for others."""
        last = min(len(self._paths), self._yielded + _RESULTS_AHEAD_MAX)
        while self._started < last:
            worker = next((one for one in self._workers if one.index is None), None)
            if worker is None and len(self._workers) == self._limits.jobs:
                return
            index, path = self._started, self._paths[self._started]
            self._started += 1
            text = None if self._work is None else self._work.find(path)
            if text is not None:
                self._finish(index, MapResult(path, json.loads(text), is_remembered=True))
                continue
            if worker is None:
                worker = MapWorker(self._setup)
                self._workers.append(worker)
            worker.start_job(index, path)
            self._set_deadline(worker)

    def _set_deadline(self, worker: MapWorker) -> None:
        """Begin the time of a job. The start of the process does not count."""
        worker.deadline = float("inf")
        if worker.is_ready and worker.index is not None:
            worker.deadline = time.monotonic() + self._limits.seconds_max

    def _find_timeout(self) -> float | None:
        """Return the seconds until a deadline, or until ``stop`` is asked again."""
        seconds = min(one.deadline for one in self._workers) - time.monotonic()
        if self._limits.stop is not None:
            seconds = min(seconds, _POLL_SECONDS)
        return None if seconds == float("inf") else max(0.0, seconds)

    def _receive(self, timeout: float | None) -> None:
        """Wait for a worker, and take the results that are there."""
        busy = [one for one in self._workers if one.index is not None]
        ready = wait([one.connection for one in busy], timeout)
        now = time.monotonic()
        for worker in busy:
            if worker.connection in ready:
                self._take_reply(worker)
            elif worker.deadline <= now:
                self._end_late(worker)

    def _take_reply(self, worker: MapWorker) -> None:
        index, reply = worker.index, worker.receive()
        assert index is not None, "only busy workers are waited for"
        if reply is None:
            self._note_death(worker, index)
        elif worker.is_ready:
            worker.index = None
            self._finish(index, self._make_result(self._paths[index], reply))
        elif reply.error is not None:
            raise reply.error
        else:
            worker.is_ready = True
            self._set_deadline(worker)

    def _make_result(self, path: Path, reply: JobReply) -> MapResult[T]:
        if reply.error is not None:
            return MapResult(path, None, reply.error)
        if self._work is None:
            return MapResult(path, reply.value)
        if reply.identity:
            self._work.add(path, reply.identity, reply.value)
        return MapResult(path, json.loads(reply.value))

    def _note_death(self, worker: MapWorker, index: int) -> None:
        self._workers.remove(worker)
        worker.request_end(at_once=False)
        ending = worker.end()
        if not worker.is_ready:
            raise JobFailed(
                f"a worker process ended with {ending} before it was ready: a program must call "
                "map in a function, below if __name__ == '__main__'"
            )
        reason = f"its worker process ended with {ending} before it had a result"
        self._finish(index, MapResult(self._paths[index], None, JobFailed(reason)))

    def _end_late(self, worker: MapWorker) -> None:
        """End the process of a job that takes too long."""
        index = worker.index
        assert index is not None, "only busy workers have a deadline"
        self._workers.remove(worker)
        worker.request_end(at_once=True)
        worker.end()
        reason = f"no result after {self._limits.seconds_max:g} s, the limit of seconds_max"
        error = JobFailed(reason, timed_out=True)
        self._finish(index, MapResult(self._paths[index], None, error))

    def _finish(self, index: int, result: MapResult[T]) -> None:
        self._finished[index] = result
        self._done += 1
        if self._done < len(self._paths):
            self._report(self._what, self._done, len(self._paths))

    def _close(self, *, at_once: bool) -> None:
        """End all workers, and tidy the file of stored results, except in a forked child."""
        if os.getpid() != self._process:
            return
        try:
            for worker in self._workers:
                worker.request_end(at_once=at_once)
            for worker in self._workers:
                worker.end()
        finally:
            self._workers.clear()
            if self._work is not None:
                self._work.tidy()

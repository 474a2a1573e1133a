"""Worker process of ``map``, and its handle in the process that waits for the results.

The worker is started anew, never forked: threads of wasmtime do not survive a fork. It ends with
its parent. Ctrl-C reaches only the parent, which then stops its workers.
"""

import json
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from journal.errors import JobFailed, JournalError, OptionError
from journal.log.seal_keys import SerializedKeys, use_serialized_keys
from journal.operations.finished_work import JournalIdentity, read_identity

RESULT_SIZE_MAX = 64 << 20
"""Largest size in bytes of a result."""
GRACE_SECONDS = 2.0
"""Time in which a stopped worker may remove its unfinished files before it is killed."""

_OOM_SCORE = "1000"


class WorkerSetup(NamedTuple):
    """Instructions for a worker.

    ``function`` is pickled, and ``keys`` are the serialized keys of sealed journals. With
    ``is_json``, values are returned as JSON. ``rewrites`` says that the function replaces the
    journal.
    """

    function: bytes
    keys: SerializedKeys
    is_json: bool
    rewrites: bool
    memory_size_max: int | None


class JobReply(NamedTuple):
    """Answer of a worker: when it is ready, and then for each journal.

    ``identity`` is that of the journal for which the value is true; it is empty if the journal may
    have changed meanwhile.
    """

    value: Any = None
    error: Exception | None = None
    identity: str = ""


class MapWorker:
    """Handle of a worker process.

    ``index`` is the position of the journal on which it works, or None. ``is_ready`` says whether
    the process has imported the function.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.index: int | None = None
        self.is_ready = False
        self.deadline = float("inf")
        self._process = context.Process(
            target=run_worker, args=(theirs, setup), name="journal-map", daemon=True
        )
        try:
            with _blocking_sigint():
                self._process.start()
        finally:
            theirs.close()

    def start_job(self, index: int, path: Path) -> None:
        """Let the worker do the next journal."""
        self.index = index
        with suppress(BrokenPipeError):  # The worker has died: ``receive`` notices it.
            self.connection.send_bytes(os.fsencode(path))

    def receive(self) -> JobReply | None:
        """Return the answer of the worker, or None if it has ended."""
        try:
            data = self.connection.recv_bytes()
        except (EOFError, OSError):
            return None
        try:
            reply = pickle.loads(data)
        except Exception as error:
            reason = f"the result cannot be read: {type(error).__name__}: {error}"
            return JobReply(error=JobFailed(reason))
        assert isinstance(reply, JobReply)
        return reply

    def request_end(self, *, at_once: bool) -> None:
        """Let the process end after its work, or at once."""
        self.connection.close()
        if at_once:
            self._process.terminate()

    def end(self) -> str:
        """Wait for the end of the process, kill it if that takes too long, and say how it ended."""
        try:
            self._process.join(GRACE_SECONDS)
        finally:
            if self._process.is_alive():
                self._process.kill()
        self._process.join()
        code = self._process.exitcode or 0
        self._process.close()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


@contextmanager
def _blocking_sigint() -> Iterator[None]:
    """Let a process that is started meanwhile not be interrupted before it ignores SIGINT."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# -- the worker process ---------------------------------------------------------------------------


def run_worker(connection: Connection, setup: WorkerSetup) -> None:
    """Run the worker process until its parent closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    threading.Thread(target=_end_with_parent, name="journal-parent", daemon=True).start()
    _limit_memory(setup.memory_size_max)
    use_serialized_keys(setup.keys)
    try:
        function: Callable[[Path], Any] = pickle.loads(setup.function)
    except Exception as error:
        reason = f"function cannot be imported in a worker process ({type(error).__name__}: "
        reason += f"{error}): define it in a module, not in an interactive session"
        connection.send_bytes(_pack(JobReply(error=OptionError(reason))))
        return
    connection.send_bytes(_pack(JobReply()))
    while True:
        try:
            path = Path(os.fsdecode(connection.recv_bytes()))
        except (EOFError, OSError):
            return
        data = _pack(_do_job(function, path, setup))
        with suppress(BrokenPipeError):
            connection.send_bytes(data)


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)  # Unwinding removes unfinished files.


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "the parent has started this process"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def _limit_memory(size_max: int | None) -> None:
    """Bound the memory of this process, and let the kernel end it first if memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    if size_max is None:
        return
    import resource  # Windows has no such module.

    # Unlike RLIMIT_AS, this limit does not count the address space that wasmtime reserves.
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = size_max if hard == resource.RLIM_INFINITY else min(size_max, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _do_job(function: Callable[[Path], Any], path: Path, setup: WorkerSetup) -> JobReply:
    start_ns = time.time_ns()
    before = _find_identity(path)
    try:
        value = function(path)
    except Exception as error:
        if not isinstance(error, JournalError | OSError | MemoryError):
            error.add_note("".join(traceback.format_exception(error)))
        return JobReply(error=error)
    if not setup.is_json:
        return JobReply(value)
    try:
        text = json.dumps(value)
    except (TypeError, ValueError) as error:
        reason = f"with state, function must return values that JSON has ({error})"
        return JobReply(error=OptionError(reason))
    after = _find_identity(path)
    is_settled = before == after and before is not None and before.was_settled(start_ns)
    is_known = after is not None and (setup.rewrites or is_settled)
    return JobReply(text, identity=after.digest if after is not None and is_known else "")


def _find_identity(path: Path) -> JournalIdentity | None:
    try:
        return read_identity(path)
    except OSError:
        return None


def _pack(reply: JobReply) -> bytes:
    """Return the bytes of a reply. A result that cannot be sent becomes an error."""
    try:
        data = pickle.dumps(reply)
        if reply.error is not None:
            pickle.loads(data)  # Not every class of errors can be made again.
    except Exception as error:
        if reply.error is not None:
            reason = f"{type(reply.error).__name__}: {reply.error}"
        else:
            reason = f"the result cannot be sent: {type(error).__name__}: {error}"
        return pickle.dumps(JobReply(error=JobFailed(reason)))
    if len(data) > RESULT_SIZE_MAX:
        reason = f"the result has {len(data)} bytes: the limit is {RESULT_SIZE_MAX}"
        return pickle.dumps(JobReply(error=JobFailed(reason)))
    return data

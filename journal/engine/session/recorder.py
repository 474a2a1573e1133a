"""Recorder: a guest in a thread of its own, with methods to wait for, feed, inspect and stop it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from journal._arguments import (
    check_callable,
    check_choice,
    check_flag,
    check_int,
    check_path,
    check_seconds,
    check_text,
)
from journal.engine.session.process import Process
from journal.engine.session.run_config import SessionConfig, StrPath
from journal.engine.session.run_monitor import RunMonitor
from journal.engine.session.run_result import RunResult
from journal.engine.session.standard_streams import StandardStreams
from journal.engine.snapshot.suspension import SnapshotCoordinator
from journal.engine.wasi.stdio.outbox import STDERR, STDOUT
from journal.engine.wasi.stdio.stdin import FedSource, Interrupter
from journal.errors import JournalError, NotResumable, OptionError
from journal.events.snapshots import Trigger
from journal.fs.open_resources import OPEN_RESOURCES, HomeProcess, OwnThread, close_unclosed
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.rewrite.block_copier import check_new_journal
from journal.wasi_abi import to_guest_signal

if TYPE_CHECKING:
    from journal.compaction import BackgroundCompactor, CompactionSchedule, OnlineCompactionResult
    from journal.engine.session.process_tree import ProcessTree
    from journal.engine.snapshot.forked_state import ForkedState

#: Stack size in bytes for Python frames below and above the frames of the guest.
THREAD_STACK_EXTRA = 16 << 20

_NO_SNAPSHOTS = "snapshots cannot be taken: the run was started without snapshots"
_ENDED = "the guest has ended: it cannot be forked while it runs; fork its journal"
_NO_SAFE_POINT = "the guest was not forked: it reached no safe point before the timeout"

_SIGNAL_MAX = 64

FORK_COUNT_MAX = 1024
"""Largest number of children of one fork of a running guest."""

STACK_SIZE_LOCK = threading.Lock()


class _CompactionAbandoned(Exception):
    """Raised by the progress of a compaction that must not delay the end of a run."""


class Recorder:
    """A guest that runs in a thread of its own and is recorded in a journal; a context manager.

    Entering starts the guest. Leaving stops the guest if it still runs, and closes the journal,
    which can be resumed. :func:`record` and :func:`resume` of :mod:`journal.engine.session.api`
    create recorders.

    ``stop``, ``signal`` and ``notify`` may be called from any thread and from signal handlers.
    ``feed``, ``close_stdin``, ``wait``, ``snapshot`` and the output properties may be called from
    any thread. ``start`` and ``close`` belong to one thread. ``ended_before`` says whether the
    program had ended before this session. ``differences`` has one sentence for each difference
    between the host and the recording that a resume found.

    In a forked child each call raises ``WrongProcess``, and ``close`` and the end of a ``with``
    block do nothing. A recorder that nobody closed is closed with a ``ResourceWarning``.
    """

    _closed = True

    def __init__(
        self,
        writer: Writer,
        streams: StandardStreams,
        interrupter: Interrupter,
        config: SessionConfig,
        *,
        process: Process | None = None,
        recorded_result: RunResult | None = None,
        replay: Callable[[], Process] | None = None,
        reader: Reader | None = None,
        differences: tuple[str, ...] = (),
        tree: "ProcessTree | None" = None,
    ) -> None:
        self._writer = writer
        self._tree = tree
        self._config = config
        self._compaction = config.compaction
        self._note = config.note
        self._compactor: BackgroundCompactor | None = None
        self._reader = reader
        self._streams = streams
        self._interrupter = interrupter
        self._process = process
        self._replay = replay
        self._thread: threading.Thread | None = None
        self._result = recorded_result
        self._is_in_haste = False
        self._error: BaseException | None = None
        self._monitor = RunMonitor(writer.path)
        self._end_lock = threading.Lock()
        self._end_callbacks: list[Callable[[], object]] | None = []
        if recorded_result is not None:
            self._end_callbacks = None
        self._home = HomeProcess()
        self.ended_before = recorded_result is not None
        self.differences = differences
        if tree is not None and process is not None:
            tree.set_root(process, self)
        self._closed = False
        OPEN_RESOURCES.release_in_children(self)
        OPEN_RESOURCES.close_at_exit(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """Return the path of the journal."""
        return self._writer.path

    def set_path(self, path: StrPath) -> None:
        """Set the path of a journal that is being renamed: call this before the rename."""
        self._home.check(self.path)
        self._writer.set_path(path)
        if self._process is not None and self._process.pages is not None:
            self._process.pages.set_path(path)
        if self._process is not None:
            self._process.mounts.own_files.add_journal(path)
        if self._tree is not None:
            self._tree.set_path(check_path("path", path))

    def start(self) -> None:
        """Start the guest in its thread."""
        self._home.check(self.path)
        if self._result is None and self._thread is None:
            assert self._process is not None
            self._process.report_to(self._monitor)
            self._monitor.start(is_resumed=self._process.tape.replaying)
            if self._tree is not None:
                self._tree.start_resumed()
            self._start_thread(self._process)
            if self._compaction is not None and self._compaction.is_active:
                self._start_compactor(self._compaction, self._process)

    def _start_compactor(self, compaction: "CompactionSchedule", process: Process) -> None:
        from journal.compaction import BackgroundCompactor  # Most runs need no compaction.

        # A replay reads the journal in its original state, so compaction waits for its end.
        self._compactor = BackgroundCompactor(
            self._writer,
            compaction,
            is_allowed=lambda: not process.tape.replaying,
            report=self._report_compaction,
        )
        self._compactor.start()

    def _report_compaction(self, result: "OnlineCompactionResult | JournalError") -> None:
        if isinstance(result, JournalError):
            self._note_failure(result)
        else:
            self._monitor.end_compaction(result.compaction)

    def _note_failure(self, error: JournalError) -> None:
        self._monitor.end_compaction(error)
        self._note(f"the journal was not compacted and stays unchanged: {error}")

    def _start_thread(self, process: Process) -> None:
        self._thread = start_guest_thread(lambda: self._run_guest(process), process.stack_size)

    def _run_guest(self, process: Process) -> None:
        try:
            result = process.run()
            process.check_observer()
            if self._tree is not None:
                self._tree.check_error()
            self._result = result
        except BaseException as error:
            self._error = error
        finally:
            if self._tree is not None:
                self._tree.stop()
            if process.monitor is not None:
                process.monitor.end(self._result, self._error)
            with self._end_lock:
                callbacks, self._end_callbacks = self._end_callbacks, None
            for callback in callbacks or ():
                callback()

    def call_at_end(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` in the thread of the guest when the run has ended, or now if it has.

        Afterwards :meth:`wait` returns without a delay. The callback must not raise.
        """
        self._home.check(self.path)
        check_callable("callback", callback)
        with self._end_lock:
            if self._end_callbacks is not None:
                self._end_callbacks.append(callback)
                return
        callback()

    def wait(self, timeout_seconds: float | None = None) -> RunResult | None:
        """Wait for the end of the run and return its result; None if the timeout ends first.

        Raises the ``JournalError`` that ended the run, if any: ``Divergence``,
        ``StorageError`` or ``OutputLost``.
        """
        self._home.check(self.path)
        if timeout_seconds is not None:
            timeout_seconds = check_seconds("timeout_seconds", timeout_seconds)
        if self._thread is not None:
            self._thread.join(timeout_seconds)
            if self._thread.is_alive():
                return None
        return self._get_result()

    def _get_result(self) -> RunResult | None:
        """Return the result of a run that has ended, or raise the error that ended it."""
        if self._error is not None:
            raise self._error
        return self._result

    def stop(self, *, compact: bool = True) -> None:
        """Request the guest to stop at its next host call, loop head or function start.

        Without ``compact`` the end is not delayed by a compaction: the closed journal is not
        compacted, and a compaction that is running ends without an effect.

        Returns at once. Safe from any thread and from signal handlers.
        """
        self._home.check(self.path)
        if not check_flag("compact", compact):
            self._is_in_haste = True
        self._interrupter.request_stop()
        if self._process is not None:
            self._process.interrupt()

    def signal(self, number: int) -> bool:
        """Send a signal to the guest, and return whether its handler will get it.

        ``number`` is that of this system, such as ``signal.SIGTERM``. The handler runs at the end
        of a host call, and a call that waits fails with ``INTR``. The signal is part of the
        journal: a replay delivers it at the same call. Triggers of this signal fire.

        Returns False, and sends nothing, if the guest has no handler, still replays its journal, or
        has not handled the last signal of this number yet. :meth:`stop` ends such a guest so that
        it can be resumed. A handler that blocks signals gets them later. SIGKILL and SIGSTOP have
        no handler. Raises ``OptionError`` for a signal that WASI does not have. Safe from any
        thread and from signal handlers.
        """
        self._home.check(self.path)
        process = self._process
        guest_number = to_guest_signal(check_int("number", number, 1, _SIGNAL_MAX))
        if guest_number is None:
            raise OptionError(f"a guest cannot receive signal {number}: WASI does not have it")
        if process is None or self.ended_before or process.tape.replaying:
            return False
        return process.context.signals.offer(guest_number)

    def notify(self, trigger: Trigger) -> bool:
        """Fire a trigger, and return whether a snapshot will be taken.

        The snapshot is taken at the next safe point of the guest if the options contain
        this trigger. Safe from any thread and from signal handlers.
        """
        self._home.check(self.path)
        trigger = check_choice("trigger", trigger, Trigger)
        coordinator = self._coordinator
        return coordinator is not None and coordinator.notify(trigger)

    def snapshot(
        self, trigger: Trigger = Trigger.EXPLICIT, timeout_seconds: float | None = None
    ) -> int | None:
        """Take a snapshot at the next safe point of the guest and return its sequence number.

        Returns None if the guest ends or the timeout ends first. Raises ``OptionError`` if
        the run was started without snapshots. Safe from any thread.
        """
        self._home.check(self.path)
        trigger = check_choice("trigger", trigger, Trigger)
        if timeout_seconds is not None:
            timeout_seconds = check_seconds("timeout_seconds", timeout_seconds)
        if self.ended_before:
            return None
        coordinator = self._coordinator
        if coordinator is None:
            raise OptionError(_NO_SNAPSHOTS)
        ticket = coordinator.queue.add(trigger)
        assert self._process is not None
        self._process.interrupt()
        return coordinator.queue.wait(ticket, timeout_seconds)

    def fork(
        self,
        count: int = 1,
        *,
        into: StrPath,
        reseed: bool = True,
        timeout_seconds: float | None = None,
    ) -> "list[Recorder]":
        """Fork the running guest into children, and return their recorders, which run.

        A snapshot is taken at the next safe point of the guest, from whose memory each child
        starts. The journals of the children are named ``into`` with ``-1``, ``-2``, … before its
        suffix. They begin with the events of this journal, and are independent of it.

        A child has the options of this session, except that its input is fed and its output
        captured. It has read the input that its parent had read. Its ``stdout`` begins at the
        fork: the parent delivers what was written before. With ``reseed`` the children are told
        that they are some of several, as in :func:`resume`. The caller closes each recorder.

        A child takes its slot of a pool when it starts. If ``Pooling`` has no free slot, its
        ``wait`` raises ``PoolFull``. Its journal is whole, and can be resumed.

        Raises ``NotResumable`` if the guest has ended, the timeout ends first, or snapshots of its
        module have no stacks, and ``OptionError`` if the run was started without snapshots or a
        journal exists. On an error no child is left. Safe from any thread.
        """
        # The first one imports this module, and most runs need neither.
        from journal.engine.session.forking import copy_guest, fork_guest
        from journal.operations.fork import number_paths

        self._home.check(self.path)
        check_int("count", count, 1, FORK_COUNT_MAX)
        target = check_path("into", into)
        check_flag("reseed", reseed)
        if timeout_seconds is not None:
            timeout_seconds = check_seconds("timeout_seconds", timeout_seconds)
        paths = number_paths(target, count)
        for path in paths:
            check_new_journal(path, [self.path])
        with copy_guest(self, reseed=reseed, timeout_seconds=timeout_seconds) as family:
            return fork_guest(family, paths)

    def _copy_state(self, timeout_seconds: float | None) -> "ForkedState":
        """Take a snapshot of the guest, and return a copy of its state."""
        coordinator = self._coordinator
        if self.ended_before:
            raise NotResumable(_ENDED)
        if coordinator is None:
            raise OptionError(_NO_SNAPSHOTS)
        if not coordinator.has_stacks:
            raise NotResumable("the guest cannot be forked: snapshots of its module have no stacks")
        assert self._process is not None
        if self._process.context.processes.list_ends():
            raise NotResumable("the guest cannot be forked: it has pipes to other processes")
        ticket = coordinator.queue.add(Trigger.EXPLICIT, copies_state=True)
        assert self._process is not None
        self._process.interrupt()
        try:
            coordinator.queue.wait(ticket, timeout_seconds)
        except BaseException:
            coordinator.queue.cancel_copy(ticket)
            raise
        if ticket.state is None:
            coordinator.queue.cancel_copy(ticket)
            raise NotResumable(_ENDED if coordinator.queue.has_ended else _NO_SAFE_POINT)
        return ticket.state

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Take a snapshot at the end of the body, and wait for it.

        The body is one unit of work of the embedder, such as one order; the guest does not need to
        know about it. The snapshot has the state of the guest after the body, for example while the
        guest waits for the next order. No snapshot is taken if the body fails or the guest has
        ended. Raises ``OptionError`` if the run was started without snapshots.
        """
        self._home.check(self.path)
        if not (self.takes_snapshots or self.ended_before):
            raise OptionError(_NO_SNAPSHOTS)
        yield
        self.snapshot(Trigger.TRANSACTION)

    @property
    def takes_snapshots(self) -> bool:
        """Return whether the run was started with snapshots."""
        return self._coordinator is not None

    @property
    def _coordinator(self) -> SnapshotCoordinator | None:
        return self._process.coordinator if self._process is not None else None

    @property
    def compaction_count(self) -> int:
        """Return how many compactions were completed while the guest ran."""
        return self._compactor.count if self._compactor is not None else 0

    def feed(self, data: bytes) -> None:
        """Append to the standard input of the guest.

        Raises ``OptionError`` if an input was passed at the start. Safe from any thread.
        """
        self._get_fed_stdin().feed(data)

    def close_stdin(self) -> None:
        """End the standard input of the guest."""
        self._get_fed_stdin().close()

    def _get_fed_stdin(self) -> FedSource:
        self._home.check(self.path)
        source = self._streams.source
        if not isinstance(source, FedSource):
            raise OptionError("standard input cannot be fed: a source was passed at the start")
        return source

    @property
    def stdout(self) -> bytes:
        """Return the captured standard output. Raises ``OptionError`` if a target was passed."""
        return self._get_captured(STDOUT)

    @property
    def stderr(self) -> bytes:
        """Return the captured standard error. Raises ``OptionError`` if a target was passed."""
        return self._get_captured(STDERR)

    def _get_captured(self, stream: int) -> bytes:
        self._home.check(self.path)
        target = self._streams.output_targets[stream]
        if target.callback is not None:
            raise OptionError("output is not captured: on_output receives it")
        if not target.is_captured:
            raise OptionError("output is not captured: a target was passed for this stream")
        return bytes(target.captured)

    def read_file(self, path: str) -> bytes:
        """Return the data of a file by its path in the guest.

        While the guest runs, this is the present data. The path leads where the guest's own open
        of it would lead. Raises ``FileNotFoundError``, ``IsADirectoryError``, and
        ``PermissionError`` for a path that leaves its mount or leads to a special file.
        Raises ``HostMismatch`` if the mounted directory was replaced by a link.
        """
        return self._get_process_with_files().mounts.read(check_text("path", path))

    @property
    def files(self) -> dict[str, bytes]:
        """Return all regular in-memory files by their paths in the guest."""
        return self._get_process_with_files().mounts.files()

    def _get_process_with_files(self) -> Process:
        self._home.check(self.path)
        if self._process is None:
            # The program had ended, so a replay produces its files.
            assert self._replay is not None
            self._process = self._replay()
            self._start_thread(self._process)
            self.wait()
        return self._process

    def close(self) -> None:
        """Stop the guest, make the journal durable, and release all resources.

        The journal is compacted afterwards if the schedule says so.
        """
        if self._closed:
            return
        self._closed = True
        if self._thread is not None and self._thread.is_alive():
            self.stop()
            self._thread.join()
        if self._tree is not None:
            self._tree.close()
        if self._reader is not None:
            self._reader.close()
        if self._process is not None and self._process.pages is not None:
            self._process.pages.close()
        if self._compactor is not None:
            self._compactor.close()
        try:
            self._writer.close()
        finally:
            self._interrupter.close()
        if self._compaction is not None and self._compaction.on_close:
            self._compact(self._compaction)

    def __del__(self) -> None:
        if not self._closed:
            close_unclosed(self, f"the recorder of {self.path}")

    def _abandon(self, owner: int) -> None:
        self._home.leave(owner)
        if self._closed:
            return
        self._closed = True
        if self._reader is not None:
            self._reader.close()
        self._interrupter.abandon()
        if self._process is not None:
            self._process.abandon()

    def _compact(self, compaction: "CompactionSchedule") -> None:
        """Compact the closed journal. A failure is only noted, because the run itself succeeded."""
        from journal.compaction import compact_in_place

        def check(*_: object) -> None:
            if self._is_in_haste:
                raise _CompactionAbandoned

        try:
            check()
            result = compact_in_place(self.path, policy=compaction.policy, progress=check)
            self._monitor.end_compaction(result)
        except _CompactionAbandoned:
            self._note("the journal was not compacted, because the run was stopped")
        except JournalError as error:
            self._note_failure(error)
        except OSError as error:
            self._note(f"the journal was not compacted and stays unchanged: {error.strerror}")


def start_guest_thread(work: Callable[[], None], stack_size: int) -> threading.Thread:
    """Start a thread with a stack of ``stack_size`` bytes for the guest, and return it."""
    thread = OwnThread(target=work, name="journal-guest", daemon=True)
    with STACK_SIZE_LOCK:
        old_size = threading.stack_size(stack_size + THREAD_STACK_EXTRA)
        try:
            thread.start()
        finally:
            threading.stack_size(old_size)
    return thread

"""A guest that runs in a thread of its own: wait for it, feed it, look at its files, stop it."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from journal.engine.session.process import Process, RunResult
from journal.engine.snapshot.suspension import SnapshotCoordinator
from journal.engine.wasi.stdio.delivery import StreamHistory
from journal.engine.wasi.stdio.outbox import STDERR, STDIN, STDOUT, OutputTarget
from journal.engine.wasi.stdio.stdin import (
    BytesSource,
    FedSource,
    Interrupter,
    StdinSource,
    open_source,
)
from journal.errors import JournalError, OptionError
from journal.events.snapshots import Trigger
from journal.events.streams import TargetKind
from journal.log.reader import Reader
from journal.log.writer import Writer

if TYPE_CHECKING:
    from journal.compaction import BackgroundCompactor, CompactionSchedule, OnlineCompactionResult

THREAD_STACK_EXTRA = 16 << 20  # for Python below and above the guest's calls

_NO_SNAPSHOTS = "the run has no snapshots: it was begun without any"
_STACK_SIZE_LOCK = threading.Lock()

Input = bytes | int | IO[Any] | FedSource | None
Output = int | IO[Any] | None
StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class StandardStreams:
    """Where standard input comes from, and where the outputs go."""

    source: StdinSource
    output_targets: dict[int, OutputTarget]

    @property
    def terminals(self) -> set[int]:
        """The numbers of the streams that are terminals."""
        found = {STDIN} if self.source.make_opened_event().kind is TargetKind.TERMINAL else set()
        outputs = self.output_targets.items()
        return found | {n for n, target in outputs if target.kind is TargetKind.TERMINAL}


@dataclass(frozen=True, slots=True)
class GuestRun:
    """A process, and how deep its calls may go, in bytes."""

    process: Process
    stack_size: int


class Recorder:
    """A guest that runs in a thread, recorded in a journal; a context manager.

    Entering starts the guest; leaving stops it, if it still runs, and closes the journal, which
    can be resumed. ``record`` and ``resume`` of :mod:`journal.engine.session.api` make them.
    """

    def __init__(
        self,
        writer: Writer,
        streams: StandardStreams,
        interrupter: Interrupter,
        *,
        run: GuestRun | None = None,
        ended: RunResult | None = None,
        replay: Callable[[], GuestRun] | None = None,
        reader: Reader | None = None,
        compaction: "CompactionSchedule | None" = None,
        note: Callable[[str], object] = len,  # nobody listens
    ) -> None:
        self._writer = writer
        self._compaction = compaction
        self._note = note
        self._compactor: BackgroundCompactor | None = None
        self._reader = reader
        self._streams = streams
        self._interrupter = interrupter
        self._run = run
        self._replay = replay
        self._thread: threading.Thread | None = None
        self._outcome = ended
        self._error: BaseException | None = None
        self._closed = False
        self.ended_before = ended is not None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The journal."""
        return self._writer.path

    def set_path(self, path: StrPath) -> None:
        """Take note that somebody has given the journal another name."""
        self._writer.set_path(path)
        if self._run is not None and self._run.process.pages is not None:
            self._run.process.pages.set_path(path)

    def start(self) -> None:
        """Let the guest run."""
        if self._outcome is None and self._thread is None:
            assert self._run is not None
            self._start_thread(self._run)
            if self._compaction is not None and self._compaction.is_active:
                self._start_compactor(self._compaction, self._run.process)

    def _start_compactor(self, compaction: "CompactionSchedule", process: Process) -> None:
        from journal.compaction import BackgroundCompactor  # most runs need none

        # what is replayed is read from the journal as it was
        self._compactor = BackgroundCompactor(
            self._writer,
            compaction,
            is_allowed=lambda: not process.tape.replaying,
            report=self._note_failure,
        )
        self._compactor.start()

    def _note_failure(self, found: "OnlineCompactionResult | JournalError") -> None:
        if isinstance(found, JournalError):
            self._note(f"the journal stays as it is, and was not compacted: {found}")

    def _start_thread(self, run: GuestRun) -> None:
        self._thread = start_guest_thread(lambda: self._work(run.process), run.stack_size)

    def _work(self, process: Process) -> None:
        try:
            self._outcome = process.run()
        except BaseException as error:
            self._error = error

    def wait(self, timeout_seconds: float | None = None) -> RunResult | None:
        """Wait for the end, and give it; ``None`` if the time is over before.

        Raises the ``JournalError`` that ended the run, if one did: a ``Divergence``, a
        ``StorageError``, an ``OutputLost``.
        """
        if self._thread is not None:
            self._thread.join(timeout_seconds)
            if self._thread.is_alive():
                return None
        if self._error is not None:
            raise self._error
        return self._outcome

    def stop(self) -> None:
        """Let the guest stop at its next safe point: a call, a loop or a function's beginning.

        Returns at once. Safe from any thread and from signal handlers.
        """
        self._interrupter.request_stop()
        if self._run is not None:
            self._run.process.interrupt()

    def notify(self, trigger: Trigger) -> bool:
        """Something has happened that may be a trigger; whether a snapshot is taken for it.

        It is taken at the guest's next safe point. Safe from any thread and from signal handlers.
        """
        coordinator = self._coordinator
        return coordinator is not None and coordinator.notify(trigger)

    def snapshot(
        self, trigger: Trigger = Trigger.EXPLICIT, timeout_seconds: float | None = None
    ) -> int | None:
        """Take a snapshot at the guest's next safe point, and wait for it: its number.

        None if the guest ends before, or the time is over. Raises ``OptionError`` where the run
        was begun without snapshots.
        """
        if self.ended_before:
            return None
        coordinator = self._coordinator
        if coordinator is None:
            raise OptionError(_NO_SNAPSHOTS)
        ticket = coordinator.request(trigger)
        assert self._run is not None
        self._run.process.interrupt()
        return coordinator.wait(ticket, timeout_seconds)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """The embedder's work of one order: a snapshot is taken when it is over, and waited for.

        The guest need not know of orders. It is taken where the guest stands then, such as where it
        waits for the next one; none is if the work fails, or the guest has ended. Raises
        ``OptionError`` where the run was begun without snapshots.
        """
        if not (self.takes_snapshots or self.ended_before):
            raise OptionError(_NO_SNAPSHOTS)
        yield
        self.snapshot(Trigger.TRANSACTION)

    @property
    def takes_snapshots(self) -> bool:
        """Whether snapshots can be taken of the run: it was begun with some."""
        return self._coordinator is not None

    @property
    def _coordinator(self) -> SnapshotCoordinator | None:
        return self._run.process.coordinator if self._run is not None else None

    @property
    def compaction_count(self) -> int:
        """How often the journal was compacted while the guest ran."""
        return self._compactor.count if self._compactor is not None else 0

    def feed(self, data: bytes) -> None:
        """Give the guest more standard input; only if it was started without any."""
        self._fed().feed(data)

    def close_stdin(self) -> None:
        """Let the guest read the end of its standard input."""
        self._fed().close()

    def _fed(self) -> FedSource:
        source = self._streams.source
        if not isinstance(source, FedSource):
            raise OptionError("standard input was given at the start: it cannot be fed")
        return source

    @property
    def stdout(self) -> bytes:
        """What the guest has printed, where standard output is captured."""
        return self._captured(STDOUT)

    @property
    def stderr(self) -> bytes:
        """What the guest has printed to standard error, where that is captured."""
        return self._captured(STDERR)

    def _captured(self, stream: int) -> bytes:
        target = self._streams.output_targets[stream]
        if target.kind is not TargetKind.CAPTURED:
            raise OptionError("this stream is not captured: it was given a target")
        return bytes(target.captured)

    def read_file(self, path: str) -> bytes:
        """The bytes of one of the guest's files, by the guest's path.

        Raises ``FileNotFoundError``. While the guest runs, it is what the file has at the moment.
        """
        return self._mounted().mounts.read(path)

    @property
    def files(self) -> dict[str, bytes]:
        """All regular files that the guest has in memory, by the guest's paths."""
        return self._mounted().mounts.files()

    def _mounted(self) -> Process:
        if self._run is None:
            # The program had ended: its files are what a replay leaves.
            assert self._replay is not None
            self._run = self._replay()
            self._start_thread(self._run)
            self.wait()
        return self._run.process

    def close(self) -> None:
        """Stop the guest, make the journal durable, and let go of it.

        Then it is compacted, if that is wished.
        """
        if self._closed:
            return
        self._closed = True
        if self._thread is not None and self._thread.is_alive():
            self.stop()
            self._thread.join()
        if self._reader is not None:
            self._reader.close()
        if self._run is not None and self._run.process.pages is not None:
            self._run.process.pages.close()
        if self._compactor is not None:
            self._compactor.close()
        try:
            self._writer.close()
        finally:
            self._interrupter.close()
        if self._compaction is not None and self._compaction.on_close:
            self._compact(self._compaction)

    def _compact(self, compaction: "CompactionSchedule") -> None:
        """Compact what has been closed; a run has ended well, whatever comes of that."""
        from journal.compaction import compact_in_place

        try:
            compact_in_place(self.path, policy=compaction.policy)
        except JournalError as error:
            self._note_failure(error)
        except OSError as error:
            self._note(f"the journal stays as it is, and was not compacted: {error.strerror}")


def start_guest_thread(work: Callable[[], None], stack_size: int) -> threading.Thread:
    """A thread for a guest whose calls go so deep, in bytes; it has begun to work."""
    thread = threading.Thread(target=work, name="journal-guest", daemon=True)
    with _STACK_SIZE_LOCK:
        before = threading.stack_size(stack_size + THREAD_STACK_EXTRA)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    return thread


def connect_streams(
    stdin: Input, stdout: Output, stderr: Output, history: StreamHistory | None = None
) -> StandardStreams:
    """Connect the standard streams; ``history`` is what the journal says of standard input."""
    return StandardStreams(_open_stdin(stdin, history), _open_outputs(stdout, stderr))


def _open_outputs(stdout: Output, stderr: Output) -> dict[int, OutputTarget]:
    """The targets; streams that lead to the same regular file share one, which keeps the order."""
    output_targets: dict[int, OutputTarget] = {}
    for stream, output in ((STDOUT, stdout), (STDERR, stderr)):
        if output is None:
            output_targets[stream] = OutputTarget(TargetKind.CAPTURED)
            continue
        target = OutputTarget.of_descriptor(_fileno(output))
        twin = output_targets.get(STDOUT)
        if (
            twin is not None
            and target.kind is twin.kind is TargetKind.REGULAR
            and (target.device, target.inode) == (twin.device, twin.inode)
        ):
            target = twin
        output_targets[stream] = target
    return output_targets


def _open_stdin(stdin: Input, history: StreamHistory | None) -> StdinSource:
    if stdin is None:
        return FedSource()
    if isinstance(stdin, FedSource):
        return stdin
    if isinstance(stdin, bytes):
        return BytesSource(stdin)
    first = history.targets[0][0] if history and history.targets else None
    return open_source(_fileno(stdin), first)


def _fileno(file: int | IO[Any]) -> int:
    return file if isinstance(file, int) else file.fileno()

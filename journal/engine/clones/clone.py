"""Clone: one guest at a snapshot, run piece by piece in the thread of the caller."""

import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

from journal._arguments import check_bytes, check_flag, check_path, check_text, check_type
from journal.engine.clones.files import CloneFiles
from journal.engine.clones.machine import CloneMachine
from journal.engine.clones.session_io import (
    CloneInput,
    CloneInterrupter,
    CloneOutbox,
    SessionEnded,
)
from journal.engine.clones.session_journal import (
    JournalKind,
    SessionJournal,
    Unrecorded,
    open_file,
)
from journal.engine.clones.watchdog import MEMORY_PERIOD_SECONDS, PERIOD_SECONDS
from journal.engine.runtime.bindings import GuestTrapped, Instance
from journal.engine.runtime.call_gate import CallInterceptor
from journal.engine.session import preamble
from journal.engine.session.process import make_exit_event, make_trap_event
from journal.engine.session.reply import Ending, Reply
from journal.engine.session.run_config import StrPath
from journal.engine.session.session_limits import SessionLimits
from journal.engine.session.standard_streams import capture_outputs
from journal.engine.tape import Tape
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.network.guest_network import GuestNetwork
from journal.engine.wasi.processes import OwnPipes
from journal.engine.wasi.stdio.delivery import make_stream_events
from journal.engine.wasi.stdio.outbox import STDERR, STDOUT
from journal.engine.wasi.stdio.stdin import GuestStopped
from journal.engine.wasi.terminal import Terminal
from journal.errors import EngineError, OptionError
from journal.events import codec
from journal.events.definition import Event
from journal.events.process import RecordingLevel, Reseeded
from journal.log.writer import Writer
from journal.operations.reseeding import make_reseeded
from journal.wasi_abi import ProcExit

if TYPE_CHECKING:
    from journal.engine.clones.template import CloneTemplate

_NEVER = float("inf")


class CloneState(Enum):
    """State of a clone."""

    CLEAN = "clean"
    """At the snapshot: no session has begun since the last reset."""
    WAITING = "waiting"
    ENDED = "ended"
    CLOSED = "closed"


class Clone:
    """One guest at a snapshot, which runs in the thread of the caller; a context manager.

    ``begin`` starts a session, ``run`` feeds the guest and runs it until it waits for more input or
    ends, and ``reset`` returns it to the snapshot, whatever has happened. Only one thread may use a
    clone at a time, except for ``stop``. :meth:`CloneTemplate.make_clone` creates clones.

    A session is not visible in a later one, with one exception: changes of mounted directories of
    the host stay, because they are changes of the host.
    """

    def __init__(self, template: "CloneTemplate", sibling: "Clone | None" = None) -> None:
        self._template = template
        identity, program = template.identity, template.image.program
        self._source = CloneInput()
        self._outbox = CloneOutbox()
        self._limits = SessionLimits()
        self.deadline, self.period_seconds = _NEVER, PERIOD_SECONDS
        self._interrupter = CloneInterrupter(
            self._check_limits, can_suspend=program.variant.has_stacks
        )
        self._keeps_inputs = identity.start.level is RecordingLevel.FULL
        self._sink: Unrecorded | SessionJournal | Writer = Unrecorded(0)
        self._tape = Tape(self._sink, keep_inputs=self._keeps_inputs, barrier=self._sync)
        self._context = self._make_context()
        self._files = CloneFiles(
            self._context,
            identity,
            template.image.start,
            self._source,
            template.terminals,
            template.access.directories,
            template.own_files,
        )
        if sibling is not None:
            self._files.share(sibling._files)
        interceptor = CallInterceptor()
        self._instance = Instance(program.engine, self._interrupter.check, interceptor)
        program.set_up_instance(self._instance, self._context)
        self._machine = CloneMachine(template.image, self._instance, interceptor)
        self._context.memory = self._machine.memory
        self._state = CloneState.CLEAN
        self.journal: SessionJournal | Path | None = None
        """Journal of the present or the last session: in memory, its path, or None."""

    def _make_context(self) -> CallContext:
        environment = self._template.identity.environment
        assert environment is not None, "set_secrets has set it"
        context = CallContext(
            tape=self._tape,
            outbox=self._outbox,
            interrupter=self._interrupter,
            arguments=list(self._template.identity.start.arguments),
            environment=list(environment),
        )
        context.descriptors.is_lowest_first = self._template.image.program.is_wasix
        context.network = GuestNetwork(
            self._tape, context.descriptors, policy=self._template.access.network
        )
        context.network.resolver.trusts_history = self._template.access.has_own_names
        context.terminal = Terminal(self._tape, self._template.terminals)
        context.processes.wake = self._interrupter.wake
        context.processes.records_pipes = self._template.image.program.starts_processes
        context.processes.host = OwnPipes()
        return context

    # -- a session --------------------------------------------------------------------------------

    def begin(
        self,
        *,
        limits: SessionLimits | None = None,
        journal: JournalKind | StrPath | None = None,
    ) -> None:
        """Begin a session at the snapshot.

        ``journal`` is the path of a new journal, or ``MEMORY``. Both continue the journal of the
        template after the snapshot, so that the session can be resumed and replayed. None keeps no
        journal. Raises ``OptionError`` unless the clone is clean.
        """
        self._template.home.check(self._template.path)
        if self._state is not CloneState.CLEAN:
            raise OptionError(
                f"a session can only begin in a clean clone: it is {self._state.value}"
            )
        if limits is None:
            limits = self._template.limits
        self._limits = check_type("limits", limits, SessionLimits)
        self._state = CloneState.ENDED
        try:
            self._begin(limits, journal)
        except BaseException:
            self.reset()  # The clone remains usable, for example if a journal cannot be created.
            raise
        self._state = CloneState.WAITING

    def _begin(self, limits: SessionLimits, journal: JournalKind | StrPath | None) -> None:
        has_memory_limit = limits.memory_size_max is not None
        self.period_seconds = MEMORY_PERIOD_SECONDS if has_memory_limit else PERIOD_SECONDS
        self._outbox.begin(limits.output_size_max)
        if limits.files_size_max is not None:
            self._files.set_limit(limits.files_size_max, self._refuse_files)
        mark = make_reseeded()
        info = self._template.image.start.info
        # The clocks of a reseeded guest count the time since the snapshot.
        monotonic = info.monotonic + max(0, mark.realtime - info.time * 1000)
        self._context.clocks.resume_at(monotonic)
        self._open_journal(journal, mark, monotonic)
        self._files.go_live(mark.generation)

    def _open_journal(
        self, journal: JournalKind | StrPath | None, mark: Reseeded, monotonic: int
    ) -> None:
        """Choose where the session is recorded, and record its start as a resume does."""
        template = self._template
        next_seq = template.seq + 2  # The event after the snapshot links the fork to its parent.
        self.journal = None
        if journal is None:
            self._sink = Unrecorded(next_seq + _START_EVENT_COUNT)
        elif isinstance(journal, JournalKind):
            self._sink = self.journal = SessionJournal(template.fork_place, next_seq)
        else:
            path = check_path("journal", journal)
            self._sink = open_file(template.fork_place, path)
            template.own_files.add_journal(path)
            self.journal = path
        if journal is not None:
            for event in self._make_start_events(mark, monotonic):
                self._sink.append(event)
        self._tape.record_to(self._sink, keep_inputs=self._keeps_inputs)

    def _make_start_events(self, mark: Reseeded, monotonic: int) -> list[Event]:
        sizes = self._template.output_sizes
        events: list[Event] = [
            mark,
            self._source.make_opened_event(),
            *make_stream_events(capture_outputs(), sizes),
            preamble.make_session_start(monotonic),
        ]
        assert len(events) == _START_EVENT_COUNT
        return events

    def run(self, data: bytes = b"", *, end_input: bool = False) -> Reply:
        """Feed ``data`` to the guest, run it, and return its output.

        The guest runs until it waits for input that it does not have, ends, or exceeds a limit.
        With ``end_input`` the input ends after ``data``. Begins a session if none has begun. Raises
        ``OptionError`` if the guest has ended, and ``EngineError`` or ``StorageError`` if the host
        fails. An exception ends the session.
        """
        self._template.home.check(self._template.path)
        if self._state is CloneState.CLEAN:
            self.begin()
        if self._state is not CloneState.WAITING:
            raise OptionError(f"the guest cannot run: its session has {self._state.value}")
        fed = data if type(data) is bytes else check_bytes("data", data)
        if self._source.is_ended:
            raise OptionError("the input of the session has ended: no more bytes can be fed")
        self._source.feed(fed, end=check_flag("end_input", end_input))
        self._state = CloneState.ENDED  # Until the guest is known to wait.
        try:
            return self._template.stack.call(self._run, self.stop)
        except BaseException:
            self._state = CloneState.ENDED
            raise

    def _run(self) -> Reply:
        template = self._template
        now = time.monotonic()
        seconds = self._limits.seconds_max
        self.deadline = _NEVER if seconds is None else now + seconds
        template.watchdog.enter(self, now)
        try:
            ending, code, message = self._run_guest()
        finally:
            template.watchdog.leave(self)
            self._interrupter.is_stop_requested = False
        if self.journal is not None:
            self._sink.sync()
        if ending is Ending.WAITING:
            self._state = CloneState.WAITING
        return Reply(ending, self._outbox.take(STDOUT), self._outbox.take(STDERR), code, message)

    def _run_guest(self) -> tuple[Ending, int | None, str]:
        """Run the guest, and return its ending, its exit code and a message."""
        event: Event
        try:
            try:
                is_waiting, code = self._machine.run(), 0
            except ProcExit as proc_exit:
                is_waiting, code = False, proc_exit.code
            except GuestTrapped as trap:
                self._machine.check_trap()
                self._check_memory()
                event = make_trap_event(trap.kind, trap.backtrace)
                self._tape.record_effect(event.tag, codec.encode(event))
                return Ending.TRAPPED, None, trap.kind
            self._check_memory()
        except GuestStopped:
            return Ending.STOPPED, None, "the session was stopped"
        except SessionEnded as end:
            return end.ending, None, end.message
        if is_waiting:
            return Ending.WAITING, None, ""
        event = make_exit_event(code)
        self._tape.record_effect(event.tag, codec.encode(event))
        return Ending.EXITED, code, ""

    def stop(self) -> None:
        """Request the running guest to stop at its next safe point. Safe from any thread."""
        self._interrupter.request_stop()
        self._instance.increment_epoch()

    def interrupt(self) -> None:
        """Let the guest check its limits soon. Safe from any thread."""
        self._instance.increment_epoch()
        self._interrupter.wake()

    # -- limits, in the thread of the guest -------------------------------------------------------

    def _check_limits(self) -> None:
        if time.monotonic() >= self.deadline:
            raise SessionEnded(
                Ending.TIMED_OUT, f"the call took longer than {self._limits.seconds_max} seconds"
            )
        self._check_memory()

    def _check_memory(self) -> None:
        """Raise ``SessionEnded`` if a memory is larger than the limit of the session.

        The guest does not notice that limit before, so that a replay does not depend on it.
        """
        limit = self._limits.memory_size_max
        if limit is not None and self._machine.memory_size > limit:
            raise SessionEnded(
                Ending.OUT_OF_MEMORY, f"the memory of the guest exceeds the limit of {limit} bytes"
            )

    def _refuse_files(self) -> NoReturn:
        limit = self._limits.files_size_max
        raise SessionEnded(
            Ending.FILES_LIMIT, f"the files of the guest exceed the limit of {limit} bytes"
        )

    def _sync(self) -> None:
        """Make the events before a change of the host durable."""
        self._sink.sync()

    # -- the state --------------------------------------------------------------------------------

    def read_file(self, path: str) -> bytes:
        """Return the data of a file by its path in the guest, as ``Recorder.read_file`` does."""
        self._check_open()
        return self._files.mounts.read(check_text("path", path))

    @property
    def files(self) -> dict[str, bytes]:
        """Return all regular in-memory files by their paths in the guest."""
        self._check_open()
        return self._files.mounts.files()

    @property
    def is_waiting(self) -> bool:
        """Return whether a session has begun and its guest can be run."""
        return self._state is CloneState.WAITING

    @property
    def instance_count(self) -> int:
        """Return how many instances this clone has used, because some state cannot be set back."""
        return self._machine.instance_count

    @property
    def is_clean(self) -> bool:
        """Return whether the clone is at the snapshot, without a session."""
        return self._state is CloneState.CLEAN

    def reset(self) -> None:
        """End the session, and return to the snapshot; the cost is that of the touched state.

        After an error the clone can only be closed.
        """
        self._check_open()
        if self._state is CloneState.CLEAN:
            return
        self._state = CloneState.ENDED
        self._close_journal()
        if self._machine.reset():
            self._context.memory = self._machine.memory
        self._files.reset()
        self._source.clear()
        self._limits = SessionLimits()
        self._outbox.begin(0)
        self._interrupter.is_stop_requested = False
        self._state = CloneState.CLEAN

    def _close_journal(self) -> None:
        sink, self._sink = self._sink, Unrecorded(0)
        if isinstance(sink, Writer):
            sink.close()

    def check(self) -> None:
        """Compare the whole state of a clean clone with the snapshot: the proof of a reset.

        All pages of all memories, globals, tables, descriptors and files are compared by digests.
        Takes a millisecond per MiB. Raises ``EngineError`` for a difference, and ``OptionError``
        unless the clone is clean.
        """
        self._template.home.check(self._template.path)
        if self._state is not CloneState.CLEAN:
            raise OptionError(f"only a clean clone can be checked: it is {self._state.value}")
        template = self._template
        if self._machine.compute_digest(self._context) != template.image.start.info.digest:
            raise EngineError("the clone differs from its snapshot in memory, globals or tables")
        if self.compute_files_digest() != template.files_digest:
            raise EngineError("the clone differs from its snapshot in its files or descriptors")

    def compute_digest(self) -> bytes:
        """Return the digest of the present state, as a snapshot would have it now.

        Raises ``OptionError`` unless the guest waits.
        """
        if not self.is_waiting:
            raise OptionError("only the state of a guest that waits has a digest")
        return self._machine.compute_digest(self._context)

    def compute_files_digest(self) -> bytes:
        """Return a digest of the in-memory files and the descriptors, with their attributes."""
        return self._files.compute_digest()

    def _check_open(self) -> None:
        self._template.home.check(self._template.path)
        if self._state is CloneState.CLOSED:
            raise OptionError("the clone is closed")

    def close(self) -> None:
        """End the session, and release the instance and its files."""
        if self._state is CloneState.CLOSED or self._template.home.is_left:
            return
        self._state = CloneState.CLOSED
        try:
            self._close_journal()
        finally:
            self._machine.close()
            self._files.close()
            self._interrupter.close()
            self._template.forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_START_EVENT_COUNT = 7
"""Events at the start of a session: the streams and their sizes, and the session itself."""

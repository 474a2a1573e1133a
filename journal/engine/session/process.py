"""One running guest: its wasm instance, its state, and its run from start to end."""

import struct
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NoReturn, Protocol

from journal.engine.configuration import MEMORIES_MAX, TABLE_ELEMENTS_MAX, SnapshotOptions
from journal.engine.program.module import define_imports
from journal.engine.program.prepared import PreparedModule
from journal.engine.runtime.bindings import GuestTrapped, Instance, get_guest_backtrace
from journal.engine.runtime.call_gate import CallInterceptor
from journal.engine.runtime.epoch_ticker import INTERVAL_SECONDS, EpochTicker
from journal.engine.session import preamble
from journal.engine.session.snapshot_check import CheckPlan, SnapshotCheckCoordinator
from journal.engine.snapshot.capture import MachineState, SnapshotCapture
from journal.engine.snapshot.suspension import SnapshotCoordinator
from journal.engine.tape import Batch, Tape
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import InputStream, OutputStream
from journal.engine.wasi.filesystem.mounts import Mounts
from journal.engine.wasi.sockets import GuestNetwork
from journal.engine.wasi.stdio.delivery import make_stream_events
from journal.engine.wasi.stdio.outbox import (
    STDERR,
    STDIN,
    STDOUT,
    Durability,
    Outbox,
    OutboxWriter,
    OutputTarget,
)
from journal.engine.wasi.stdio.stdin import GuestStopped, Interrupter, StdinSource
from journal.engine.wasi.terminal import Terminal, find_terminal
from journal.errors import Divergence, NotResumable
from journal.events import codec
from journal.events.core import ProcessExit
from journal.events.definition import Event
from journal.events.process import ProcessTrap, RecordingLevel, SessionStart
from journal.events.snapshots import Trigger
from journal.wasi_abi import ProcExit

if TYPE_CHECKING:
    from journal.pages.page_index import PageIndex

BACKTRACE_SIZE_MAX = 4096

#: Checks of the clock per snapshot period. A single check per period would miss every second
#: period.
_TICKS_PER_PERIOD = 4

#: Errors raised while decoding a recorded input that does not match the format of its event.
_DECODE_ERRORS = (struct.error, ValueError, LookupError)


class JournalWriter(OutboxWriter, Protocol):
    """Methods of a writer that a process needs."""

    def append(self, event: Event) -> int:
        """Append an event and return its sequence number."""

    def sync(self) -> None:
        """Make all appended events durable."""

    @property
    def next_seq(self) -> int:
        """Return the sequence number of the next event."""

    @property
    def size(self) -> int:
        """Return the size of the written part of the journal in bytes."""


class ResumePoint(Protocol):
    """A snapshot from which a process resumes."""

    @property
    def entry(self) -> str:
        """Return the exported function that was running; empty if none had been called."""

    @property
    def function(self) -> str:
        """Return the host function that the guest was about to call; empty in a loop."""

    @property
    def calls(self) -> int:
        """Return the count of host calls that the guest had made."""

    @property
    def session(self) -> tuple[int, int]:
        """Return the time of the snapshot in µs since the epoch, and its monotonic clock in ns."""

    @property
    def is_last(self) -> bool:
        """Return whether the journal has no later snapshot."""

    def apply(self, machine: MachineState, state: CallContext) -> bytes | None:
        """Restore the machine and the state; return the stack to rewind, or None."""


class ExitKind(Enum):
    """Kind of the end of a run."""

    EXITED = "exited"
    TRAPPED = "trapped"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class RunResult:
    """Result of a run.

    ``code`` is the exit code of a guest that exited, else None. ``reason`` is the kind of the
    trap, and ``backtrace`` its call stack, innermost function first.
    """

    kind: ExitKind
    code: int | None = None
    reason: str = ""
    backtrace: str = ""


class Process:
    """One guest, ready to run in a thread of its own.

    With ``recorded`` the guest first replays these batches and continues live at their end. Each of
    ``output_targets`` is reconciled: its ``delivered_size`` is the size of the recorded output that
    it holds. ``delivered_sizes`` has these sizes by stream. ``moved_mounts`` maps guest names of
    mounts to the present directories of the host. ``terminals`` are the streams that the guest sees
    as terminals; a replay has the terminals of the first session. ``network`` allows sockets.
    ``start`` is the snapshot to resume from, None to run from the beginning. ``fired`` are the
    triggers of the recorded snapshots. With ``plan`` the guest does not continue live: its
    snapshots are compared, and the run ends at the end of the journal.
    """

    def __init__(
        self,
        program: PreparedModule,
        identity: preamble.Identity,
        writer: JournalWriter,
        *,
        output_targets: dict[int, OutputTarget],
        stdin: StdinSource,
        interrupter: Interrupter,
        durability: Durability = Durability.OUTPUT,
        recorded: Iterator[Batch] | None = None,
        delivered_sizes: dict[int, int] | None = None,
        moved_mounts: Mapping[str, str] | None = None,
        terminals: Collection[int] = (),
        network: bool = False,
        snapshots: SnapshotOptions | None = None,
        pages: "PageIndex | None" = None,
        fired: Collection[Trigger] = (),
        start: ResumePoint | None = None,
        plan: CheckPlan | None = None,
    ) -> None:
        self._program = program
        self._start, self._plan = start, plan
        self.pages = pages
        self._writer = writer
        self._durability = durability
        self._stdin = stdin
        self._output_targets = output_targets
        self._delivered_sizes = delivered_sizes or {}
        # Start of the session in µs since the epoch, and its monotonic clock in ns.
        self._session: tuple[int, int] | None = None
        self._last_sync = time.monotonic()
        self._has_ended = False
        self.tape = Tape(
            writer,
            recorded,
            keep_inputs=identity.start.level is RecordingLevel.FULL,
            on_recording_event=self._on_recording_event,
            on_live=self._continue_live if plan is None else self._stop_at_end,
            barrier=self._barrier,
            live=None if plan is None else (_raise_stopped, _raise_stopped),
        )
        snapshots = snapshots or SnapshotOptions()
        self._snapshots = snapshots
        interceptor = CallInterceptor() if program.variant.exports_state else None
        self._instance = Instance(program.engine, self._on_tick, interceptor)
        interval = min(INTERVAL_SECONDS, snapshots.period_seconds / _TICKS_PER_PERIOD)
        self._ticker = EpochTicker(self._instance.increment_epoch, interval)
        self.context = CallContext(
            tape=self.tape,
            outbox=Outbox(
                output_targets, writer, self._barrier, self._ticker.arm, interrupter.wait_writable
            ),
            interrupter=interrupter,
            arguments=list(identity.start.arguments),
            environment=list(identity.start.environment),
            before_wait=self._before_wait,
            on_consumed=writer.flush,
        )
        self.context.network = GuestNetwork(self.tape, self.context.descriptors, is_allowed=network)
        self.context.terminal = Terminal(self.tape, terminals, find_terminal(stdin, output_targets))
        self.mounts = Mounts(
            self.tape, identity.mounts, identity.configuration.files_size_max, moved_mounts or {}
        )
        self._open_descriptors(identity, terminals)
        self._machine: MachineState | None = None
        self.coordinator: SnapshotCoordinator | None = None
        if interceptor is not None:
            kind = SnapshotCoordinator if plan is None else SnapshotCheckCoordinator
            self.coordinator = kind(
                snapshots,
                program.variant,
                self.context,
                interceptor,
                self._get_journal_counts,
                fired,
            )
            if isinstance(self.coordinator, SnapshotCheckCoordinator) and plan is not None:
                self.coordinator.follow_plan(plan)
            self.context.on_wait = self.coordinator.check_wait
        self._instance.limit(
            memory_size_max=identity.configuration.memory_size_max,
            memories=MEMORIES_MAX + program.variant.has_stacks,
            table_elements=TABLE_ELEMENTS_MAX,
        )
        define_imports(self._instance, program.compiled, identity.configuration, self.context)

    def _open_descriptors(self, identity: preamble.Identity, terminals: Collection[int]) -> None:
        table = self.context.descriptors
        table.add(InputStream(self._stdin, STDIN in terminals))
        for stream in (STDOUT, STDERR):
            table.add(OutputStream(stream, stream in terminals))
        self.mounts.preopen(table)
        for event, micros, seq in identity.copied_files:
            self.mounts.add_file(event, micros * 1000, seq)

    def begin_session(self) -> None:
        """Append the start of the session and the targets of its streams."""
        self._writer.append(preamble.make_session_start(self.context.clocks.monotonic()))
        self._open_streams()

    def _open_streams(self) -> None:
        self._writer.append(self._stdin.make_opened_event())
        for event in make_stream_events(self._output_targets, self._delivered_sizes):
            self._writer.append(event)

    def interrupt(self) -> None:
        """Let the guest check for a stop request. Safe from any thread and signal handler."""
        self._instance.increment_epoch()

    def run(self) -> RunResult:
        """Run the guest until it ends or is stopped, and return the result.

        Raises ``Divergence``, ``NotResumable``, ``StorageError`` or ``OutputLost``. Call it
        once, in a thread with a stack of the configured size.
        """
        self._ticker.start()
        try:
            if self.tape.replaying:
                # The targets must be recorded before the first undelivered output is delivered.
                self._open_streams()
                self._writer.flush()
            try:
                result = self._run()
            except GuestStopped:  # Raised by a stop request, or at the end of a verified journal.
                return RunResult(ExitKind.STOPPED)
            with suppress(GuestStopped):  # A resume delivers the outputs that remain.
                self.context.outbox.deliver()
            return result
        finally:
            self._ticker.close()
            if self.coordinator is not None:
                self.coordinator.end()
            if self._machine is not None:
                self._machine.close()
            self.context.close()
            self.mounts.close()

    def _run(self) -> RunResult:
        try:
            self._run_guest()
            code = 0
        except ProcExit as proc_exit:
            code = proc_exit.code
        except GuestTrapped as trap:
            if self.coordinator is not None:
                self.coordinator.check_trap()
            return self._record_trap(trap.kind, trap.backtrace)
        except Divergence as divergence:
            divergence.backtrace = get_guest_backtrace(divergence)
            raise
        except _DECODE_ERRORS as error:
            if self.tape.last_input_seq < 0:
                raise
            raise NotResumable(
                f"event {self.tape.last_input_seq} is not a valid result of the call: {error}"
            ) from error
        self._mark_ended()
        self.tape.record_effect(
            ProcessExit.tag, codec.encode(ProcessExit(exit_code=_to_signed(code)))
        )
        return RunResult(ExitKind.EXITED, code)

    def _run_guest(self) -> None:
        """Call the entry functions of the module, from the first function or from a snapshot on."""
        instance, entries, stack = self._instance, list(self._program.variant.entries), None
        if self.coordinator is None:
            self.tape.start()
            self.context.memory = instance.instantiate(self._program.compiled)
            for entry in entries:
                instance.call(entry)
            return
        self.context.memory = instance.instantiate(self._program.compiled)
        self._machine = MachineState.from_instance(instance, self._program.variant)
        capture = SnapshotCapture(
            self._machine, self.context, self._writer, self._snapshots.dirty_page_tracking
        )
        capture.pages = self.pages
        if self._start is not None:
            stack = self._start.apply(self._machine, self.context)
            capture.whole = not self._start.is_last
            self._session = self._start.session
            entries = entries[entries.index(self._start.entry) if self._start.entry else 0 :]
        self.coordinator.begin(capture, instance, self._start.calls if self._start else 0)
        self.tape.start()
        if self._start is None or self._plan is not None:
            self.coordinator.take_bootstrap()
        for entry in entries:
            self.coordinator.prepare_call(entry, stack, self._start.function if self._start else "")
            instance.call(entry)
            while self.coordinator.handle_return():
                instance.call(entry)
            stack = None

    def _mark_ended(self) -> None:
        """Mark the guest as ended, so its sockets and terminal are not restored afterwards."""
        self._has_ended = True
        self.context.close()

    def _record_trap(self, kind: str, backtrace: str) -> RunResult:
        event = ProcessTrap(kind=kind, message=backtrace[:BACKTRACE_SIZE_MAX])
        payload = self.tape.peek(ProcessTrap.tag)
        if payload is not None:
            # An instrumented module has another backtrace, so a replay keeps the recorded one.
            recorded_trap = codec.decode(ProcessTrap.tag, payload)
            if isinstance(recorded_trap, ProcessTrap) and recorded_trap.kind == kind:
                event = recorded_trap
        self._mark_ended()
        self.tape.record_effect(ProcessTrap.tag, codec.encode(event))
        return RunResult(ExitKind.TRAPPED, None, kind, event.message)

    # -- callbacks of the tape, the outbox and the clock tick, all in the thread of the guest ----

    def _barrier(self) -> None:
        if self._durability is Durability.OUTPUT:
            self._writer.sync()
        else:
            self._writer.flush()

    def _before_wait(self) -> None:
        self.context.outbox.deliver()
        self._flush_regularly()

    def _flush_regularly(self) -> None:
        """Pass the journal to the kernel, and sync it once per interval, to limit losses."""
        self._writer.flush()
        due = time.monotonic() - self._last_sync >= INTERVAL_SECONDS
        if due and self._durability is not Durability.NONE:
            self._writer.sync()
            self._last_sync = time.monotonic()

    def _on_tick(self) -> None:
        self.context.interrupter.check()
        self.context.outbox.deliver()
        self._flush_regularly()
        if self.coordinator is not None:
            self.coordinator.tick()

    def _get_journal_counts(self) -> tuple[int, int]:
        """Return the counts of events and bytes in the journal."""
        return self._writer.next_seq, self._writer.size

    def _on_recording_event(self, tag: int, payload: bytes, micros: int) -> None:
        if tag == SessionStart.tag:
            event = codec.decode(tag, payload)
            assert isinstance(event, SessionStart)
            self._session = (micros, event.monotonic)

    def _continue_live(self) -> None:
        """Continue live: the journal has been replayed."""
        base = self.tape.last_monotonic
        if self._session is not None:
            start, monotonic = self._session
            # The tape has no time yet if no event follows the start of the session.
            base = max(base, monotonic + max(0, self.tape.last_time - start) * 1000)
        self.context.clocks.resume_at(base)
        self._writer.append(preamble.make_session_start(base))
        self.mounts.reopen_handles()
        self.context.network.restore_sockets()
        self.context.terminal.apply_settings()
        self.context.outbox.deliver()
        if self.coordinator is not None:
            self.coordinator.go_live()

    def _stop_at_end(self) -> None:
        """Stop at the end of the journal, unless the guest has ended or checks remain."""
        if not self._has_ended and self._plan is not None and self._plan.next_snapshot is None:
            raise GuestStopped


def _raise_stopped(*_: object) -> NoReturn:
    raise GuestStopped


def _to_signed(code: int) -> int:
    return code - (1 << 32) if code >= 1 << 31 else code

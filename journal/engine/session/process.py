"""One running guest: its wasm instance, its state, and its run from start to end."""

import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from journal.engine.allocation import Pooling
from journal.engine.program.prepared import PreparedModule
from journal.engine.runtime.bindings import GuestMemory, GuestTrapped, Instance, get_guest_backtrace
from journal.engine.runtime.call_gate import CallInterceptor
from journal.engine.runtime.epoch_ticker import INTERVAL_SECONDS, EpochTicker
from journal.engine.session import preamble
from journal.engine.session.file_history import FileHistory
from journal.engine.session.guest_descriptors import open_descriptors
from journal.engine.session.guest_time import GuestTime
from journal.engine.session.journal_writer import (
    JournalWriter,
    NullWriter,
    ObservedWriter,
    SyncSchedule,
)
from journal.engine.session.process_links import ProcessLinks
from journal.engine.session.recorded_run import REPLAY_PHASE
from journal.engine.session.replay import Replay
from journal.engine.session.run_config import SessionConfig
from journal.engine.session.run_monitor import RunMonitor
from journal.engine.session.run_result import ExitKind, RunResult
from journal.engine.session.snapshot_check import SnapshotCheckCoordinator
from journal.engine.session.standard_streams import StandardStreams
from journal.engine.session.start_files import open_start_files
from journal.engine.snapshot.capture import MachineState, SnapshotCapture
from journal.engine.snapshot.suspension import SnapshotCoordinator
from journal.engine.tape import Tape, check_between
from journal.engine.trust.access import HostAccess
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.filesystem.mounts import Mounts
from journal.engine.wasi.filesystem.own_files import OwnFiles
from journal.engine.wasi.network.guest_network import GuestNetwork
from journal.engine.wasi.processes import ProcessReplacedError
from journal.engine.wasi.stdio.delivery import make_stream_events
from journal.engine.wasi.stdio.outbox import Outbox
from journal.engine.wasi.stdio.stdin import FedSource, GuestStopped, Interrupter
from journal.engine.wasi.terminal import Terminal, find_terminal
from journal.errors import Divergence, NotResumable
from journal.events import codec
from journal.events.core import ProcessExit
from journal.events.process import ClockPoint, ProcessTrap, RecordingLevel, SessionStart
from journal.events.processes import StreamPassed
from journal.events.snapshots import Trigger
from journal.log.writer import Writer
from journal.operations.reseeding import make_reseeded
from journal.rewrite.progress import report_phase
from journal.wasi_abi import ProcExit, Signal

if TYPE_CHECKING:
    from journal.engine.session.process_tree import ProcessTree
    from journal.pages.page_index import PageIndex

BACKTRACE_SIZE_MAX = 4096

#: Checks of the clock per snapshot period. A single check per period would miss every second
#: period.
_TICKS_PER_PERIOD = 4

#: Errors raised while decoding a recorded input that does not match the format of its event.
_DECODE_ERRORS = (struct.error, ValueError, LookupError)


class Process:
    """One guest, ready to run in a thread of its own.

    ``streams``, ``interrupter`` and ``config`` are those of the session. With ``replay`` the guest
    first replays recorded events and continues live at their end. ``pages`` is the page index of
    the journal, if it has one. ``own`` are the files that the guest does not reach in its mounts.
    ``listeners`` are the host's sockets of the listeners that a new guest has from its start.
    """

    def __init__(
        self,
        program: PreparedModule,
        identity: preamble.Identity,
        writer: JournalWriter,
        streams: StandardStreams,
        interrupter: Interrupter,
        config: SessionConfig,
        *,
        replay: Replay | None = None,
        pages: "PageIndex | None" = None,
        own: OwnFiles | None = None,
        listeners: Sequence[socket.socket] = (),
        host: "ProcessTree | None" = None,
        forked_as: tuple[int, int] | None = None,
    ) -> None:
        self.program, self.identity, self.file_history = program, identity, FileHistory()
        self.monitor: RunMonitor | None = None
        self._observed: ObservedWriter | None = None
        self._machine: MachineState | None = None
        self.journal_id = writer.journal_id if isinstance(writer, Writer) else b""
        if config.on_event is not None and not isinstance(writer, NullWriter):
            writer = self._observed = ObservedWriter(writer, config.on_event, self._stop)
        self._writer = writer
        self._syncs = SyncSchedule(writer, config.durability)
        self.streams, self._config, self.pages = streams, config, pages
        self._replay = replay or Replay()
        self._start, self._plan, self._has_ended = self._replay.start, self._replay.plan, False
        self._on_input_wait, batches = self._replay.on_input_wait, self._replay.batches
        self.tape = Tape(
            writer,
            None if batches is None else check_between(batches, interrupter.check),
            keep_inputs=identity.start.level is RecordingLevel.FULL,
            on_recording_event=self._on_recording_event,
            on_live=self._continue_live if self._plan is None else self._stop_at_end,
            barrier=self._syncs.barrier,
            live=None if self._plan is None else (_raise_stopped, _raise_stopped),
        )
        interceptor = CallInterceptor() if program.variant.exports_state else None
        self._instance = Instance(program.engine, self._on_tick, interceptor)
        interval = min(INTERVAL_SECONDS, config.snapshots.period_seconds / _TICKS_PER_PERIOD)
        self._ticker = EpochTicker(self._instance.increment_epoch, interval)
        self.context = self._make_context(identity, interrupter)
        self.mounts = self._open_descriptors(identity, own)
        self._adopt(listeners)
        self.links = self._make_links(host, forked_as)
        self._set_generation(self._replay.generation)
        self._time = GuestTime(self.context, writer.append)
        self.coordinator = None if interceptor is None else self._make_coordinator(interceptor)
        program.set_up_instance(self._instance, self.context)

    def _open_descriptors(self, identity: preamble.Identity, own: OwnFiles | None) -> Mounts:
        """Open the standard streams and the mounts, whose long operations can be stopped."""
        streams, replay = self.streams, self._replay
        mounts = open_descriptors(
            self.context,
            identity,
            streams.source,
            streams.terminals,
            replay.access.directories,
            replay.times,
            own,
        )
        for tree in mounts.host_trees:
            tree.check = self.context.interrupter.check
        if own is not None:
            mounts.protect_own_files()
        return mounts

    def _adopt(self, listeners: Sequence[socket.socket]) -> None:
        """Give the guest the sockets of the host that it has from its start."""
        for event, handle in zip(self.identity.listeners, listeners, strict=False):
            self.context.network.adopt(event.fd, handle)

    def _make_links(
        self, tree: "ProcessTree | None", forked_as: tuple[int, int] | None
    ) -> ProcessLinks:
        """Return the links with the other processes; a new process is connected at once."""
        self.context.processes.on_replaced = self._mark_ended
        links = ProcessLinks(
            self.context,
            self.identity,
            tree,
            records_pipes=self.program.starts_processes,
            forked_as=forked_as,
            plan=self._plan,
            note=self._config.note,
        )
        links.open(self._writer.append_frame, self._syncs.barrier)
        if self._replay.batches is None:
            links.connect(self.interrupt)
        return links

    def _set_generation(self, generation: bytes | None) -> None:
        """Set the generation; None if the process was never reseeded."""
        self.generation = generation
        if generation is not None:
            self.mounts.set_generation(generation)

    def _make_context(self, identity: preamble.Identity, interrupter: Interrupter) -> CallContext:
        """Return the context of the host functions, without descriptors."""
        streams = self.streams
        outbox = Outbox(
            streams.output_targets,
            self._writer,
            self._syncs.barrier if self._replay.batches is None else self._end_phase_and_sync,
            self._ticker.arm,
            interrupter.wait_writable,
        )
        assert identity.environment is not None, "set_secrets has set it"
        context = CallContext(
            tape=self.tape,
            outbox=outbox,
            interrupter=interrupter,
            arguments=list(identity.start.arguments),
            environment=list(identity.environment),
            before_wait=self._before_wait,
            on_consumed=self._writer.flush,
        )
        if identity.start.level is RecordingLevel.FULL:
            context.on_long_wait = self._record_wait
        context.descriptors.is_lowest_first = self.program.is_wasix
        context.network = GuestNetwork(
            self.tape,
            context.descriptors,
            policy=self.access.network,
            has_listeners=self.access.has_listeners,
        )
        context.network.resolver.trusts_history = self.access.has_own_names
        context.signals.has_outside = self._plan is None
        if isinstance(streams.source, FedSource):
            context.signals.on_interrupt = streams.source.end_wait
        handle = find_terminal(streams.source, streams.output_targets)
        context.terminal = Terminal(self.tape, streams.terminals, handle)
        return context

    def _make_coordinator(self, interceptor: CallInterceptor) -> SnapshotCoordinator:
        kind = SnapshotCoordinator if self._plan is None else SnapshotCheckCoordinator
        coordinator = kind(
            self._config.snapshots,
            self.program.variant,
            self.context,
            interceptor,
            self._get_journal_counts,
            self._replay.fired,
        )
        if isinstance(coordinator, SnapshotCheckCoordinator) and self._plan is not None:
            coordinator.follow_plan(self._plan, self.links.repeat_passed)
        self.context.on_wait = coordinator.check_wait
        self.links.coordinator = coordinator
        return coordinator

    @property
    def stack_size(self) -> int:
        """Return the size of the native stack of the guest's thread in bytes."""
        return self.program.configuration.native_stack_size

    def note_child_end(self) -> None:
        """Tell the guest that one of its children has ended. Safe from any thread."""
        self.context.signals.send(Signal.CHLD)
        self.context.processes.wake()

    @property
    def access(self) -> HostAccess:
        """Return the access to the host that the guest has been granted."""
        return self._replay.access

    @property
    def fired(self) -> frozenset[Trigger]:
        """Return the triggers that do not fire any more."""
        return frozenset() if self.coordinator is None else self.coordinator.fired

    def begin_session(self) -> None:
        """Append the start of the session and the targets of its streams."""
        self._writer.append(preamble.make_session_start(self.context.clocks.monotonic()))
        self._open_streams()

    def _open_streams(self) -> None:
        self._writer.append(self.streams.source.make_opened_event())
        delivered_sizes = self._replay.delivered_sizes
        for event in make_stream_events(self.streams.output_targets, delivered_sizes):
            self._writer.append(event)

    def _stop(self) -> None:
        self.context.interrupter.request_stop()
        self.interrupt()

    def report_to(self, monitor: RunMonitor) -> None:
        """Report the stages of the run to ``monitor``."""
        self.monitor = monitor
        if self.coordinator is not None:
            self.coordinator.on_snapshot = monitor.take_snapshot

    def check_observer(self) -> None:
        """Raise the exception of the embedder's function that observes the events, if any."""
        if self._observed is not None and self._observed.error is not None:
            raise self._observed.error

    def interrupt(self) -> None:
        """Let the guest check for a stop request. Safe from any thread and signal handler."""
        self._instance.increment_epoch()

    def abandon(self) -> None:
        """Close the files and sockets in a forked child, where the guest does not run."""
        self.context.release_host()
        self.mounts.close()

    def run(self) -> RunResult:
        """Run the guest until it ends or is stopped, and return the result.

        Raises ``Divergence``, ``NotResumable``, ``StorageError`` or ``OutputLost``. Call it
        once, in a thread with a stack of the configured size.
        """
        result = self._run_program()
        return self.links.follow(result) if result.kind is ExitKind.REPLACED else result

    def _run_program(self) -> RunResult:
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
            self.context.signals.end()
            if self.coordinator is not None:
                self.coordinator.end()
            if self._machine is not None:
                self._machine.close()
            self.context.close()
            self.mounts.close()
            self._free_instance()

    def _free_instance(self) -> None:
        """Free the memories of the guest, and its slots in a pool, before the recorder is freed."""
        self.context.memory = GuestMemory()
        self._instance.close()

    def _run(self) -> RunResult:
        try:
            self._run_guest()
            code = 0
        except ProcExit as proc_exit:
            code = proc_exit.code
        except ProcessReplacedError:
            return RunResult(ExitKind.REPLACED)
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
        self.links.end_others()
        self._mark_ended()
        self.tape.record_effect(ProcessExit.tag, codec.encode(make_exit_event(code)))
        self.links.leave()
        return RunResult(ExitKind.EXITED, code)

    def _run_guest(self) -> None:
        """Call the entry functions of the module, from the first function or from a snapshot on."""
        instance, entries, stack = self._instance, list(self.program.variant.entries), None
        if self.coordinator is None:
            self.tape.start()
            open_start_files(self.context, self.identity.mounts)
            self.context.memory = instance.instantiate(self.program.compiled)
            for entry in entries:
                instance.call(entry)
            return
        self.context.memory = instance.instantiate(self.program.compiled)
        self._machine = MachineState.from_instance(instance, self.program.variant)
        self._machine.is_pooled = isinstance(self._config.allocation, Pooling)
        capture = SnapshotCapture(
            self._machine, self.context, self._writer, self._config.snapshots.dirty_page_tracking
        )
        capture.pages = self.pages
        if self._start is not None:
            with report_phase(self._config.progress, "restoring the snapshot"):
                stack = self._start.apply(self._machine, self.context)
            capture.whole = not self._start.is_last
            self._time.note_reading(*self._start.session)
            entries = entries[entries.index(self._start.entry) if self._start.entry else 0 :]
        self.coordinator.begin(capture, instance, self._start.calls if self._start else 0)
        self.tape.start()
        if self._start is None:
            open_start_files(self.context, self.identity.mounts)
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
        event = make_trap_event(kind, backtrace)
        payload = self.tape.peek(ProcessTrap.tag)
        if payload is not None:
            # An instrumented module has another backtrace, so a replay keeps the recorded one.
            recorded_trap = codec.decode(ProcessTrap.tag, payload)
            if isinstance(recorded_trap, ProcessTrap) and recorded_trap.kind == kind:
                event = recorded_trap
        self.links.end_others()
        self._mark_ended()
        self.tape.record_effect(ProcessTrap.tag, codec.encode(event))
        self.links.leave()
        return RunResult(ExitKind.TRAPPED, None, kind, event.message)

    # -- callbacks of the tape, the outbox and the clock tick, all in the thread of the guest ----

    def _end_phase_and_sync(self) -> None:
        """End the phase of the replay, because output follows, and pass the barrier."""
        if self.tape.replaying:
            self._config.progress(REPLAY_PHASE, 1, 1)
        self._syncs.barrier()

    def _record_wait(self) -> None:
        calls = 0 if self.coordinator is None else self.coordinator.interceptor.calls
        self._time.record_wait(calls)

    def _before_wait(self, needs_input: bool) -> None:
        self._time.record_step()
        self.context.outbox.deliver()
        if needs_input and self._on_input_wait is not None:
            call, self._on_input_wait = self._on_input_wait, None
            if not self.context.outbox.has_reached_terminal:
                call()
        self._syncs.flush_regularly()
        source = self.streams.source
        if needs_input and isinstance(source, FedSource):
            source.begin_wait()

    def _on_tick(self) -> None:
        self.context.interrupter.check()
        self._time.record_step()
        self.links.serve()
        self.context.outbox.deliver()
        self._syncs.flush_regularly()
        if self.coordinator is not None:
            self.coordinator.tick()

    def _get_journal_counts(self) -> tuple[int, int]:
        """Return the counts of events and bytes in the journal."""
        return self._writer.next_seq, self._writer.size

    def _on_recording_event(self, tag: int, payload: bytes, micros: int) -> None:
        if tag in (SessionStart.tag, ClockPoint.tag):
            event = codec.decode(tag, payload)
            assert isinstance(event, SessionStart | ClockPoint)
            self._time.note_reading(micros, event.monotonic)
        elif tag == StreamPassed.tag:
            self.links.repeat(self.tape.recording_seq, payload)

    def _continue_live(self) -> None:
        """Continue live: the journal has been replayed."""
        base = self._time.continue_after(
            self.tape.last_time,
            self.tape.last_monotonic,
            self._replay.wait,
            counts_pause=self._replay.counts_pause,
        )
        self.mounts.reopen_handles()
        if self._replay.reseeds:
            mark = make_reseeded()
            self._writer.append(mark)
            self._set_generation(mark.generation)
        self._writer.append(preamble.make_session_start(base))
        if self.links.forked_as is None:  # The sockets of the host belong to the parent.
            self.context.network.restore_sockets()
        self.context.terminal.apply_settings()
        self.context.outbox.deliver()
        if self.coordinator is not None:
            self.coordinator.go_live()
        if self.monitor is not None:
            self.monitor.continue_live(self._writer.next_seq)
        self.links.connect(self.interrupt)
        self.links.wait_for_others()

    def _stop_at_end(self) -> None:
        """Stop at the end of the journal, unless the guest has ended or checks remain."""
        if not self._has_ended and self._plan is not None and self._plan.next_snapshot is None:
            raise GuestStopped


def _raise_stopped(*_: object) -> NoReturn:
    raise GuestStopped


def make_exit_event(code: int) -> ProcessExit:
    """Return the event of a guest that ended with an unsigned exit code."""
    return ProcessExit(exit_code=code - (1 << 32) if code >= 1 << 31 else code)


def make_trap_event(kind: str, backtrace: str) -> ProcessTrap:
    """Return the event of a guest that trapped. A long backtrace is cut."""
    return ProcessTrap(kind=kind, message=backtrace[:BACKTRACE_SIZE_MAX])

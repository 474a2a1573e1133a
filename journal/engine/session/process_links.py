"""Links of one process with the other processes of its run."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from journal.engine.runtime.call_gate import SuspendCall
from journal.engine.session.preamble import Identity
from journal.engine.session.run_result import ExitKind, RunResult
from journal.engine.session.snapshot_check import CheckPlan
from journal.engine.session.stream_relay import StreamRelay
from journal.engine.snapshot.forked_state import ForkedState
from journal.engine.snapshot.snapshot_queue import PendingSnapshot
from journal.engine.snapshot.suspension import SnapshotCoordinator
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.objects.waits import Condition
from journal.engine.wasi.stdio.stdin import GuestStopped
from journal.errors import NotResumable
from journal.events.process import RecordingLevel
from journal.wasi_abi import Errno, WasiError

if TYPE_CHECKING:
    from journal.engine.session.process_tree import ProcessTree

_NO_FORK = (
    "proc_fork is refused: it copies the stack of the guest, which needs a module that can be "
    "instrumented, and --stacks other than never"
)


class ProcessLinks:
    """The links of a process with the other processes of its run, which ``tree`` has.

    ``records_pipes`` says whether the program can start others. ``forked_as`` has the numbers of a
    process that proc_fork made, and of its parent. ``plan`` has the snapshots of a replay that
    compares them. ``relay`` passes bytes between the other processes and the standard streams of
    the first one.
    """

    def __init__(
        self,
        context: CallContext,
        identity: Identity,
        tree: "ProcessTree | None",
        *,
        records_pipes: bool,
        forked_as: tuple[int, int] | None,
        plan: CheckPlan | None,
        note: Callable[[str], object],
    ) -> None:
        # Without inputs in the journal, another process could not be replayed from it.
        is_full = identity.start.level is RecordingLevel.FULL
        self.tree = tree if is_full else None
        self.relay: StreamRelay | None = None
        self.forked_as = forked_as
        self.coordinator: SnapshotCoordinator | None = None
        self._context, self._identity, self._plan, self._note = context, identity, plan, note
        self._ticket: PendingSnapshot | None = None
        self._passed: deque[tuple[int, bytes]] = deque()
        processes = context.processes
        processes.host = self.tree
        processes.records_pipes = records_pipes and is_full
        processes.wake = context.interrupter.wake
        processes.take_copy, processes.forked_as = self._take_copy, forked_as
        processes.on_forked = self._set_signal_target
        context.signals.send_to_process = processes.send_signal

    def open(self, append_frame: Callable[[int, bytes], int], barrier: Callable[[], None]) -> None:
        """Add the descriptors of the start, or the relay. The streams and mounts are open."""
        context, child = self._context, self._identity.child
        processes = context.processes
        processes.barrier = barrier
        # Another process can end this one by a signal.
        context.signals.is_needed = child is not None or processes.records_pipes
        if child is None:
            if processes.records_pipes and self.forked_as is None:
                context.relay = self.relay = StreamRelay(context, append_frame, barrier)
            return
        processes.pid, processes.parent, processes.image = child.pid, child.parent, child.image
        processes.start_files = child.files
        context.signals.ignored = frozenset(child.ignored)
        context.working_directory = child.directory
        self._set_signal_target()
        try:
            processes.add_start_descriptors(child.descriptors)
        except WasiError as error:
            raise NotResumable("the process starts with impossible descriptors") from error

    def _set_signal_target(self) -> None:
        self._context.signals.process_id = self._context.processes.pid

    def connect(self, interrupt: Callable[[], None]) -> None:
        """Connect the guest, which is live, with the other processes.

        ``interrupt`` lets a guest that computes serve the relay.
        """
        processes, relay = self._context.processes, self.relay
        processes.continue_live()
        if relay is not None and self.tree is not None:

            def wake() -> None:
                processes.wake()
                interrupt()

            relay.attach(self.tree.find_pipe, wake)

    def wait_for_others(self) -> None:
        """Wait until all processes have been replayed."""
        if self.tree is not None:
            self.tree.wait_until_live(self._context)

    def serve(self) -> None:
        """Pass bytes on, unless a snapshot is being taken, whose parts stand together."""
        if self.relay is not None and not (self.coordinator and self.coordinator.is_suspending):
            self.relay.serve()

    def repeat(self, seq: int, payload: bytes) -> None:
        """Repeat a StreamPassed event of a replay, if no snapshot before it is to be compared."""
        self._passed.append((seq, payload))
        self.repeat_passed()

    def repeat_passed(self) -> None:
        """Repeat the StreamPassed events before the next snapshot that is to be compared."""
        following = None if self._plan is None else self._plan.next_snapshot
        while self.relay is not None and self._passed:
            if following is not None and self._passed[0][0] > following.seq:
                return
            self.relay.repeat(self._passed.popleft()[1])

    def _take_copy(self) -> ForkedState:
        """Return a copy of the state of the guest, which is suspended for it in the same call.

        Raises ``SuspendCall`` at first, and ``WasiError`` if snapshots have no stacks.
        """
        if self.coordinator is None or not self.coordinator.has_stacks:
            self._note(_NO_FORK)
            raise WasiError(Errno.NOTSUP)
        ticket, self._ticket = self._ticket, None
        if ticket is None or ticket.state is None:
            self._ticket = self.coordinator.request_copy("proc_fork")
            raise SuspendCall
        return ticket.state

    # -- the end -----------------------------------------------------------------------------------

    def end_others(self) -> None:
        """End the other processes, and take what they have written: the first one ends."""
        if self.relay is not None and self.tree is not None and not self._context.tape.replaying:
            self.tree.end_run()
            self.relay.serve()

    def leave(self) -> None:
        """Let the other processes know that this one has ended, once its end is durable."""
        processes = self._context.processes
        if self.tree is not None and not self._context.tape.replaying:
            processes.barrier()
            processes.detach()

    def follow(self, replaced: RunResult) -> RunResult:
        """Serve the other processes until the program that replaced the first one has ended."""
        tree, context = self.tree, self._context
        if tree is None or self.relay is None:
            return replaced
        pid = context.processes.pid
        context.on_wait = lambda function, idle: None  # No snapshot is taken any more.
        try:
            context.wait("proc_exec3", Condition(lambda: tree.find_end(pid) is not None))
            self.end_others()
            context.outbox.deliver()
        except GuestStopped:
            return RunResult(ExitKind.STOPPED)
        return tree.find_result(pid)

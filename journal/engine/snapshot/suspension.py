"""Suspension of the guest at a safe point for a snapshot.

The guest is suspended at a host call that has had no effect yet, or at a loop head if the module is
instrumented for that. With stacks, the guest is unwound and returns, the snapshot is taken, and the
guest is called again, rewound, and makes its host call. Without stacks, the snapshot is taken
inside the host call. While a handler of a signal runs, which the host has called inside a host
call, the guest is not suspended: the snapshot waits for the end of the handler.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from journal.engine.configuration import SnapshotOptions
from journal.engine.program.variant import ModuleVariant
from journal.engine.runtime.asyncify_stack import (
    AsyncifyStack,
    StackPhase,
    stack_mismatch_error,
    stack_overflow_error,
)
from journal.engine.runtime.bindings import Instance
from journal.engine.runtime.call_gate import CallInterceptor, SuspendCall
from journal.engine.snapshot.call_triggers import CallTriggers
from journal.engine.snapshot.capture import SnapshotCapture, SuspendPoint
from journal.engine.snapshot.forked_state import ForkedState, copy_state
from journal.engine.snapshot.snapshot_queue import PendingSnapshot, SnapshotQueue
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.stdio.stdin import GuestStopped
from journal.engine.wasm.loop_polls import POLL_FLAG, POLL_TABLE
from journal.events.snapshots import Trigger
from journal.snapshots.triggers import ONCE, TRIGGERS_BY_SIGNAL, TriggerState
from journal.wasi_abi import Signal

_COUNTED = (Trigger.EVENT_COUNT, Trigger.JOURNAL_SIZE)

SnapshotCallback = Callable[[Trigger, int, int], object]
"""Function that receives the trigger and the number of a new snapshot, and the time at which its
guest was suspended, in nanoseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """A snapshot that is about to be taken; ``ticket`` belongs to an explicit request."""

    trigger: Trigger
    point: SuspendPoint
    ticket: PendingSnapshot | None = None


class SnapshotCoordinator:
    """Coordinator of one guest's suspensions; ``interceptor`` intercepts its host calls.

    ``counts`` returns the number of events and bytes of the journal. ``fired`` are the triggers of
    existing snapshots.
    """

    def __init__(
        self,
        snapshots: SnapshotOptions,
        variant: ModuleVariant,
        context: CallContext,
        interceptor: CallInterceptor,
        counts: Callable[[], tuple[int, int]],
        fired: Iterable[Trigger] = (),
    ) -> None:
        self._snapshots, self._variant = snapshots, variant
        fired = set(fired)
        self._has_bootstrap = Trigger.BOOTSTRAP in fired
        self._triggers = TriggerState(
            snapshots.on,
            period_seconds=snapshots.period_seconds,
            every_events=snapshots.every_events,
            every_bytes=snapshots.every_bytes,
            fired=fired,
        )
        self._at_calls = CallTriggers(self._triggers, context)
        self._context, self._counts = context, counts
        self.interceptor = interceptor
        self.interceptor.on_call, self.interceptor.on_suspend = self._on_call, self._on_suspend_call
        self.queue = SnapshotQueue(self._on_request)
        self.on_snapshot: SnapshotCallback = lambda trigger, seq, start_ns: None
        self._start_ns = 0
        self._idle_call = -1
        self._request: SnapshotRequest | None = None
        self._entry = self._function = ""
        self._stack: AsyncifyStack | None = None
        self._instance: Instance | None = None
        self._capture: SnapshotCapture | None = None
        self._copy: ForkedState | None = None

    # -- before and between the calls of the guest's functions -------------------------------------

    def begin(self, capture: SnapshotCapture, instance: Instance, calls: int) -> None:
        """Attach an instance that has made ``calls`` host calls and has not been called in this
        process.
        """
        self._instance, self._capture = instance, capture
        self.interceptor.calls = calls
        self._context.signals.on_handler_end = self._continue
        self._context.signals.on_arrival = self._note_signal
        if self._variant.has_stacks:
            self._stack = AsyncifyStack(instance, instance.get_memory(self._variant.stack_memory))
        if self._variant.polls_loops:
            instance.put_in_table(POLL_TABLE, self._poll)
        self._at_calls.look_at_descriptors()
        self._update_interception()

    def take_bootstrap(self) -> None:
        """Take the bootstrap snapshot before any guest code runs, if its trigger is armed.

        A journal has at most one, because a run that is executed again has the same initial state.
        """
        if self._context.tape.replaying or self._has_bootstrap:
            return
        if self._triggers.fire(Trigger.BOOTSTRAP):
            self._take(
                SnapshotRequest(Trigger.BOOTSTRAP, SuspendPoint(self.interceptor.calls + 1, "", ""))
            )

    def prepare_call(self, entry: str, stack: bytes | None = None, function: str = "") -> None:
        """Prepare the call of an exported function; with ``stack``, rewind this stack.

        The rewind ends in the call of the host's ``function``, or at a loop head if it is empty.
        """
        self._entry, self._function = entry, function
        if stack is not None:
            assert self._stack is not None, "only a variant with stacks can be rewound"
            self._rewind(stack)

    def handle_return(self) -> bool:
        """Write the snapshot if the guest has returned to be suspended. Return whether to call the
        function again.
        """
        if self._stack is None or self._stack.phase is StackPhase.RUNNING:
            return False
        if self._stack.phase is StackPhase.REWINDING or self._request is None:
            raise stack_mismatch_error(is_resumed=self._request is None)
        stack = self._stack.finish_unwind()
        self._write_state(self._request, stack)
        self._rewind(stack)
        return True

    def check_trap(self) -> None:
        """Raise ``EngineError`` if unwinding or rewinding caused the guest's trap."""
        if self._stack is None or self._stack.phase is StackPhase.RUNNING:
            return
        if self._stack.phase is StackPhase.UNWINDING:
            raise stack_overflow_error()
        raise stack_mismatch_error(is_resumed=self._request is None)

    def _rewind(self, stack: bytes) -> None:
        assert self._stack is not None
        self._stack.rewind(stack)
        self.interceptor.intercept_all()
        if self._variant.polls_loops:
            self._set_polling(1)

    @property
    def fired(self) -> frozenset[Trigger]:
        """Return the triggers that are not armed, or not any more."""
        armed = self._triggers.is_armed
        return frozenset(trigger for trigger in Trigger if not armed(trigger))

    @property
    def is_suspending(self) -> bool:
        """Return whether a snapshot is being taken, whose parts stand together in the journal."""
        return self._request is not None

    @property
    def has_stacks(self) -> bool:
        """Return whether a snapshot has the stacks of the guest."""
        return self._variant.has_stacks

    def end(self) -> None:
        """End the guest: no pending snapshot will be taken."""
        self.queue.end()
        if self._copy is not None:  # The guest ended before its snapshot was complete.
            self._copy.close()
            self._copy = None

    # -- from any thread ---------------------------------------------------------------------------

    def notify(self, trigger: Trigger) -> bool:
        """Fire a trigger, and return whether a snapshot was requested. Thread-safe."""
        with self.queue.lock:
            if self.queue.has_ended or not self._triggers.fire(trigger):
                return False
            self.queue.add(trigger)
            return True

    def _on_request(self) -> None:
        self.interceptor.intercept_all()
        self._context.interrupter.wake()

    # -- in the guest's thread, while the guest runs -----------------------------------------------

    def tick(self) -> None:
        """Check the triggers of time and size, and intercept the next call if a snapshot is due."""
        if self._context.tape.replaying or self._capture is None:
            return
        if self.queue or self._triggers.find_due(time.monotonic(), *self._counts()) is not None:
            self.interceptor.intercept_all()
            if self._variant.polls_loops:
                self._set_polling(1)

    def go_live(self) -> None:
        """Start to serve the requests that arrived during the replay."""
        self._triggers.reset(time.monotonic(), *self._counts())
        if self.queue:
            self.interceptor.intercept_all()

    def check_wait(self, function: str, idle: bool) -> None:
        """Take a due snapshot while the guest waits in a call without an effect.

        ``idle`` is true after a long wait. Raises ``SuspendCall`` to suspend the guest.
        """
        if self._context.signals.is_handling:
            return
        cause: Trigger | PendingSnapshot | None = self.queue.pop()
        if cause is None and idle and self._is_idle():
            cause = Trigger.IDLE
        if cause is None:
            return
        request = _make_request(cause, SuspendPoint(self.interceptor.calls, self._entry, function))
        if self._stack is None:
            self._take(request)
        else:
            self._request = request
            raise SuspendCall

    def request_copy(self, function: str) -> PendingSnapshot:
        """Request a snapshot with a copy of the state in the present call, which is made again.

        The caller raises ``SuspendCall``. Only for a guest with stacks.
        """
        ticket = PendingSnapshot(Trigger.EXPLICIT, copies_state=True)
        point = SuspendPoint(self.interceptor.calls, self._entry, function)
        self._request = SnapshotRequest(Trigger.EXPLICIT, point, ticket)
        return ticket

    def _is_idle(self) -> bool:
        """Return whether a long wait triggers a snapshot, which it does once per call.

        A suspended wait starts again, and the state has not changed.
        """
        if self._idle_call == self.interceptor.calls or not self._triggers.fire(Trigger.IDLE):
            return False
        self._idle_call = self.interceptor.calls
        return True

    def _on_suspend_call(self, function: str) -> None:
        assert self._stack is not None
        self._stack.unwind()

    def _on_call(self, function: str, arguments: tuple[int, ...]) -> bool:
        if self._stack is not None and self._stack.phase is StackPhase.REWINDING:
            self._finish_rewind(function)
            return False
        if self._context.signals.is_handling:
            self._postpone(function, arguments)
            return False
        cause = self._find_trigger(function, arguments)
        if cause is None:
            self._continue()
            return False
        return self._suspend(
            _make_request(cause, SuspendPoint(self.interceptor.calls, self._entry, function))
        )

    def _poll(self) -> None:
        """Handle a poll at a loop head."""
        if self._stack is not None and self._stack.phase is StackPhase.REWINDING:
            self._finish_rewind("")
            return
        self._set_polling(0)
        cause = None if self._context.signals.is_handling else self._find_trigger("", ())
        if cause is not None:
            point = SuspendPoint(self.interceptor.calls + 1, self._entry, "")
            self._suspend(_make_request(cause, point))

    def _finish_rewind(self, function: str) -> None:
        """Complete the snapshot after the rewind, which proves that the snapshot can be resumed."""
        assert self._stack is not None
        request, self._request = self._request, None
        expected = request.point.function if request is not None else self._function
        if function != expected or not self._stack.finish_rewind():
            raise stack_mismatch_error(is_resumed=request is None)
        if self._variant.polls_loops:
            self._set_polling(0)
        if request is not None:
            self._commit(request)
        self._continue()

    def _continue(self) -> None:
        self.interceptor.intercept_selected()
        if self.queue:
            self.interceptor.intercept_all()

    def _suspend(self, request: SnapshotRequest) -> bool:
        if self._stack is None:
            self._take(request)
            self._continue()
            return False
        self._request = request
        self._stack.unwind()
        return True

    def _postpone(self, function: str, arguments: tuple[int, ...]) -> None:
        """Request the snapshot of this call of a signal's handler, after the end of the handler.

        A snapshot that the next call triggers as well is not requested.
        """
        trigger = None if self._context.tape.replaying else self._at_calls.find(function, arguments)
        if trigger in ONCE or trigger is Trigger.EXPLICIT:
            self.notify(trigger)

    def _note_signal(self, signal: int) -> None:
        """Fire the triggers of a signal that has reached the guest."""
        for trigger in TRIGGERS_BY_SIGNAL.get(Signal(signal), ()):
            if self.notify(trigger):
                break

    # -- decisions ---------------------------------------------------------------------------------

    def _find_trigger(
        self, function: str, arguments: tuple[int, ...]
    ) -> Trigger | PendingSnapshot | None:
        """Return the trigger or request of a snapshot that is due at this call, or None."""
        if self._context.tape.replaying:
            return None
        requested = self.queue.pop()
        if requested is not None:
            return requested
        with self.queue.lock:
            trigger = self._at_calls.find(function, arguments)
            if trigger is not None:
                return trigger if self._triggers.fire(trigger) else None
        return self._triggers.find_due(time.monotonic(), *self._counts())

    def _update_interception(self) -> None:
        """Intercept the calls at which a trigger may fire."""
        names = self._at_calls.list_calls()
        if any(self._triggers.is_armed(trigger) for trigger in _COUNTED):
            names |= self.interceptor.names
        self.interceptor.set_always(names)

    def _take(self, request: SnapshotRequest) -> None:
        """Write a snapshot without a stack."""
        self._write_state(request, None)
        self._commit(request)

    def _write_state(self, request: SnapshotRequest, stack: bytes | None) -> None:
        assert self._capture is not None
        self._start_ns = time.time_ns()
        self._capture.write_state(request.point, stack, self._variant.code)
        ticket = request.ticket
        if ticket is not None and ticket.copies_state:
            self._copy = copy_state(
                request.point, self._variant.code, request.trigger, self._capture, self._context
            )

    def _commit(self, request: SnapshotRequest) -> None:
        """Complete the snapshot; raises ``GuestStopped`` if the run ends with it."""
        assert self._capture is not None
        captured = self._capture.commit(request.trigger)
        self._triggers.reset(time.monotonic(), *self._counts())
        self.on_snapshot(request.trigger, captured.seq, self._start_ns)
        if request.ticket is not None:
            copy, self._copy = self._copy, None
            state = None if copy is None else copy.complete(captured)
            self.queue.complete(request.ticket, captured.seq, state)
        self._update_interception()
        if self._snapshots.stop_after:
            raise GuestStopped

    def _set_polling(self, value: int) -> None:
        assert self._instance is not None
        self._instance.set_flag(POLL_FLAG, value)


def _make_request(cause: Trigger | PendingSnapshot, point: SuspendPoint) -> SnapshotRequest:
    if isinstance(cause, PendingSnapshot):
        return SnapshotRequest(cause.trigger, point, cause)
    return SnapshotRequest(cause, point)

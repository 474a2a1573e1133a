"""Holding a guest up for a snapshot, and letting it go on.

The guest stands still at a call of its host that has had no effect yet (or where a loop begins
again, if it was instrumented for that). With stacks it is unwound there, and returns; the snapshot
is taken; it is called again and rewound, and makes its call. Without, it is taken in the call.
"""

import threading
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
from journal.engine.snapshot.capture import SnapshotCapture, SuspendPoint
from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import InputStream
from journal.engine.wasi.stdio.stdin import GuestStopped
from journal.engine.wasm.loop_polls import POLL_FLAG, POLL_TABLE
from journal.events.snapshots import Trigger
from journal.snapshots.triggers import CALLS_BY_TRIGGER, TriggerState

_COUNTED = (Trigger.EVENT_COUNT, Trigger.JOURNAL_SIZE)
_AT_STDIN = CALLS_BY_TRIGGER[Trigger.FIRST_STDIN]


@dataclass(slots=True, eq=False)
class PendingSnapshot:
    """What was asked for, and by what; ``seq`` is the number of its Snapshot, once it is there."""

    trigger: Trigger
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """A snapshot that is to be taken, and by what; ``ticket`` is of whom has asked for it."""

    trigger: Trigger
    place: SuspendPoint
    ticket: PendingSnapshot | None = None


class SnapshotCoordinator:
    """When and where one guest stands still; ``interceptor`` is what its calls go through.

    ``counts`` gives how many events and bytes the journal has; ``fired`` are the triggers of the
    snapshots that it has already.
    """

    def __init__(
        self,
        snapshots: SnapshotOptions,
        variant: ModuleVariant,
        state: CallContext,
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
        self._state, self._counts = state, counts
        self.interceptor = interceptor
        self.interceptor.on_call, self.interceptor.on_suspend = self._on_call, self._on_suspend_call
        self._lock = threading.Condition()
        self._requested: dict[Trigger, PendingSnapshot] = {}  # in the order of the first request
        self._idle_call = -1
        self._request: SnapshotRequest | None = None
        self._entry = self._function = ""
        self._stack: AsyncifyStack | None = None
        self._instance: Instance | None = None
        self._capture: SnapshotCapture | None = None
        self._has_ended = False

    # -- before and between the calls of the guest's functions -------------------------------------

    def begin(self, capture: SnapshotCapture, instance: Instance, calls: int) -> None:
        """The guest is there, and has made ``calls`` of its host; it has not been called here."""
        self._instance, self._capture = instance, capture
        self.interceptor.calls = calls
        if self._variant.has_stacks:
            self._stack = AsyncifyStack(instance, instance.memory(self._variant.stack_memory))
        if self._variant.polls_loops:
            instance.put_in_table(POLL_TABLE, self._poll)
        self._update_interception()

    def take_bootstrap(self) -> None:
        """Nothing of the guest has run yet: where the trigger of that is armed, take it.

        A journal has one at most: a run from the start again has no other state there.
        """
        if self._state.tape.replaying or self._has_bootstrap:
            return
        if self._triggers.fire(Trigger.BOOTSTRAP):
            self._take(
                SnapshotRequest(Trigger.BOOTSTRAP, SuspendPoint(self.interceptor.calls + 1, "", ""))
            )

    def prepare_call(self, entry: str, stack: bytes | None = None, function: str = "") -> None:
        """An exported function is about to be called; with ``stack``, to go on where that was.

        That is in the call of the host's ``function``, or in a loop.
        """
        self._entry, self._function = entry, function
        if stack is not None:
            assert self._stack is not None, "only a variant with stacks has one to rewind"
            self._rewind(stack)

    def handle_return(self) -> bool:
        """The function has returned; whether it was only to have its snapshot, and is to go on."""
        if self._stack is None or self._stack.phase is StackPhase.RUNNING:
            return False
        if self._stack.phase is StackPhase.REWINDING or self._request is None:
            raise stack_mismatch_error(is_resumed=self._request is None)
        stack = self._stack.finish_unwind()
        self._write_state(self._request, stack)
        self._rewind(stack)
        return True

    def end(self) -> None:
        """The guest is over: nobody waits for a snapshot any more."""
        with self._lock:
            self._has_ended = True
            self._lock.notify_all()

    def check_trap(self) -> None:
        """The guest has trapped: raise ``EngineError`` if that came of moving its stack."""
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

    # -- from any thread ---------------------------------------------------------------------------

    def notify(self, trigger: Trigger) -> bool:
        """Something has happened; whether a snapshot is taken for it, as soon as can be."""
        with self._lock:
            if self._has_ended or not self._triggers.fire(trigger):
                return False
            self._add_request(trigger)
            return True

    def request(self, trigger: Trigger) -> PendingSnapshot:
        """Ask for a snapshot; a ticket to wait with."""
        with self._lock:
            return self._add_request(trigger)

    def _add_request(self, trigger: Trigger) -> PendingSnapshot:
        if self._has_ended:
            return PendingSnapshot(trigger)
        # Requests for one trigger share a snapshot until it begins, so that many requests for one
        # trigger delay the others by one snapshot at most. ``setdefault`` is atomic: a signal
        # handler may call this while the same thread is in it.
        ticket = self._requested.setdefault(trigger, PendingSnapshot(trigger))
        self.interceptor.intercept_all()
        self._state.interrupter.wake()
        return ticket

    def wait(self, ticket: PendingSnapshot, timeout_seconds: float | None) -> int | None:
        """Wait for what was asked for: the number of its Snapshot; None if it does not come."""
        with self._lock:
            self._lock.wait_for(lambda: ticket.seq is not None or self._has_ended, timeout_seconds)
            return ticket.seq

    # -- in the guest's thread, while it computes, waits, or calls --------------------------------

    def tick(self) -> None:
        """Look at the time, and see to it that what is asked for comes soon."""
        if self._state.tape.replaying or self._capture is None:
            return
        if (
            self._requested
            or self._triggers.find_due(time.monotonic(), *self._counts()) is not None
        ):
            self.interceptor.intercept_all()
            if self._variant.polls_loops:
                self._set_polling(1)

    def go_live(self) -> None:
        """The journal has been replayed: what was asked for meanwhile can be taken."""
        self._triggers.reset(time.monotonic(), *self._counts())
        if self._requested:
            self.interceptor.intercept_all()

    def check_wait(self, function: str, idle: bool) -> None:
        """The guest waits in a call that has had no effect; ``idle``: for long already.

        Raises ``SuspendCall`` if it is to be held up.
        """
        wanted: Trigger | PendingSnapshot | None = self._pop_requested()
        if wanted is None and idle and self._is_idle():
            wanted = Trigger.IDLE
        if wanted is None:
            return
        request = _make_request(wanted, SuspendPoint(self.interceptor.calls, self._entry, function))
        if self._stack is None:
            self._take(request)
        else:
            self._request = request
            raise SuspendCall

    def _is_idle(self) -> bool:
        """Whether a guest that has waited for long is a trigger: in each of its calls once.

        A wait that was held up begins again, and in it nothing has changed.
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
        wanted = self._find_trigger(function, arguments)
        if wanted is None:
            self._continue()
            return False
        return self._suspend(
            _make_request(wanted, SuspendPoint(self.interceptor.calls, self._entry, function))
        )

    def _poll(self) -> None:
        """A loop begins again, and the flag is up."""
        if self._stack is not None and self._stack.phase is StackPhase.REWINDING:
            self._finish_rewind("")
            return
        self._set_polling(0)
        wanted = self._find_trigger("", ())
        if wanted is not None:
            point = SuspendPoint(self.interceptor.calls + 1, self._entry, "")
            self._suspend(_make_request(wanted, point))

    def _finish_rewind(self, function: str) -> None:
        """The stack is what it was: that closes the snapshot, which is good for a resume now."""
        assert self._stack is not None
        request, self._request = self._request, None
        expected = request.place.function if request is not None else self._function
        if function != expected or not self._stack.finish_rewind():
            raise stack_mismatch_error(is_resumed=request is None)
        if self._variant.polls_loops:
            self._set_polling(0)
        if request is not None:
            self._commit(request)
        self._continue()

    def _continue(self) -> None:
        self.interceptor.intercept_selected()
        if self._requested:
            self.interceptor.intercept_all()

    def _suspend(self, request: SnapshotRequest) -> bool:
        if self._stack is None:
            self._take(request)
            self._continue()
            return False
        self._request = request
        self._stack.unwind()
        return True

    # -- deciding ----------------------------------------------------------------------------------

    def _find_trigger(
        self, function: str, arguments: tuple[int, ...]
    ) -> Trigger | PendingSnapshot | None:
        """What a snapshot is to be taken for here, if for anything."""
        if self._state.tape.replaying:
            return None
        asked = self._pop_requested()
        if asked is not None:
            return asked
        with self._lock:
            for trigger, functions in CALLS_BY_TRIGGER.items():
                if function not in functions or not self._triggers.is_armed(trigger):
                    continue
                if trigger is not Trigger.FIRST_STDIN or self._reads_stdin(arguments):
                    return trigger if self._triggers.fire(trigger) else None
            if self._is_nondeterministic_call(function, arguments):
                return Trigger.NON_DETERMINISTIC_CALL
        return self._triggers.find_due(time.monotonic(), *self._counts())

    def _pop_requested(self) -> PendingSnapshot | None:
        with self._lock:
            return self._requested.pop(next(iter(self._requested))) if self._requested else None

    def _reads_stdin(self, arguments: tuple[int, ...]) -> bool:
        return isinstance(self._state.descriptors.used.get(arguments[0]), InputStream)

    def _is_nondeterministic_call(self, function: str, arguments: tuple[int, ...]) -> bool:
        """Whether a call that is told something from outside is a trigger, and this is one."""
        return (
            function in _AT_STDIN
            and self._triggers.is_armed(Trigger.NON_DETERMINISTIC_CALL)
            and self._reads_stdin(arguments)
        )

    def _update_interception(self) -> None:
        """Hold the guest up at the calls where something may happen."""
        armed = [trigger for trigger in CALLS_BY_TRIGGER if self._triggers.is_armed(trigger)]
        names = {name for trigger in armed for name in CALLS_BY_TRIGGER[trigger]}
        if Trigger.NON_DETERMINISTIC_CALL in armed:
            names |= _AT_STDIN
        if any(self._triggers.is_armed(trigger) for trigger in _COUNTED):
            names |= self.interceptor.names
        self.interceptor.set_always(names)

    def _take(self, request: SnapshotRequest) -> None:
        """Write a snapshot without a stack."""
        self._write_state(request, None)
        self._commit(request)

    def _write_state(self, request: SnapshotRequest, stack: bytes | None) -> None:
        assert self._capture is not None
        self._capture.write_state(request.place, stack, self._variant.code)

    def _commit(self, request: SnapshotRequest) -> None:
        """The snapshot is whole; raises ``GuestStopped`` if the run is to end with it."""
        assert self._capture is not None
        shot = self._capture.commit(request.trigger)
        self._triggers.reset(time.monotonic(), *self._counts())
        with self._lock:
            if request.ticket is not None:
                request.ticket.seq = shot.seq
            self._lock.notify_all()
        self._update_interception()
        if self._snapshots.stop_after:
            raise GuestStopped

    def _set_polling(self, value: int) -> None:
        assert self._instance is not None
        self._instance.set_flag(POLL_FLAG, value)


def _make_request(wanted: Trigger | PendingSnapshot, place: SuspendPoint) -> SnapshotRequest:
    if isinstance(wanted, PendingSnapshot):
        return SnapshotRequest(wanted.trigger, place, wanted)
    return SnapshotRequest(wanted, place)

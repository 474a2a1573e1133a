"""Signals of a guest: their arrival, their delivery at the end of host calls, interval timers.

A signal from outside is an input. It *arrives* at the end of a host call: the journal has a
``SignalDelivered`` event with the number of that call. Everything else is deterministic and leaves
no event: signals that the guest sends to itself, what is pending, and what the handler is. A guest
without imported functions of signals has no signals, and its calls pay nothing for them.
"""

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from journal.engine.runtime.bindings import Handler, Instance
from journal.engine.runtime.call_gate import SuspendCall
from journal.errors import EngineError, NotResumable
from journal.events import codec
from journal.events.definition import Event
from journal.events.inputs import IntervalStarted, SignalDelivered
from journal.events.snapshots import IntervalTimer, SignalState
from journal.wasi_abi import PROCESS_ID, Errno, ProcExit, Signal, WasiError

if TYPE_CHECKING:
    from journal.engine.wasi.call_context import CallContext

CODE_OF_SIGNAL = 128
"""Exit code of a process that a signal ended, without the number of the signal."""

_DELIVERED, _STARTED = SignalDelivered.tag, IntervalStarted.tag
_pack_delivered, _unpack_delivered = (
    codec.make_packer(SignalDelivered),
    codec.make_unpacker(SignalDelivered),
)
_pack_started, _unpack_started = (
    codec.make_packer(IntervalStarted),
    codec.make_unpacker(IntervalStarted),
)
_TIME_SIZE = 8
_TIME_MAX = (1 << 64) - 1

_WITHOUT_DEFAULT = frozenset(
    (
        *(Signal.CHLD, Signal.CONT, Signal.URG, Signal.WINCH),
        *(Signal.STOP, Signal.TSTP, Signal.TTIN, Signal.TTOU),
    )
)
"""Signals that do nothing without a handler. Nobody could continue a stopped guest."""


def _refuse_process(process: int, signal: int) -> None:
    """Raise ``WasiError``: the guest has no other process."""
    raise WasiError(Errno.SRCH)


class GuestSignals:
    """Signals of one guest.

    ``send`` and ``offer`` may be called from any thread and from signal handlers; the other methods
    belong to the thread of the guest. ``calls`` counts the host calls of the guest. ``ended_by`` is
    the signal whose default action ended the guest, else 0. ``ignored`` are the signals that the
    guest ignores from its start as long as it has no handler. With ``is_needed`` the guest has
    signals even if its module imports no function of signals. Without ``has_outside`` only recorded
    signals arrive. ``on_interrupt`` is called when a signal ends a wait, ``on_arrival`` after a
    signal from outside was recorded, ``on_handler_end`` when no handler runs any more.
    ``send_to_process`` sends a signal to another process than ``process_id``, or raises
    ``WasiError``.

    Pending signals are delivered in the order of their arrival, and each at most once. A handler
    can be interrupted by the handler of another signal. The same signal stays pending meanwhile.
    """

    def __init__(self, context: "CallContext") -> None:
        self._context = context
        self._instance: Instance | None = None
        self.calls = 0
        self.ended_by = 0
        self.ignored: frozenset[int] = frozenset()
        self.is_needed = False
        self.has_outside = True
        self.process_id = PROCESS_ID
        self.send_to_process: Callable[[int, int], None] = _refuse_process
        self.on_interrupt: Callable[[], None] = lambda: None
        self.on_arrival: Callable[[int], None] = lambda number: None
        self.on_handler_end: Callable[[], None] = lambda: None
        self._sent: deque[int] = deque()
        self._is_armed = False  # Whether the end of the next call has something to look at.
        # Signals that have come and not arrived; true for those of interval timers.
        self._coming: dict[int, bool] = {}
        self._pending: dict[int, None] = {}
        self._timers: dict[int, IntervalTimer] = {}
        self._handler: str | None = None
        self._can_handle: bool | None = None  # None until it is looked up.
        self._running: list[int] = []
        self._has_interrupted = False

    # -- from any thread ---------------------------------------------------------------------------

    def send(self, signal: int) -> None:
        """Send a signal from outside. It arrives at the end of a host call, and interrupts a wait.

        Does nothing for a guest without signals.
        """
        if self.is_enabled:
            self._sent.append(signal)
            self._context.interrupter.wake()

    def offer(self, signal: int) -> bool:
        """Send a signal if the guest has a handler, and no earlier one of this number waits for it
        or is handled. Return whether it was sent.
        """
        if self._handler is None or signal in (Signal.KILL, Signal.STOP):
            return False
        if any(signal in each for each in (self._sent, self._coming, self._pending, self._running)):
            return False
        self.send(signal)
        return True

    # -- the guest's instance ----------------------------------------------------------------------

    @property
    def is_enabled(self) -> bool:
        """Return whether the guest has signals."""
        return self._instance is not None

    @property
    def is_handling(self) -> bool:
        """Return whether a handler runs. Its call stack cannot be unwound."""
        return bool(self._running)

    def attach(self, instance: Instance) -> None:
        """Let a guest have signals. ``instance`` has its handler."""
        self._instance = instance
        self._context.interrupter.check_signals = self._check_wait
        self._context.tape.ends_wait = self._ends_wait
        self._context.on_broken_pipe = partial(self.raise_signal, Signal.PIPE)

    def end(self) -> None:
        """Note that the guest has ended: it takes no more signals, and no wait is interrupted."""
        self._instance = self._handler = None
        self._context.interrupter.check_signals = lambda: None

    def wrap(self, handler: Handler) -> Handler:
        """Return a host function that delivers signals before it returns to the guest."""
        sent, tape = self._sent, self._context.tape

        def call(context: object, *arguments: int) -> int | None:
            self.calls += 1
            try:
                result = handler(context, *arguments)
            except WasiError as error:
                result = error.errno
            except SuspendCall as error:  # The call is made again.
                self.calls -= 1
                if self._running:
                    raise EngineError(
                        "the guest waits for input in a handler of a signal, where it cannot be "
                        "suspended"
                    ) from error
                raise
            if self._is_armed or sent or tape.replaying:
                self._deliver()
            return result

        return call

    # -- calls of the guest ------------------------------------------------------------------------

    def set_handler(self, name: str) -> None:
        """Set the exported function that handles signals. Without such an export they are blocked:
        they stay pending.
        """
        self._handler, self._can_handle = name, None
        self._is_armed = True

    def raise_signal(self, signal: int) -> None:
        """Send a signal from the guest to itself. It is handled before the call returns."""
        if self._has_effect(signal):
            self._pending.setdefault(signal)
            self._is_armed = True

    def set_timer(self, signal: int, interval: int, *, repeats: bool) -> None:
        """Start the interval timer of a signal, with a time in nanoseconds; 0 stops it."""
        self._timers.pop(signal, None)
        if not interval:
            return
        head = _pack_started(signal, interval, repeats, 0)[:-_TIME_SIZE]
        payload = self._context.tape.request_input(
            _STARTED,
            head,
            lambda: _pack_started(signal, interval, repeats, self._context.clocks.monotonic()),
        )
        deadline = min(_unpack_started(payload)[-1] + interval, _TIME_MAX)
        self._timers[signal] = IntervalTimer(signal, repeats, interval, deadline)
        self._is_armed = True

    # -- waits -------------------------------------------------------------------------------------

    def _check_wait(self) -> int | None:
        """Raise ``WasiError`` with INTR if a signal ends the wait of a live guest.

        Returns the time at which the next interval timer ends, on the host's monotonic clock, or
        None.
        """
        self._collect()
        if any(self._has_effect(each) and self._is_deliverable(each) for each in self._coming):
            self._has_interrupted = True
            self._context.wait_started = None
            self.on_interrupt()
            raise WasiError(Errno.INTR)
        timers = self._timers.values()
        deadlines = [timer.deadline for timer in timers if timer.signal not in self._coming]
        if not deadlines:
            return None
        return time.monotonic_ns() + min(deadlines) - self._context.clocks.monotonic()

    def _ends_wait(self, payload: bytes) -> bool:
        """Return whether this SignalDelivered ended a wait of the present call, in a replay."""
        _, calls, interrupts, _, _ = _unpack_delivered(payload)
        return bool(interrupts) and calls == self.calls

    # -- the end of a call -------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Let signals arrive, and deliver those that are pending."""
        if self._context.tape.replaying:
            self._repeat_arrivals()
        if self.has_outside and not self._context.tape.replaying:
            self._receive()
        self._has_interrupted = False
        while signals := list(filter(self._is_deliverable, self._pending)):
            for signal in signals:  # One after the other: only later signals interrupt a handler.
                del self._pending[signal]
            for signal in signals:
                if self._is_deliverable(signal):
                    self._act(signal)
                else:  # The handler of an earlier signal has blocked it.
                    self._pending.setdefault(signal)
        self._is_armed = bool(self._pending or self._timers)

    def _act(self, signal: int) -> None:
        """Run the handler of a signal, or end the guest."""
        if self._handler is None or signal == Signal.KILL:
            self.ended_by = signal
            raise ProcExit(CODE_OF_SIGNAL + signal)
        assert self._instance is not None, "a guest with a handler has an instance"
        self._running.append(signal)
        self._instance.call(self._handler, signal)
        self._running.pop()
        if not self._running:
            self.on_handler_end()

    def _repeat_arrivals(self) -> None:
        """Let the recorded signals of this call arrive."""
        tape = self._context.tape
        while (payload := tape.peek(_DELIVERED)) is not None:
            signal, calls, _, expired, monotonic = _unpack_delivered(payload)
            if calls != self.calls:
                return
            tape.request_input(_DELIVERED, payload, bytes)
            if not 0 < signal <= max(Signal):
                raise ValueError(f"recorded signal {signal} does not exist")
            self._arrive(signal, expired, monotonic)

    def _receive(self) -> None:
        """Record the signals that have come, and let them arrive."""
        self._collect()
        if not self._coming:
            return
        coming, self._coming = self._coming, {}
        for signal, expired in coming.items():
            if not (expired or self._has_effect(signal)):
                continue
            monotonic = self._context.clocks.monotonic()
            values = signal, self.calls, self._has_interrupted, expired, monotonic
            self._context.tape.request_input(_DELIVERED, b"", partial(_pack_delivered, *values))
            self._arrive(signal, expired, monotonic)
            self.on_arrival(signal)
        self._context.on_consumed()

    def _arrive(self, signal: int, expired: bool, monotonic: int) -> None:
        timer = self._timers.pop(signal, None) if expired else None
        if timer is not None and timer.repeats:
            # Periods that ended meanwhile do not send a signal each.
            periods = max(monotonic - timer.deadline, 0) // timer.interval + 1
            deadline = min(timer.deadline + periods * timer.interval, _TIME_MAX)
            self._timers[signal] = IntervalTimer(signal, True, timer.interval, deadline)
        if self._has_effect(signal):
            self._pending.setdefault(signal)

    def _collect(self) -> None:
        """Note the signals that were sent, and those of timers that have ended."""
        while self._sent:
            self._coming.setdefault(self._sent.popleft(), False)
            self._is_armed = True
        if self._timers:
            now = self._context.clocks.monotonic()
            for timer in self._timers.values():
                if timer.deadline <= now:
                    self._coming[timer.signal] = True

    def _has_effect(self, signal: int) -> bool:
        """Return whether a signal is handled, or has a default action."""
        if signal in (Signal.KILL, Signal.STOP):
            return signal == Signal.KILL
        if self._handler is not None:
            return True
        return signal not in _WITHOUT_DEFAULT and signal not in self.ignored

    def _is_deliverable(self, signal: int) -> bool:
        """Return whether a pending signal is neither blocked nor handled already."""
        if self._handler is None or signal == Signal.KILL:
            return True
        if self._can_handle is None:
            assert self._instance is not None, "only a guest with signals sets a handler"
            self._can_handle = self._instance.has_signal_handler(self._handler)
        return self._can_handle and signal not in self._running

    # -- snapshots ---------------------------------------------------------------------------------

    def save(self) -> list[Event]:
        """Return the event of the state for a snapshot, none for the state of the start.

        No handler may run.
        """
        if self._handler is None and not self._pending and not self._timers:
            return []
        return [
            SignalState(
                has_handler=self._handler is not None,
                handler=self._handler or "",
                pending=bytes(self._pending),
                timers=tuple(self._timers.values()),
            )
        ]

    def load(self, state: SignalState | None, calls: int) -> None:
        """Restore the state of a guest that has made ``calls`` host calls.

        Raises ``NotResumable`` for signals that do not exist.
        """
        timers = () if state is None else state.timers
        pending = b"" if state is None else state.pending
        numbers = {*pending, *(timer.signal for timer in timers)}
        if numbers - set(Signal) or any(not timer.interval for timer in timers):
            raise NotResumable("the snapshot has signals or interval timers that cannot exist")
        self.calls, self.ended_by = calls, 0
        self._handler = state.handler if state is not None and state.has_handler else None
        self._can_handle = None
        self._pending = dict.fromkeys(pending)
        self._timers = {timer.signal: timer for timer in timers}
        self._coming, self._running = {}, []
        self._sent.clear()
        self._is_armed = bool(pending or timers)

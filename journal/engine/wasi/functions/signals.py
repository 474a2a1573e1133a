"""Signal functions: handler, signals to oneself, interval timers, and dispositions."""

from journal.engine.runtime.bindings import Handler
from journal.engine.wasi.call_context import PATH_SIZE_MAX, CallContext
from journal.wasi_abi import PROCESS_ID, Errno, Signal, WasiError

_IGNORE = 1
"""Disposition of a signal that is ignored."""


def callback_signal(context: CallContext, name: int, size: int) -> None:
    """Set the exported function that handles signals.

    A name that no export can have blocks all signals, as the name of an export that is missing.
    """
    context.memory.check(name, size)
    data = context.memory.read(name, size) if size <= PATH_SIZE_MAX else b""
    try:
        context.signals.set_handler(data.decode())
    except UnicodeDecodeError:
        context.signals.set_handler("")


def proc_raise(context: CallContext, signal: int) -> int:
    """Send a signal to the guest itself. A guest without signals gets ``NOTSUP``."""
    if not context.signals.is_enabled:
        return Errno.NOTSUP
    _check_signal(signal)
    _send_to_itself(context, signal)
    return Errno.SUCCESS


def proc_raise_interval(context: CallContext, signal: int, interval: int, repeats: int) -> None:
    """Start a timer that sends a signal after ``interval`` nanoseconds; 0 stops it."""
    _check_signal(signal)
    if signal:
        context.signals.set_timer(signal, interval, repeats=bool(repeats))


def proc_signal(context: CallContext, process: int, signal: int) -> None:
    """Send a signal to a process: to the guest itself, or to another that its tree has."""
    _check_signal(signal)
    if process == context.signals.process_id:
        _send_to_itself(context, signal)
    else:
        context.signals.send_to_process(process, signal)


def thread_signal(context: CallContext, thread: int, signal: int) -> None:
    """Send a signal to a thread: the guest has its main thread only."""
    _check_signal(signal)
    if thread != PROCESS_ID:
        raise WasiError(Errno.SRCH)
    _send_to_itself(context, signal)


def proc_signals_sizes_get(context: CallContext, count: int) -> None:
    """Write the number of signals whose disposition at the start is not the default."""
    context.memory.write_u32(count, len(context.signals.ignored))


def proc_signals_get(context: CallContext, dispositions: int) -> None:
    """Write the signals whose disposition at the start is not the default, with it."""
    for index, signal in enumerate(sorted(context.signals.ignored)):
        context.memory.write(dispositions + 2 * index, bytes((signal, _IGNORE)))


def _send_to_itself(context: CallContext, signal: int) -> None:
    """Send a signal to the guest; 0 only asks whether it exists."""
    if signal:
        context.signals.raise_signal(signal)


def _check_signal(signal: int) -> None:
    if signal > max(Signal):
        raise WasiError(Errno.INVAL)


FUNCTIONS: dict[str, tuple[str, Handler]] = {
    "callback_signal": ("ii", callback_signal),
    "proc_raise": ("i", proc_raise),
    "proc_raise_interval": ("ili", proc_raise_interval),
    "proc_signal": ("ii", proc_signal),
    "proc_signals_get": ("i", proc_signals_get),
    "proc_signals_sizes_get": ("i", proc_signals_sizes_get),
    "thread_signal": ("ii", thread_signal),
}
"""Parameter types and handler of each function of WASIX in this module."""

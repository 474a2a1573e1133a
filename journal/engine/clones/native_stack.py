"""The native stack of a thread: whether it suffices for a guest, and a thread where it does."""

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from journal.engine.session.recorder import STACK_SIZE_LOCK

T = TypeVar("T")

_STOP_PERIOD_SECONDS = 0.1
"""Time after which a call that has to end is asked again to end."""
MARGIN_SIZE = 2 << 20
"""Bytes for the frames below and above those of the guest."""
_ATTRIBUTES_SIZE = 256
"""More than the size of ``pthread_attr_t`` on all platforms."""

_libc = ctypes.CDLL(None)
_libc.pthread_self.restype = ctypes.c_void_p
_libc.pthread_getattr_np.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_libc.pthread_attr_getstack.argtypes = [ctypes.c_void_p] * 3
_libc.pthread_attr_destroy.argtypes = [ctypes.c_void_p]


def measure_stack() -> int:
    """Return the size of the stack of the calling thread in bytes; 0 if unknown."""
    attributes = ctypes.create_string_buffer(_ATTRIBUTES_SIZE)
    address, size = ctypes.c_void_p(), ctypes.c_size_t()
    if _libc.pthread_getattr_np(_libc.pthread_self(), attributes):
        return 0
    _libc.pthread_attr_getstack(attributes, ctypes.byref(address), ctypes.byref(size))
    _libc.pthread_attr_destroy(attributes)
    return size.value


class GuestStack:
    """Caller of functions that need a native stack of ``size`` bytes.

    A function runs in the calling thread if its stack suffices, which is decided once per thread.
    Otherwise the function runs in a thread of its own, which takes some 50 µs longer.

    > Why never in the main thread? Python runs signal handlers there, at the first instruction of a
    callback too. The exception of such a handler, for example KeyboardInterrupt, would leave the
    callback into the compiled code of the guest, which ends the process.
    """

    def __init__(self, size: int) -> None:
        self.size = size + MARGIN_SIZE
        self._threads = threading.local()
        self._executor: ThreadPoolExecutor | None = None

    def call(self, function: Callable[[], T], stop: Callable[[], None]) -> T:
        """Call a function on a stack that suffices, and return its result.

        ``stop`` lets the function end soon. It is called if a signal handler raises an exception
        meanwhile, which is raised again after the function has ended.
        """
        suffices: bool | None = getattr(self._threads, "suffices", None)
        if suffices is None:
            suffices = self._threads.suffices = self._check()
        if suffices:
            return function()
        future: Future[T] = Future()  # Known before the call can run, whenever a handler raises.
        try:
            self._submit(lambda: _complete(future, function))
            return future.result()
        except BaseException:
            _end(future, stop)
            raise

    def _check(self) -> bool:
        is_main = threading.current_thread() is threading.main_thread()
        return not is_main and measure_stack() >= self.size

    def _submit(self, function: Callable[[], None]) -> None:
        with STACK_SIZE_LOCK:  # The executor starts its threads while it accepts calls.
            old_size = threading.stack_size(self.size)
            try:
                if self._executor is None:
                    self._executor = ThreadPoolExecutor(
                        os.cpu_count() or 1, "journal-clone", initializer=self._mark
                    )
                self._executor.submit(function)
            finally:
                threading.stack_size(old_size)

    def _mark(self) -> None:
        self._threads.suffices = True

    def close(self) -> None:
        """End the threads."""
        if self._executor is not None:
            self._executor.shutdown()


def _complete(future: "Future[T]", function: Callable[[], T]) -> None:
    """Call a function for a future, unless the future is cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def _end(future: "Future[T]", stop: Callable[[], None]) -> None:
    """Let a call end, and wait for that, whatever signal handlers raise meanwhile."""
    while not (future.cancel() or future.done()):
        try:
            stop()
            wait([future], _STOP_PERIOD_SECONDS)
        except BaseException:  # The first exception is raised.
            continue

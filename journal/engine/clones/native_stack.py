"""The native stack of a thread: whether it suffices for a guest, and a thread where it does."""

import ctypes
import os
import resource
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from journal.engine.session.recorder import STACK_SIZE_LOCK

T = TypeVar("T")

MARGIN_SIZE = 2 << 20
"""Bytes for the frames below and above those of the guest."""
MAIN_STACK_SIZE_MAX = 96 << 20
"""Largest size to which the main stack is raised: Linux keeps 128 MiB of addresses free below it,
whatever the limit was at the start.
"""
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


def raise_main_stack(size: int) -> None:
    """Let the stack of the main thread grow to ``size`` bytes, if the system allows that.

    Linux compares the stack with the limit of the process whenever the stack grows. Threads and
    programs that are started later are not affected by the limit of this process, except that a
    program inherits it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if soft != resource.RLIM_INFINITY and soft < size <= MAIN_STACK_SIZE_MAX:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_STACK, (size, hard))


class GuestStack:
    """Caller of functions that need a native stack of ``size`` bytes.

    A function runs in the calling thread if its stack suffices, which is decided once per thread.
    The limit of the main stack is raised for that. Otherwise the function runs in a thread of its
    own, which takes some 50 µs longer.
    """

    def __init__(self, size: int) -> None:
        self.size = size + MARGIN_SIZE
        self._threads = threading.local()
        self._executor: ThreadPoolExecutor | None = None

    def call(self, function: Callable[[], T]) -> T:
        """Call a function on a stack that suffices, and return its result."""
        suffices: bool | None = getattr(self._threads, "suffices", None)
        if suffices is None:
            suffices = self._threads.suffices = self._check()
        if suffices:
            return function()
        return self._submit(function).result()

    def _check(self) -> bool:
        if threading.get_native_id() == os.getpid():
            raise_main_stack(self.size)
        return measure_stack() >= self.size

    def _submit(self, function: Callable[[], T]) -> "Future[T]":
        with STACK_SIZE_LOCK:  # The executor starts its threads while it accepts calls.
            old_size = threading.stack_size(self.size)
            try:
                if self._executor is None:
                    self._executor = ThreadPoolExecutor(
                        os.cpu_count() or 1, "journal-clone", initializer=self._mark
                    )
                return self._executor.submit(function)
            finally:
                threading.stack_size(old_size)

    def _mark(self) -> None:
        self._threads.suffices = True

    def close(self) -> None:
        """End the threads."""
        if self._executor is not None:
            self._executor.shutdown()

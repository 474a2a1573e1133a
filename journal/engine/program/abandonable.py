"""Native calls that take long, made so that a signal handler can end the wait for them."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def call_abandonable(work: Callable[[], T]) -> T:
    """Return the result of ``work``, which runs in a thread of its own.

    Python runs signal handlers between bytecodes of the main thread, so a long call into native
    code delays them. Here the main thread only waits. If a handler raises an exception, such as
    ``KeyboardInterrupt``, the exception ends the wait at once, and the work is abandoned: it ends
    later, and nothing uses its result. Other threads run no handlers and make the call themselves.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    results: list[T] = []
    errors: list[BaseException] = []
    is_done = threading.Event()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            is_done.set()

    threading.Thread(target=run, name="journal-native", daemon=True).start()
    is_done.wait()
    if errors:
        try:
            raise errors[0]
        finally:
            # The error refers to this frame. A cycle would keep what the work used, such as the
            # addresses of an engine, until the next garbage collection.
            errors.clear()
    return results[0]

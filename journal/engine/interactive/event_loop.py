"""Calls that may wait, made for an event loop in threads of their own.

> Why not the executor of the loop? It has few threads, and the loop waits for them at its end:
sessions that wait for guests would delay one another, and the program's exit.
"""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar, cast

from journal.fs.open_resources import OwnThread

T = TypeVar("T")


async def run_in_thread(
    function: Callable[[], T], *, undo: Callable[[T], object] = lambda result: None
) -> T:
    """Call ``function`` in a thread, and return its result.

    After a cancellation the thread runs on, and another thread passes its result to ``undo``.
    """
    future = _start(function, undo)
    try:
        return await future
    except asyncio.CancelledError:
        if future.done() and not future.cancelled() and future.exception() is None:
            _run(lambda: undo(future.result()))
        raise


async def finish_in_thread(function: Callable[[], T]) -> T:
    """Call ``function`` in a thread, and return its result; a cancellation waits for its end."""
    future = _start(function, lambda result: None)
    cancellation: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None and future.exception() is None:
        raise cancellation
    return future.result()


def _start(function: Callable[[], T], undo: Callable[[T], object]) -> "asyncio.Future[T]":
    """Start the thread, and return the future of its result."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        """Pass the outcome to the loop, in the thread of the loop."""
        if not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(cast(T, result))
        elif error is None:
            _run(lambda: undo(cast(T, result)))

    def work() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = function()
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:  # The loop is closed, and its tasks are gone.
            if error is None:
                undo(cast(T, result))

    _run(work)
    return future


def _run(work: Callable[[], object]) -> None:
    context = copy_context()
    OwnThread(target=context.run, args=(work,), name="journal-session", daemon=True).start()

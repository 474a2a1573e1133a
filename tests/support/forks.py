"""Forked children in tests: a function runs in a child, and its result comes back."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def run_in_child(function: Callable[[], T]) -> T:
    """Call ``function`` in a forked child and return its result, or raise its exception."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        with os.fdopen(sending, "wb") as pipe:
            pickle.dump(_outcome(function), pipe)
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    assert data, "the child died"
    result, error, trace = pickle.loads(data)
    if error is not None:
        error.add_note(f"in the child:\n{trace}")
        raise error
    return result  # type: ignore[no-any-return]


def _outcome(function: Callable[[], Any]) -> tuple[Any, BaseException | None, str]:
    try:
        return function(), None, ""
    except BaseException as error:
        return None, error, traceback.format_exc()


@contextmanager
def idle_child() -> Iterator[int]:
    """Fork a child that only waits, and kill it at the end."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def error_of(call: Callable[[], object]) -> BaseException | None:
    """Return the exception of a call, or None."""
    try:
        call()
    except BaseException as error:
        return error
    return None

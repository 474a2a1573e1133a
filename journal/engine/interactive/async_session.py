"""Asynchronous session: the twin of a session for programs with an event loop."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

from journal._arguments import check_flag
from journal.engine.interactive.event_loop import finish_in_thread, run_in_thread
from journal.engine.interactive.guest_session import GuestSession
from journal.engine.interactive.output_log import OutputChunk
from journal.engine.session.reply import Reply
from journal.engine.session.run_config import StrPath


class AsyncSession(GuestSession):
    """A guest that tasks of one event loop call; an asynchronous context manager.

    It is the twin of :class:`Session`, and its methods mean the same. None blocks the event loop:
    the guest runs in a thread of its own, and a method that waits is a coroutine. A cancelled
    coroutine leaves the guest as it is. Leaving the ``async with`` block stops the guest and closes
    the journal, which can be resumed.
    """

    _loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop the guest, and close the journal. A temporary journal is removed.

        A cancellation of this coroutine takes effect when the session is closed.
        """
        await finish_in_thread(self.close)

    async def run(self, data: bytes = b"", *, end_input: bool = False) -> Reply:
        """Feed the guest, wait until it waits for more input or ends, and return its reply.

        Without data, the reply has the output of a guest that has just started or that a call left
        behind. ``end_input`` ends the standard input after the data. After a cancellation, such as
        that of ``asyncio.timeout``, the guest runs on, and the next reply has its output.

        Raises ``OptionError`` if the guest has ended before, and the error that ended the run, if
        any, as :meth:`Recorder.wait` does.
        """
        with self._calling(data, end_input) as call:
            await self._until(self._is_resting)
            return self._make_reply(call)

    def output(self, *, until_waiting: bool = False) -> "AsyncOutput":
        """Iterate over the output as it comes, until the guest has ended.

        The iteration begins with the output that no reply has had, and includes the output that
        replies have meanwhile. A reply does not have output that was iterated over before its call.
        With ``until_waiting`` the iteration also ends when the guest waits for input. Raises the
        error that ended the run, if any.
        """
        self._check()
        return AsyncOutput(self, is_short=check_flag("until_waiting", until_waiting))

    async def read_file(self, path: str) -> bytes:
        """Return the data of a file by its path in the guest; see :meth:`Recorder.read_file`."""
        self._check()
        return await run_in_thread(lambda: self._recorder.read_file(path))

    async def read_files(self) -> dict[str, bytes]:
        """Return all regular in-memory files by their paths in the guest."""
        self._check()
        return await run_in_thread(lambda: self._recorder.files)

    async def snapshot(self) -> int | None:
        """Take a snapshot at the next safe point of the guest and return its sequence number.

        Returns None if the guest ends first. After a cancellation the snapshot may still be taken.
        """
        return await run_in_thread(self._snapshot)

    async def fork(
        self, count: int = 1, *, into: StrPath | None = None, reseed: bool = True
    ) -> "list[Self]":
        """Return ``count`` new sessions that continue at the next safe point of the guest.

        See :meth:`Session.fork`. After a cancellation no child is left.
        """
        return await run_in_thread(lambda: self._fork(count, into, reseed), undo=_discard_all)

    async def pause(self) -> bytes:
        """Take a snapshot, close the session, and return its journal as bytes.

        See :meth:`Session.pause`. After a cancellation the session may be closed.
        """
        return await run_in_thread(self._pause)

    async def _until(self, predicate: Callable[[], bool]) -> None:
        """Wait in the event loop until ``predicate`` is true."""
        if predicate():
            return
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            with suppress(RuntimeError):  # The loop was closed with its tasks unfinished.
                loop.call_soon_threadsafe(changed.set)

        self._state.listeners.append(notify)
        try:
            while not predicate():
                await changed.wait()
                changed.clear()
        finally:
            self._state.listeners.remove(notify)


class AsyncOutput:
    """Asynchronous iterator over the output of a session."""

    def __init__(self, session: AsyncSession, *, is_short: bool) -> None:
        self._session, self._state = session, session._state
        self._cursor = self._state.open_cursor()
        self._is_over = session._is_resting if is_short else session._has_ended

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> OutputChunk:
        await self._session._until(lambda: self._state.has_output(self._cursor) or self._is_over())
        chunk = self._state.read(self._cursor)
        if chunk is None:
            self._session._raise_error()
            raise StopAsyncIteration
        return chunk


def _discard_all(sessions: Sequence[GuestSession]) -> None:
    for session in sessions:
        session._discard()

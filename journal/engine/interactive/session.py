"""Session: a guest that a program calls like a function, again and again."""

from collections.abc import Iterator
from typing import Self

from journal._arguments import check_flag, check_seconds
from journal.engine.interactive.guest_session import GuestSession
from journal.engine.interactive.output_log import OutputChunk, OutputCursor
from journal.engine.session.reply import Reply
from journal.engine.session.run_config import StrPath


class Session(GuestSession):
    """A guest that a program calls like a function, again and again; a context manager.

    :func:`session`, :func:`resume_session` and :func:`unpause` of :mod:`journal` open sessions.
    Leaving the ``with`` block stops the guest and closes the journal, which can be resumed. A
    journal without a path of its own is removed then.

    Methods may be called from any thread, but only one :meth:`run` at a time. In a forked child
    each call raises ``WrongProcess``. A session that nobody closed is closed with a
    ``ResourceWarning``.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self, data: bytes = b"", *, end_input: bool = False, timeout_seconds: float | None = None
    ) -> Reply:
        """Feed the guest, wait until it waits for more input or ends, and return its reply.

        Without data, the reply has the output of a guest that has just started or that a call left
        behind. ``end_input`` ends the standard input after the data.

        Raises ``TimeoutError`` if the guest does neither within ``timeout_seconds``. It runs on
        then, and the next reply has its output. Raises ``OptionError`` if the guest has ended
        before, and the error that ended the run, if any, as :meth:`Recorder.wait` does.
        """
        if timeout_seconds is not None:
            timeout_seconds = check_seconds("timeout_seconds", timeout_seconds)
        with self._calling(data, end_input) as call:
            if not self._state.wait(self._is_resting, timeout_seconds):
                raise TimeoutError(
                    f"the guest has neither ended nor waited for input within {timeout_seconds:g} "
                    "seconds: it runs on, and run() waits for it again"
                )
            return self._make_reply(call)

    def output(self, *, until_waiting: bool = False) -> Iterator[OutputChunk]:
        """Iterate over the output as it comes, until the guest has ended.

        The iteration begins with the output that no reply has had, and includes the output that
        replies have meanwhile. A reply does not have output that was iterated over before its call.
        With ``until_waiting`` the iteration also ends when the guest waits for input. Raises the
        error that ended the run, if any.
        """
        self._check()
        check_flag("until_waiting", until_waiting)
        return self._iterate(self._state.open_cursor(), until_waiting)

    def _iterate(self, cursor: OutputCursor, until_waiting: bool) -> Iterator[OutputChunk]:
        state = self._state
        is_over = self._is_resting if until_waiting else self._has_ended
        while True:
            state.wait(lambda: state.has_output(cursor) or is_over(), None)
            chunk = state.read(cursor)
            if chunk is not None:
                yield chunk
            elif is_over():
                self._raise_error()
                return

    def read_file(self, path: str) -> bytes:
        """Return the data of a file by its path in the guest; see :meth:`Recorder.read_file`."""
        self._check()
        return self._recorder.read_file(path)

    @property
    def files(self) -> dict[str, bytes]:
        """Return all regular in-memory files by their paths in the guest."""
        self._check()
        return self._recorder.files

    def snapshot(self, timeout_seconds: float | None = None) -> int | None:
        """Take a snapshot at the next safe point of the guest and return its sequence number.

        Returns None if the guest ends or the timeout ends first.
        """
        return self._snapshot(timeout_seconds)

    def fork(
        self,
        count: int = 1,
        *,
        into: StrPath | None = None,
        reseed: bool = True,
        timeout_seconds: float | None = None,
    ) -> "list[Self]":
        """Return ``count`` new sessions that continue at the next safe point of the guest.

        This session goes on. Each child has a journal of its own: in a temporary directory, or at
        ``into`` with ``-1``, ``-2``, … before its suffix. Input that the guest has not read and
        output that it has written belong to this session alone. A child has the limits of this
        session, but not its functions ``on_output`` and ``on_event``. With ``reseed`` the children
        are told that they are some of several. The caller closes them.

        Raises ``NotResumable`` if the guest has ended, the timeout ends first, or snapshots of its
        module have no stacks, and ``OptionError`` if the session was started without snapshots or a
        journal exists. On an error no child is left.
        """
        return self._fork(count, into, reseed, timeout_seconds)

    def pause(self) -> bytes:
        """Take a snapshot, close the session, and return its journal as bytes.

        :func:`journal.unpause` continues the guest from these bytes, anywhere. They hold the module
        and the state of the guest. Input that the guest has not read is lost.
        """
        return self._pause()

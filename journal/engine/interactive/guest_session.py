"""Guest session: the common part of sessions for threads and of sessions for event loops."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from journal._arguments import check_flag, check_int, check_optional, check_path, check_seconds
from journal.engine.interactive.journal_place import JournalPlace
from journal.engine.interactive.pausing import pack_journal
from journal.engine.interactive.session_state import SessionState
from journal.engine.session.forking import Family, copy_guest
from journal.engine.session.recorder import FORK_COUNT_MAX, Recorder
from journal.engine.session.reply import Ending, Reply
from journal.engine.session.run_config import StrPath
from journal.engine.session.run_result import ExitKind, RunResult
from journal.engine.session.session_limits import SessionLimits
from journal.engine.session.telemetry import CallTrace, trace_call
from journal.engine.wasi.stdio.outbox import OutputCallback
from journal.errors import OptionError
from journal.fs.open_resources import OPEN_RESOURCES, HomeProcess, close_unclosed
from journal.operations.fork import number_paths
from journal.rewrite.block_copier import check_new_journal

_ENDINGS = {
    ExitKind.EXITED: Ending.EXITED,
    ExitKind.TRAPPED: Ending.TRAPPED,
    ExitKind.STOPPED: Ending.STOPPED,
}

OpenRecorder = Callable[[Path, SessionState], Recorder]


class GuestSession:
    """A guest with its recorder, its journal and its state.

    The guest runs from the construction on. ``place`` says where the journal is, and
    ``open_recorder`` creates its recorder. ``on_output`` receives the output, too. Subclasses have
    the methods that wait.
    """

    _closed = True

    def __init__(
        self,
        place: JournalPlace,
        limits: SessionLimits,
        open_recorder: OpenRecorder,
        on_output: OutputCallback | None = None,
    ) -> None:
        self._place, self._limits = place, limits
        self._state = SessionState(limits, on_output)
        self._ending: Ending | None = None
        self._closing = threading.Lock()
        self._home = HomeProcess()
        with ExitStack() as stack:
            stack.callback(place.remove)
            self._recorder = open_recorder(place.path, self._state)
            stack.callback(self._recorder.close)
            self._state.begin(self._recorder)
            stack.pop_all()
        self._closed = False
        OPEN_RESOURCES.release_in_children(self)
        OPEN_RESOURCES.close_at_exit(self)

    @property
    def path(self) -> Path:
        """Return the path of the journal."""
        return self._recorder.path

    @property
    def recorder(self) -> Recorder:
        """Return the recorder of the guest, for everything that a session does not offer."""
        return self._recorder

    # -- calls -------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Append to the standard input of the guest, without waiting for a reply."""
        self._check()
        self._state.source.feed(data)

    def end_input(self) -> None:
        """End the standard input of the guest, without waiting for a reply."""
        self._check()
        self._state.source.close()

    @property
    def is_alive(self) -> bool:
        """Return whether the guest can be called: the session is open and the guest has not ended.

        A guest that has ended can still be called once, for the reply with its last output.
        """
        return not self._closed and self._ending is None

    # -- snapshots, forks and pauses ---------------------------------------------------------------

    def _snapshot(self, timeout_seconds: float | None = None) -> int | None:
        self._check()
        return self._recorder.snapshot(timeout_seconds=timeout_seconds)

    def _fork(
        self, count: int, into: StrPath | None, reseed: bool, timeout_seconds: float | None = None
    ) -> "list[Self]":
        self._check()
        check_int("count", count, 1, FORK_COUNT_MAX)
        check_flag("reseed", reseed)
        seconds = check_optional("timeout_seconds", timeout_seconds, check_seconds)
        paths: Sequence[Path | None] = [None] * count
        if into is not None:
            paths = number_paths(check_path("into", into), count)
        for path in paths:
            if path is not None:
                check_new_journal(path, [self.path])
        with (
            copy_guest(self._recorder, reseed=reseed, timeout_seconds=seconds) as family,
            ExitStack() as stack,
        ):
            children = []
            for path in paths:
                child = self._make_child(JournalPlace(path), family)
                children.append(child)
                stack.callback(child._discard)
            stack.pop_all()
        return children

    def _make_child(self, place: JournalPlace, family: Family) -> Self:
        def open_recorder(path: Path, state: SessionState) -> Recorder:
            return family.make_child(path, state.source, state.put)

        return type(self)(place, self._limits, open_recorder)

    def _discard(self) -> None:
        """Close the session, and remove its journal."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def _pause(self) -> bytes:
        self._check()
        if self._recorder.takes_snapshots:
            self._recorder.snapshot()
        with self._closing:
            self._check()
            self._closed = True
            try:
                self._recorder.close()
                return pack_journal(self.path)
            finally:
                self._place.remove()

    # -- end ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop the guest, and close the journal. A temporary journal is removed. May wait."""
        if self._closed or self._home.is_left:
            return
        self._recorder.stop()  # A pause in another thread stops waiting for its snapshot.
        with self._closing:
            if self._closed:
                return
            self._closed = True
            try:
                self._recorder.close()
            finally:
                self._place.remove()

    def __del__(self) -> None:
        if not self._closed:
            close_unclosed(self, f"the session of {self.path}")

    def _abandon(self, owner: int) -> None:
        self._home.leave(owner)
        self._closed = True

    def _check(self) -> None:
        self._home.check(self.path)
        if self._closed:
            raise OptionError("the session is closed")

    @contextmanager
    def _calling(self, data: bytes, end_input: bool) -> Iterator[CallTrace]:
        """Feed the guest; the body waits for the reply, and sets the ending of the call."""
        self._check()
        check_flag("end_input", end_input)
        if self._ending is not None:
            raise OptionError(f"the guest has ended ({self._ending.value}): it takes no more input")
        with trace_call(str(self.path)) as call:
            self._state.begin_call(data, end_input=end_input)
            try:
                yield call
            finally:
                self._state.end_call()

    def _is_resting(self) -> bool:
        return self._state.is_resting

    def _has_ended(self) -> bool:
        return self._state.has_ended

    def _raise_error(self) -> None:
        """Raise the error that ended the run, if the run has ended with one."""
        if self._has_ended():
            self._recorder.wait()

    def _make_reply(self, call: CallTrace) -> Reply:
        """Return the reply of a guest that rests."""
        reply = self._collect_reply()
        call.ending = reply.ending.value
        return reply

    def _collect_reply(self) -> Reply:
        if not self._has_ended():
            stdout, stderr = self._state.take_reply()
            return Reply(Ending.WAITING, stdout, stderr)
        result = self._recorder.wait()
        assert result is not None, "the run has ended"
        ending = _ENDINGS[result.kind]
        if ending is Ending.STOPPED and self._state.stopped_by is not None:
            ending = self._state.stopped_by
        stdout, stderr = self._state.take_reply()
        self._ending = ending
        message = _describe(ending, result, self._limits)
        return Reply(ending, stdout, stderr, result.code, message)


def _describe(ending: Ending, result: RunResult, limits: SessionLimits) -> str:
    """Return the message of the last reply of a session."""
    if ending is Ending.TIMED_OUT:
        return f"the call took longer than {limits.seconds_max:g} seconds"
    if ending is Ending.OUTPUT_LIMIT:
        return f"the guest has written more than {limits.output_size_max} bytes"
    return result.reason

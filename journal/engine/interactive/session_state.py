"""State of a session: the input, the output and the end of its guest, for all threads."""

import threading
from collections.abc import Callable

from journal.engine.interactive.output_log import OutputChunk, OutputCursor, OutputLog
from journal.engine.session.recorder import Recorder
from journal.engine.session.reply import Ending
from journal.engine.session.session_limits import SessionLimits
from journal.engine.wasi.stdio.outbox import OutputCallback
from journal.engine.wasi.stdio.stdin import FedSource
from journal.errors import OptionError


class SessionState:
    """Input, output and end of one guest. Thread-safe.

    ``on_output`` receives each output before the session has it. ``listeners`` are called in any
    thread after each change: new output, a guest that waits for input, or the end of the run.
    """

    def __init__(self, limits: SessionLimits, on_output: OutputCallback | None = None) -> None:
        self._limits, self._on_output = limits, on_output
        self._condition = threading.Condition()
        self._log = OutputLog()
        self._has_ended = self._is_calling = False
        self._deadline: threading.Timer | None = None
        self._recorder: Recorder | None = None
        self.listeners: list[Callable[[], object]] = []
        self.source = FedSource(self._change)
        self.stopped_by: Ending | None = None
        """Limit that stopped the guest, if any."""

    def begin(self, recorder: Recorder) -> None:
        """Start the guest."""
        with self._condition:
            self._recorder = recorder
            is_over = self.stopped_by is not None
        recorder.call_at_end(self._end)
        recorder.start()
        if is_over:  # The output that a resume delivered before the start was too much.
            recorder.stop()

    # -- in the thread of the guest ----------------------------------------------------------------

    def put(self, stream: int, data: bytes) -> None:
        """Accept output of the guest."""
        if self._on_output is not None:
            self._on_output(stream, data)
        with self._condition:
            self._log.append(OutputChunk(stream, data))
            if self._log.size > self._limits.output_size_max:
                self._stop(Ending.OUTPUT_LIMIT)
        self._change()

    def _change(self) -> None:
        """Wake the threads and the event loops that wait for a change."""
        with self._condition:
            if self.is_resting and self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None
            self._condition.notify_all()
            listeners = list(self.listeners)
        for listener in listeners:
            listener()

    def _end(self) -> None:
        with self._condition:
            self._has_ended = True
        self._change()

    def _stop(self, ending: Ending) -> None:
        """Stop the guest, which rests when it has ended. The caller holds the lock."""
        self.stopped_by = self.stopped_by or ending
        if self._recorder is not None:
            self._recorder.stop()

    # -- calls -------------------------------------------------------------------------------------

    @property
    def has_ended(self) -> bool:
        """Return whether the run has ended."""
        return self._has_ended

    @property
    def is_resting(self) -> bool:
        """Return whether the guest has ended, or waits and has consumed its input.

        A guest that was stopped while it waits is about to end.
        """
        return self._has_ended or (self.source.is_awaited and self.stopped_by is None)

    def begin_call(self, data: bytes, *, end_input: bool) -> None:
        """Feed the guest, and start the time limit of the call."""
        with self._condition:
            if self._is_calling:
                raise OptionError("another call of this session has not returned yet")
            self.source.feed(data)
            if end_input:
                self.source.close()
            self._is_calling = True
            seconds = self._limits.seconds_max
            if seconds is None or self._deadline is not None or self.is_resting:
                return
            timer = threading.Timer(seconds, lambda: self._expire(timer))
            timer.daemon = True
            self._deadline = timer
            timer.start()

    def end_call(self) -> None:
        """Allow the next call. The guest of a call that was given up runs on, within its limit."""
        with self._condition:
            self._is_calling = False

    def _expire(self, timer: threading.Timer) -> None:
        with self._condition:
            if self._deadline is timer and not self.is_resting:
                self._stop(Ending.TIMED_OUT)

    def wait(self, predicate: Callable[[], bool], timeout_seconds: float | None) -> bool:
        """Wait until ``predicate`` is true; return whether it is, or else the timeout came."""
        with self._condition:
            return self._condition.wait_for(predicate, timeout_seconds)

    # -- output ------------------------------------------------------------------------------------

    def take_reply(self) -> tuple[bytes, bytes]:
        """Return the standard output and the standard error for a reply."""
        with self._condition:
            return self._log.take_reply()

    def open_cursor(self) -> OutputCursor:
        """Return the position of a new iteration over the output."""
        with self._condition:
            return self._log.open_cursor()

    def has_output(self, cursor: OutputCursor) -> bool:
        """Return whether an iteration has a next chunk."""
        with self._condition:
            return self._log.has_chunk(cursor)

    def read(self, cursor: OutputCursor) -> OutputChunk | None:
        """Return the next chunk of an iteration, or None if there is none yet."""
        with self._condition:
            return self._log.read(cursor, takes=not self._is_calling)

"""Evaluation of code in a resume of a warm journal: the slow and simple twin of a pool."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Self

import journal
from journal.engine import ExitKind
from journal.engine.recipes.conversation import VALUE_SIZE_MAX, Conversation
from journal.engine.recipes.evaluation import Evaluation
from journal.engine.session.reply import Ending, Reply
from tests.support.deadlines import DEADLINE_SECONDS

_ENDINGS = {
    ExitKind.EXITED: Ending.EXITED,
    ExitKind.TRAPPED: Ending.TRAPPED,
    ExitKind.STOPPED: Ending.STOPPED,
}


class ResumedSandbox:
    """One session with a warm interpreter, as a resume into a new journal; a context manager.

    Only code that lets the driver reply, or ends its process, can be evaluated.
    """

    def __init__(self, warm: Path, into: Path, cache: Path, *, at: int | None = None) -> None:
        self.guest = journal.resume(warm, at=at, into=into, cache=cache)
        self._conversation = Conversation(VALUE_SIZE_MAX, {})
        self._out_size = self._error_size = 0

    def __enter__(self) -> Self:
        self.guest.start()
        self.guest.snapshot()  # Waits until the outputs before the snapshot are delivered.
        self._take_output()
        return self

    def __exit__(self, *_: object) -> None:
        self.guest.close()

    def evaluate(self, code: str) -> Evaluation:
        """Evaluate code."""
        request = self._conversation.make_request(code)
        self.guest.feed(request)
        nonce = self._conversation.nonce.encode()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (result := self.guest.wait(timeout_seconds=0.001)) is None:
            output = self.guest.stdout[self._out_size :]
            if nonce in output and output.endswith(b"\n"):
                break
            assert time.monotonic() < deadline, "the driver does not reply"
        output, error = self._take_output()
        reply = Reply(Ending.WAITING, output, error)
        if result is not None:
            reply = Reply(_ENDINGS[result.kind], output, error, result.code, result.reason)
        evaluation = self._conversation.accept_reply(reply)
        return self._conversation.add_files(evaluation, self.guest.files)

    def _take_output(self) -> tuple[bytes, bytes]:
        output, error = self.guest.stdout, self.guest.stderr
        taken = output[self._out_size :], error[self._error_size :]
        self._out_size, self._error_size = len(output), len(error)
        return taken

"""Lease of a slot: what the sessions of threads and of asyncio do alike, without any waiting."""

import os
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from journal._arguments import check_buffer, check_flag, check_path, check_text
from journal.engine.pool.messages import (
    Kind,
    MalformedMessage,
    Message,
    decode_error,
    decode_files,
    decode_reply,
    encode_values,
    frame,
)
from journal.engine.pool.slots import Slot
from journal.engine.pool.supervisor import Supervisor
from journal.engine.session.reply import Ending, Reply
from journal.engine.session.run_config import StrPath
from journal.errors import OptionError, WorkerDied

T = TypeVar("T")
_SESSION_NUMBER_MAX = (1 << 32) - 1


class Request(NamedTuple, Generic[T]):
    """A request to a worker: its bytes, and what its answer is."""

    data: bytes
    answer: Kind
    decode: Callable[[bytes], T]
    timeout_seconds: float | None = None


class SlotLease:
    """The right of one session to a slot.

    ``check_process`` raises WrongProcess in a forked child. ``begin`` has the options of the
    session, if they are not those of the pool. ``seconds_max`` is the time of one call after which
    the worker itself stops the guest.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        check_process: Callable[[], None],
        slot: Slot,
        begin: dict[str, Any],
        seconds_max: float | None,
    ) -> None:
        self.slot = slot
        self.is_closed = False
        self._supervisor = supervisor
        self._check_process = check_process
        self._begin = encode_values(begin) if begin else b""
        self._timeout_seconds = (
            None if seconds_max is None else seconds_max + supervisor.grace_seconds
        )
        self._ending = Ending.WAITING
        self._has_begun = False
        self._is_inside_call = False
        self._is_lost = False
        slot.session = slot.session % _SESSION_NUMBER_MAX + 1

    # -- requests ---------------------------------------------------------------------------------

    def make_run(self, data: bytes, end_input: bool) -> Request[Reply]:
        """Return the request to feed the guest."""
        check_buffer("data", data)
        kind = Kind.RUN_TO_END if check_flag("end_input", end_input) else Kind.RUN
        if self._ending is not Ending.WAITING:
            raise OptionError(
                f"the guest has ended ({self._ending.value}): check out another session"
            )
        request = self._frame(kind, bytes(data))
        return Request(request, Kind.REPLY, self._take_reply, self._timeout_seconds)

    def _take_reply(self, body: bytes) -> Reply:
        reply = decode_reply(body)
        self._ending = reply.ending
        return reply

    def make_read_file(self, path: str) -> Request[bytes]:
        """Return the request for the data of a file."""
        name = check_text("path", path).encode("utf-8", "surrogateescape")
        return Request(self._frame(Kind.READ_FILE, name), Kind.DATA, bytes)

    def make_list_files(self) -> Request[dict[str, bytes]]:
        """Return the request for all files."""
        return Request(self._frame(Kind.LIST_FILES), Kind.FILES, decode_files)

    def make_save_journal(self, path: StrPath) -> Request[bytes]:
        """Return the request to write a journal in memory to a file."""
        name = os.fsencode(check_path("path", path).absolute())
        return Request(self._frame(Kind.SAVE_JOURNAL, name), Kind.DONE, bytes)

    def make_begin(self) -> Request[bytes]:
        """Return the request to begin the session now, and not with its first call."""
        return Request(self._frame(Kind.ACKNOWLEDGE), Kind.DONE, bytes)

    def _frame(self, kind: Kind, body: bytes = b"") -> bytes:
        """Return the bytes of a request, after the begin of the session if it has not begun."""
        self.check_usable()
        request = frame(kind, self.slot.session, body)
        if not self._has_begun:
            request = frame(Kind.BEGIN, self.slot.session, self._begin) + request
            self._has_begun = True
        self._is_inside_call = True
        return request

    def check_usable(self) -> None:
        """Raise OptionError if no call can be made, and WorkerDied if the worker has died."""
        self._check_process()
        if self.is_closed:
            raise OptionError("the session is closed: check out another one")
        if self._is_lost:
            raise self.make_lost_error()
        if self._is_inside_call:
            raise OptionError("a call of the session was interrupted: check out another session")

    # -- answers ----------------------------------------------------------------------------------

    def accept(self, request: Request[T], message: Message) -> T:
        """Return the value of an answer, or raise the error in it.

        Raises WorkerDied for an answer that no sound worker gives. The worker is killed.
        """
        self._is_inside_call = False
        try:
            if message.session != self.slot.session:
                raise MalformedMessage("it answered another session")
            if message.kind == request.answer:
                return request.decode(message.body)
            if message.kind != Kind.FAILURE:
                raise MalformedMessage("it answered another request")
            error = decode_error(message.body)
        except MalformedMessage as malformed:
            self.lose(f"was killed: {malformed}")
            raise self.make_lost_error() from malformed
        raise error

    def lose(self, reason: str = "") -> None:
        """Give up the worker, and kill it if there is a reason, which completes "the worker …"."""
        self._is_lost = True
        if reason:
            self.slot.worker.kill(reason)

    def describe_timeout(self, seconds: float | None) -> str:
        """Return the reason to kill a worker that does not answer."""
        return f"was killed: it did not answer within {seconds:g} s"

    def make_lost_error(self) -> WorkerDied:
        """Return the error of a session whose worker has died."""
        worker = self.slot.worker
        return WorkerDied(f"the session is lost: worker {worker.number} {worker.describe_end()}")

    # -- the end ----------------------------------------------------------------------------------

    def stop(self) -> None:
        """Request the guest to stop."""
        if not self.is_closed:
            self.slot.worker.stop_session(self.slot)

    def close(self) -> None:
        """Give the slot back. Nothing waits for the worker, which cleans the clone."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._is_lost:
            self._supervisor.drop(self.slot)
        elif self._is_inside_call:
            self._supervisor.clean(self.slot)
        else:
            if self._has_begun:
                self.slot.channel.send_now(frame(Kind.END, self.slot.session))
            self._supervisor.give_back(self.slot)

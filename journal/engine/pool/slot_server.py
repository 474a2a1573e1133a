"""Server of one slot in a worker: answers the requests of its sessions with a clone."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from journal.engine.clones.session_journal import MEMORY, SessionJournal
from journal.engine.clones.template import CloneTemplate
from journal.engine.pool.channel import Channel, ChannelClosed
from journal.engine.pool.messages import (
    Kind,
    Message,
    decode_values,
    encode_error,
    encode_files,
    encode_reply,
    frame,
)
from journal.engine.session.session_limits import SessionLimits
from journal.errors import OptionError


class SlotServer:
    """Server of one slot.

    A clone serves one session after another. ``stop`` may be called from another thread.
    """

    def __init__(
        self, template: CloneTemplate, limits: SessionLimits, *, is_paranoid: bool
    ) -> None:
        self._template = template
        self._limits = limits
        self._is_paranoid = is_paranoid
        self._clone = template.make_clone()
        self._session = 0
        self._has_begun = False
        self._begin_error: Exception | None = None
        self._answers: dict[int, Callable[[bytes], bytes]] = {
            Kind.RUN: self._run,
            Kind.RUN_TO_END: self._run_to_end,
            Kind.READ_FILE: self._read_file,
            Kind.LIST_FILES: self._list_files,
            Kind.SAVE_JOURNAL: self._save_journal,
            Kind.ACKNOWLEDGE: self._acknowledge,
        }

    def serve(self, channel: Channel) -> None:
        """Answer the requests of a channel until it is closed.

        Raises EngineError if a cleaned clone differs from the snapshot: the worker must end then.
        """
        try:
            while True:
                answer = self._handle(channel.receive())
                if answer:
                    channel.send(answer)
        except ChannelClosed:
            return
        finally:
            self._clone.close()

    def stop(self, session: int | None = None) -> None:
        """Request the guest to stop, if ``session`` is still the session of this slot."""
        if self._has_begun and session in (self._session, None):
            self._clone.stop()

    def _handle(self, message: Message) -> bytes:
        """Do what a message requests, and return the bytes to answer."""
        kind, session, body = message
        if kind == Kind.BEGIN:
            self._begin(session, body)
            return b""
        if kind == Kind.END:
            self._end()
            return b""
        try:
            if self._begin_error is not None:
                raise self._begin_error
            return self._answers[kind](body)
        except Exception as error:
            return frame(Kind.FAILURE, session, encode_error(error))

    def _begin(self, session: int, body: bytes) -> None:
        if self._has_begun:
            self._end()  # The end of the last session did not arrive.
        self._session, self._begin_error = session, None
        try:
            values: dict[str, Any] = decode_values(body) if body else {}
            limits, journal = values.get("limits"), values.get("journal")
            self._clone.begin(
                limits=self._limits if limits is None else SessionLimits(**limits),
                journal=MEMORY if values.get("keeps_journal") else journal,
            )
            self._has_begun = True
        except Exception as error:
            self._begin_error = error

    def _end(self) -> None:
        """Return the clone to the snapshot, or replace it."""
        self._has_begun = False
        self._begin_error = None
        self._clone.reset()
        if self._is_paranoid:
            self._clone.check()

    def _run(self, body: bytes) -> bytes:
        return frame(Kind.REPLY, self._session, encode_reply(self._clone.run(body)))

    def _run_to_end(self, body: bytes) -> bytes:
        reply = self._clone.run(body, end_input=True)
        return frame(Kind.REPLY, self._session, encode_reply(reply))

    def _read_file(self, body: bytes) -> bytes:
        data = self._clone.read_file(body.decode("utf-8", "surrogateescape"))
        return frame(Kind.DATA, self._session, data)

    def _list_files(self, _: bytes) -> bytes:
        return frame(Kind.FILES, self._session, encode_files(self._clone.files))

    def _save_journal(self, body: bytes) -> bytes:
        journal = self._clone.journal
        if not isinstance(journal, SessionJournal):
            raise OptionError("the session keeps no journal in memory: pass journal=MEMORY")
        journal.save(Path(os.fsdecode(body)))
        return frame(Kind.DONE, self._session)

    def _acknowledge(self, _: bytes) -> bytes:
        return frame(Kind.DONE, self._session)

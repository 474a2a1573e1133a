"""Virtual time for the waits of guests: a wait passes at once, so that no machine is too slow."""

from __future__ import annotations

import select
import time

import pytest

from journal.engine.session import guest_time
from journal.engine.wasi import call_context
from journal.engine.wasi.functions import polling
from journal.engine.wasi.stdio import stdin
from journal.engine.wasi.stdio.stdin import Interrupter, StdinSource


class VirtualTime:
    """Clock that replaces the clocks of the guests of this process. ``now`` is in nanoseconds.

    The clock only moves while a guest waits. Without ``step`` it jumps to the end of the wait. With
    ``step`` it advances by that many nanoseconds each time that the guest is woken, for example to
    take a snapshot.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int | None = None) -> None:
        self.now = time.time_ns()
        self._step = step

        def wait_once(
            interrupter: Interrupter, source: StdinSource | None, until: int | None
        ) -> None:
            self._wait_once(interrupter, until)

        monkeypatch.setattr(stdin, "time", self)
        monkeypatch.setattr(polling, "time", self)
        monkeypatch.setattr(guest_time, "time", self)
        monkeypatch.setattr(call_context, "monotonic_ns", self.monotonic_ns)
        monkeypatch.setattr(call_context, "time_ns", self.time_ns)
        monkeypatch.setattr(Interrupter, "_wait_once", wait_once)

    def monotonic_ns(self) -> int:
        """Return the virtual time."""
        return self.now

    def time_ns(self) -> int:
        """Return the virtual time."""
        return self.now

    def _wait_once(self, interrupter: Interrupter, until: int | None) -> None:
        if self._step is None:
            assert until is not None, "virtual time never comes to the end of this wait"
            self.now = max(self.now, until)
        else:
            poll = select.poll()
            poll.register(interrupter._event, select.POLLIN)
            poll.poll()
            self.now += self._step
        interrupter._consume_wakeups()

"""Cleaner of slots whose sessions were left inside a call, as by Ctrl-C or a cancelled task."""

import selectors
import time
from collections.abc import Callable
from contextlib import suppress

from journal.engine.pool.channel import ChannelClosed
from journal.engine.pool.messages import Kind, MalformedMessage, frame
from journal.engine.pool.slots import Slot


class SlotCleaner:
    """Slots whose guests were told to stop, and whose last answers are awaited.

    It works in the thread of ``selector``. ``give_back`` receives a slot that is clean, and
    ``give_up`` a slot whose guest has not stopped within ``grace_seconds``, or whose channel broke.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        grace_seconds: float,
        give_back: Callable[[Slot], None],
        give_up: Callable[[Slot], None],
    ) -> None:
        self._selector = selector
        self._grace_seconds = grace_seconds
        self._give_back, self._give_up = give_back, give_up
        self._deadlines: dict[Slot, float] = {}

    def begin(self, slot: Slot) -> None:
        """Stop the guest of a slot, and clean the slot when its last answer arrives."""
        slot.worker.stop_session(slot)
        end = frame(Kind.END, slot.session) + frame(Kind.ACKNOWLEDGE, slot.session)
        with suppress(ChannelClosed, TimeoutError):  # The channel or the deadline tells below.
            slot.channel.send(end, self._grace_seconds)
        self._deadlines[slot] = time.monotonic() + self._grace_seconds
        self._selector.register(slot.channel, selectors.EVENT_READ, lambda: self._hear(slot))

    def _hear(self, slot: Slot) -> None:
        """Read the answers to a session up to the last."""
        if slot not in self._deadlines:
            return  # An event of the same round removed its worker.
        try:
            while (message := slot.channel.receive_available()) is not None:
                if message.kind == Kind.DONE and message.session == slot.session:
                    self.forget(slot)
                    self._give_back(slot)
                    return
        except (ChannelClosed, MalformedMessage):
            self._give_up(slot)

    @property
    def next_deadline(self) -> float | None:
        """Return the time of the monotonic clock at which ``check`` has work; None if never."""
        return min(self._deadlines.values(), default=None)

    def check(self) -> None:
        """Give up the slots whose time is over."""
        now = time.monotonic()
        for slot in [each for each, deadline in self._deadlines.items() if deadline <= now]:
            if slot in self._deadlines:  # The same worker may have had two of them.
                self._give_up(slot)

    def forget(self, slot: Slot) -> bool:
        """Await no more answers of a slot. Return whether any were awaited."""
        if self._deadlines.pop(slot, None) is None:
            return False
        self._selector.unregister(slot.channel)
        return True

"""Descriptors that a transaction opened and did not close, closed at its end."""

from contextlib import suppress
from typing import Any

from journal.adapters.protocols import ForwardingSink, Sink
from journal.errors import MalformedEvent
from journal.events import BY_TAG
from journal.events.codec import decode
from journal.events.core import InitModule, ProcessExit
from journal.events.definition import Closes, Copies, Event, Moves, Opens
from journal.events.descriptors import CloseFileDescriptor
from journal.events.process import ProcessStart, ProcessTrap

_CLOSES_ALL = (InitModule, ProcessStart, ProcessExit, ProcessTrap)
"""Events behind which no descriptor of before is open."""
_TRACKED_TAGS = frozenset(
    tag
    for tag, kind in BY_TAG.items()
    if kind in _CLOSES_ALL or isinstance(kind.rule, Opens | Copies | Moves | Closes)
)


class AutoClose(ForwardingSink):
    """Passes everything on, and closes at its end what was opened through it and is still open.

    Files, directories, pipes, counters, epolls and sockets: each descriptor gets its
    CloseFileDescriptor, by number, from ``finish``, ``close``, and leaving its block, be it by an
    error. In front of a Transaction that is rolled back, the closings go with the rest.
    """

    def __init__(self, inner: Sink) -> None:
        super().__init__(inner)
        self._open: set[int] = set()

    @property
    def open_descriptors(self) -> frozenset[int]:
        """The descriptors that were opened through it, and are open."""
        return frozenset(self._open)

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Pass an event on, and take note of what it opens and closes."""
        seq = self.inner.append_frame(tag, payload)
        if tag in _TRACKED_TAGS:
            with suppress(MalformedEvent):  # whoever reads it cannot say what it opened either
                self._track(decode(tag, payload))
        return seq

    def finish(self) -> int:
        """Close what is open; give how many descriptors that were."""
        left = sorted(self._open)
        for fd in left:
            self.append(CloseFileDescriptor(fd=fd))
        return len(left)

    def _track(self, event: Event) -> None:
        rule: Any = event.rule
        if isinstance(event, _CLOSES_ALL):
            self._open.clear()
        elif isinstance(rule, Opens):
            self._open.update(getattr(event, name) for name in rule.fds)
        elif isinstance(rule, Closes):
            self._open.discard(getattr(event, rule.fd))
        elif isinstance(rule, Copies):
            self._open.add(getattr(event, rule.target))
        elif isinstance(rule, Moves):
            self._move(getattr(event, rule.source), getattr(event, rule.target))

    def _move(self, source: int, target: int) -> None:
        """What ``source`` names is ``target`` now, and what that named is closed."""
        if source == target:
            return
        self._open.discard(target)
        if source in self._open:
            self._open.remove(source)
            self._open.add(target)

"""Sink that closes descriptors left open, for example by a transaction."""

from contextlib import suppress
from typing import Any

from journal.adapters.protocols import ForwardingSink, Sink
from journal.errors import MalformedEvent
from journal.events.codec import decode
from journal.events.definition import Closes, Copies, Event, Moves, Opens, Resets
from journal.events.descriptors import CloseFileDescriptor
from journal.events.tag_sets import tags_with_rule

_TRACKED_TAGS = tags_with_rule(Opens, Copies, Moves, Closes, Resets)


class AutoClose(ForwardingSink):
    """Sink that forwards all events, and at its end closes the descriptors opened through it.

    This covers files, directories, pipes, counters, epolls and sockets. ``finish``, ``close`` and
    the end of its ``with`` block, even by an error, append a CloseFileDescriptor for each, in
    ascending order. If ``inner`` is a Transaction that rolls back, these events are rolled back
    too.
    """

    def __init__(self, inner: Sink) -> None:
        super().__init__(inner)
        self._open: set[int] = set()

    @property
    def open_descriptors(self) -> frozenset[int]:
        """Numbers of the descriptors that were opened through this sink and are still open."""
        return frozenset(self._open)

    def append_frame(self, tag: int, payload: bytes) -> int:
        """Forward an event, and track the descriptors that it opens and closes."""
        seq = self.inner.append_frame(tag, payload)
        if tag in _TRACKED_TAGS:
            with suppress(MalformedEvent):  # A reader cannot decode this event either.
                self._track(decode(tag, payload))
        return seq

    def finish(self) -> int:
        """Close the open descriptors, and return their count."""
        self.check_process()
        remaining = sorted(self._open)
        for fd in remaining:
            self.append(CloseFileDescriptor(fd=fd))
        return len(remaining)

    def _track(self, event: Event) -> None:
        rule: Any = event.rule
        if isinstance(rule, Resets):
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
        """Rename descriptor ``source`` to ``target``, which closes the old ``target``."""
        if source == target:
            return
        self._open.discard(target)
        if source in self._open:
            self._open.remove(source)
            self._open.add(target)

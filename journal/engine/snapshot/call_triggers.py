"""Snapshot triggers that fire at host calls of the guest."""

from journal.engine.wasi.call_context import CallContext
from journal.engine.wasi.descriptors import InputStream
from journal.engine.wasi.functions.polling import find_polled
from journal.engine.wasi.network.socket_state import HostSocketState
from journal.events.snapshots import Trigger
from journal.snapshots.triggers import CALLS_AT_LISTENER, CALLS_BY_TRIGGER, TriggerState

_AT_STDIN = CALLS_BY_TRIGGER[Trigger.FIRST_STDIN]


class CallTriggers:
    """Triggers of one guest that fire before a host call has an effect."""

    def __init__(self, triggers: TriggerState, context: CallContext) -> None:
        self._triggers, self._context = triggers, context
        self._has_listener = False

    def look_at_descriptors(self) -> None:
        """Note whether the guest has a listening socket from its start."""
        descriptors = self._context.descriptors.used.values()
        self._has_listener = any(map(_is_preopened, descriptors))

    def list_calls(self) -> set[str]:
        """Return the functions at which an armed trigger may fire."""
        armed = [trigger for trigger in CALLS_BY_TRIGGER if self._triggers.is_armed(trigger)]
        names = {name for trigger in armed for name in CALLS_BY_TRIGGER[trigger]}
        if Trigger.NON_DETERMINISTIC_CALL in armed:
            names |= _AT_STDIN
        if Trigger.FIRST_LISTEN in armed and self._has_listener:
            names |= CALLS_AT_LISTENER
        return names

    def find(self, function: str, arguments: tuple[int, ...]) -> Trigger | None:
        """Return the armed trigger that a call fires, or None."""
        for trigger in CALLS_BY_TRIGGER:
            if self._triggers.is_armed(trigger) and self._fires(trigger, function, arguments):
                return trigger
        return None

    def _fires(self, trigger: Trigger, function: str, arguments: tuple[int, ...]) -> bool:
        if function in CALLS_BY_TRIGGER[trigger]:
            return trigger is not Trigger.FIRST_STDIN or self._reads_stdin(arguments)
        if trigger is Trigger.NON_DETERMINISTIC_CALL:
            return function in _AT_STDIN and self._reads_stdin(arguments)
        return (
            trigger is Trigger.FIRST_LISTEN
            and self._has_listener
            and function in CALLS_AT_LISTENER
            and self._awaits_connection(function, arguments)
        )

    def _reads_stdin(self, arguments: tuple[int, ...]) -> bool:
        return isinstance(self._context.descriptors.used.get(arguments[0]), InputStream)

    def _awaits_connection(self, function: str, arguments: tuple[int, ...]) -> bool:
        """Return whether a call waits for a connection at a listener that the guest has had from
        its start.
        """
        used = self._context.descriptors.used
        fds = arguments[:1]
        if function == "poll_oneoff":
            fds = find_polled(self._context, arguments[0], arguments[2])
        elif function == "epoll_wait":
            return any(map(_is_preopened, used.values()))
        return any(_is_preopened(used.get(fd)) for fd in fds)


def _is_preopened(descriptor: object) -> bool:
    return isinstance(descriptor, HostSocketState) and descriptor.is_preopened

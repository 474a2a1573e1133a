"""The function ``apply``, which dispatches an event to its effect on a host."""

from functools import singledispatch

from journal.events.definition import Event
from journal.replay.host import Host
from journal.replay.limits import ReplayError


@singledispatch
def apply(event: Event, host: Host) -> None:
    """Apply the effect of ``event`` to ``host``. Raises ReplayError if the effect is impossible.

    Every kind of event is registered, in the module of its family.
    """
    raise ReplayError(f"no effect is registered for {type(event).__name__}")

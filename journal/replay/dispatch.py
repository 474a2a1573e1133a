"""``apply``: an event's effect on a host, by the event's kind."""

from functools import singledispatch

from journal.events.definition import Event
from journal.replay.host import Host
from journal.replay.limits import ReplayError


@singledispatch
def apply(event: Event, host: Host) -> None:
    """What ``event`` does to ``host``; raises ReplayError where it cannot be done.

    Its registry has every kind of event, each in the module of its family.
    """
    raise ReplayError(f"nothing is known of what {type(event).__name__} does")

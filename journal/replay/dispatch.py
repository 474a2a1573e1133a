"""``apply``: an event's effect on a host, by the event's kind."""

from functools import singledispatch

from journal.events.definition import Event
from journal.replay.host import Host
from journal.replay.limits import NotPlayable


@singledispatch
def apply(event: Event, host: Host) -> None:
    """What ``event`` does to ``host``; raises NotPlayable where it cannot be done.

    Its registry has every kind of event, each in the module of its family.
    """
    raise NotPlayable(f"nothing is known of what {type(event).__name__} does")

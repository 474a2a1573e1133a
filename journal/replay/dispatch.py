"""The function ``apply``, which dispatches an event to its effect on a host."""

from functools import singledispatch

from journal.events.definition import Event
from journal.replay.host import Host, check_host
from journal.replay.limits import ReplayError
from journal.vfs.errors import FileError


@singledispatch
def apply_effect(event: Event, host: Host) -> None:
    """Apply the effect of ``event``; raise ReplayError or FileError if it is impossible.

    Every kind of event is registered here, in the module of its family.
    """
    raise ReplayError(f"no effect is registered for {type(event).__name__}")


def apply(event: Event, host: Host) -> None:
    """Apply the effect of ``event`` to ``host``. Raises ReplayError if the effect is impossible."""
    try:
        apply_effect(event, host)
    except FileError as error:
        raise ReplayError(error.reason) from error
    except AttributeError:
        check_host("host", host)  # Only now: a replay applies many events to one host.
        raise

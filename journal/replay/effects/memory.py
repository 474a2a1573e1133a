"""Effects of events of linear memory."""

from journal.errors import MalformedEvent
from journal.events import memory
from journal.replay.dispatch import apply_effect
from journal.replay.host import Host
from journal.replay.limits import ReplayError


@apply_effect.register
def _(event: memory.UpdateMemoryRegion, host: Host) -> None:
    if event.end - event.start != len(event.data):
        raise ReplayError(
            f"memory from {event.start} to {event.end} has data of {len(event.data)} bytes"
        )
    host.machine.write(event.start, event.data)


@apply_effect.register
def _(event: memory.MemoryPages, host: Host) -> None:
    try:
        whole = host.pages.resolve_event(host.seq, event)
        host.pages.cache(host.seq, whole)
        host.machine.write_pages(whole)
    except MalformedEvent as error:
        raise ReplayError(error.reason) from error

"""Events of linear memory."""

from journal.event import Event, Group, Region, event
from journal.wire import U64, Blob


@event(tag=7, group=Group.MEMORY, rule=Region("start", "data"))
class UpdateMemoryRegion(Event):
    """Bytes of linear memory that changed since the last snapshot.

    ``data`` is what stands from ``start`` to before ``end``, as it is: blocks compress, events do
    not. Memory that is smaller than ``end`` is grown to whole 64 KiB pages to hold it.
    """

    start: U64
    end: U64
    data: Blob

"""Effects of snapshot markers, and of where the guest stands in its files."""

from journal.events import snapshots
from journal.replay.dispatch import apply
from journal.replay.host import Host
from journal.replay.limits import ReplayError
from journal.replay.state.descriptor_table import STREAMS, StandardStream

STDIN = STREAMS[0]


@apply.register
def _(event: snapshots.Snapshot, host: Host) -> None:
    for fd, offset in host.machine.close_snapshot(event):
        found = host.table.entries.get(fd)
        if found is not None:
            found.description.position = offset
            if found.description.object == StandardStream(STDIN):
                host.inputs.read[STDIN] = offset  # a compaction may have dropped what was read
    host.process.snapshot = event
    host.process.snapshot_count += 1


@apply.register
def _(event: snapshots.ClearEthereal, host: Host) -> None:
    host.machine.clear_staged()


@apply.register
def _(event: snapshots.SafePoint, host: Host) -> None:
    host.machine.begin_snapshot(event)


@apply.register
def _(event: snapshots.DescriptorPositions, host: Host) -> None:
    for fd, _ in event.positions:
        host.table.entry(fd)
    host.machine.set_positions(event)


@apply.register
def _(event: snapshots.DirectoryListing, host: Host) -> None:
    count = len(event.entries)
    if not len(event.inodes) == len(event.kinds) == count:
        raise ReplayError(
            f"{count} entries of a directory have {len(event.inodes)} inodes and "
            f"{len(event.kinds)} kinds"
        )
    host.table.directory(event.fd)  # it changes nothing, and must be one all the same
    host.machine.set_listing(event)

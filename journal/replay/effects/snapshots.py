"""Effects of events of snapshots, and of positions of files and directories."""

from journal.events import snapshots
from journal.replay.dispatch import apply_effect
from journal.replay.host import Host
from journal.replay.limits import ReplayError
from journal.replay.state.descriptor_table import STREAMS, StandardStream

STDIN = STREAMS[0]


@apply_effect.register
def _(event: snapshots.Snapshot, host: Host) -> None:
    for fd, offset in host.machine.close_snapshot(event):
        entry = host.table.entries.get(fd)
        if entry is not None:
            entry.description.position = offset
            if entry.description.object == StandardStream(STDIN):
                # A compaction may have dropped the earlier reads.
                host.inputs.read[STDIN] = offset
    host.process.snapshot = event
    host.process.snapshot_count += 1


@apply_effect.register
def _(event: snapshots.ClearEthereal, host: Host) -> None:
    host.machine.clear_staged()


@apply_effect.register
def _(event: snapshots.SafePoint, host: Host) -> None:
    host.machine.begin_snapshot(event)


@apply_effect.register
def _(event: snapshots.DescriptorPositions, host: Host) -> None:
    for fd, _ in event.positions:
        host.table.entry(fd)
    host.machine.set_positions(event)


@apply_effect.register
def _(event: snapshots.DirectoryListing, host: Host) -> None:
    count = len(event.entries)
    if not len(event.inodes) == len(event.kinds) == count:
        raise ReplayError(
            f"a directory listing has {count} names, {len(event.inodes)} inodes and "
            f"{len(event.kinds)} kinds; the counts must be equal"
        )
    host.table.directory(event.fd)  # The descriptor must be a directory.
    host.machine.set_listing(event)


@apply_effect.register
def _(event: snapshots.DescriptorContents, host: Host) -> None:
    host.table.entry(event.fd)  # The descriptor must be open.
    host.machine.set_contents(event)


@apply_effect.register
def _(event: snapshots.SignalState, host: Host) -> None:
    host.machine.set_signals(event)


@apply_effect.register
def _(event: snapshots.ResolvedNames, host: Host) -> None:
    host.machine.set_names(event)

"""Effects of snapshot markers."""

from journal.events import snapshots
from journal.replay.applying import apply
from journal.replay.host import Host


@apply.register
def _(event: snapshots.Snapshot, host: Host) -> None:
    host.machine.close_snapshot()
    host.process.snapshot = event
    host.process.snapshot_count += 1


@apply.register
def _(event: snapshots.ClearEthereal, host: Host) -> None:
    host.machine.clear_staged()

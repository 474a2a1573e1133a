"""Statistics of the traffic of sockets by peer: connections, and bytes in both directions."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from journal._arguments import check_path
from journal.errors import FormatError
from journal.format.block import Block
from journal.log import scan
from journal.log.segment_files import SegmentFiles
from journal.replay.traffic import Traffic, TrafficKind, follow_traffic
from journal.rewrite.progress import ProgressCallback, ProgressScan, check_progress

PEERS_MAX = 1 << 16
"""Maximum number of peers that are counted one by one. Further ones are counted together."""
INSIDE = "inside the guest"
UNKNOWN = "unknown"
OTHERS = "others"


@dataclass(slots=True)
class PeerStatistics:
    """Traffic with one peer; times are µs since the epoch.

    ``peer`` is an address without a port, ``INSIDE`` for sockets that never reach the host,
    ``UNKNOWN`` for a peer that the journal does not name, or ``OTHERS``. ``sends`` and ``receipts``
    count the calls that transferred something, ``lost`` the connections that a reset ended.
    """

    peer: str
    requested: int = 0
    refused: int = 0
    connected: int = 0
    accepted: int = 0
    lost: int = 0
    sends: int = 0
    sent_size: int = 0
    receipts: int = 0
    received_size: int = 0
    first_time: int = 0
    last_time: int = 0

    @property
    def connections(self) -> int:
        """Number of connections that were established."""
        return self.connected + self.accepted


@dataclass(slots=True)
class PeersResult:
    """Statistics by peer. ``damaged`` counts damaged regions and unreadable blocks."""

    peers: dict[str, PeerStatistics] = field(default_factory=dict)
    damaged: int = 0


def collect_peers(
    path: str | os.PathLike[str], *, progress: ProgressCallback | None = None
) -> PeersResult:
    """Return the traffic of the sockets in a journal, by the address of the peer.

    Damage is skipped and counted. Raises a FormatError if the file contains no journal segment.
    """
    source = check_path("path", path)
    report, result = check_progress(progress), PeersResult()
    with closing(SegmentFiles(source, patient=True)) as files:
        for timed in follow_traffic(_read_blocks(files, report, result)):
            _add(result, timed.traffic, timed.time)
    return result


def _read_blocks(
    files: SegmentFiles, report: ProgressCallback, result: PeersResult
) -> Iterator[Block]:
    def on_damage(damage: scan.Damage) -> None:
        result.damaged += 1

    items = ProgressScan(report, "looking").items(files)
    for scanned in scan.take_blocks(items, on_damage=on_damage):
        if not scanned.header.frame_count:
            continue
        try:
            yield scanned.block()
        except FormatError:
            result.damaged += 1


def _add(result: PeersResult, traffic: Traffic, time: int) -> None:
    counter = _COUNTERS.get(traffic.kind)
    if counter is None:
        return
    peer = _find_peer(result, traffic)
    peer.first_time = peer.first_time or time
    peer.last_time = max(peer.last_time, time)
    setattr(peer, counter, getattr(peer, counter) + 1)
    if traffic.kind is TrafficKind.SENT:
        peer.sent_size += traffic.size
    elif traffic.kind is TrafficKind.RECEIVED:
        peer.received_size += traffic.size


_COUNTERS = {
    TrafficKind.REQUESTED: "requested",
    TrafficKind.REFUSED: "refused",
    TrafficKind.CONNECTED: "connected",
    TrafficKind.ACCEPTED: "accepted",
    TrafficKind.LOST: "lost",
    TrafficKind.SENT: "sends",
    TrafficKind.RECEIVED: "receipts",
}
"""Names of the fields that count each kind of traffic."""


def _find_peer(result: PeersResult, traffic: Traffic) -> PeerStatistics:
    if traffic.socket.is_inside:
        name = INSIDE
    else:
        name = UNKNOWN if traffic.peer is None else str(traffic.peer.address)
    if name not in result.peers and len(result.peers) >= PEERS_MAX:
        name = OTHERS
    return result.peers.setdefault(name, PeerStatistics(name))

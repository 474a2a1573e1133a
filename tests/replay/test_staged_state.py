"""Replay of snapshots of running guests: the model agrees with every digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from journal import Frame
from journal.events import codec
from journal.events.snapshots import DescriptorPositions, DirectoryListing, SafePoint, Snapshot
from journal.events.threads import GlobalsSet, SetThread, TableSet
from journal.replay import ModelHost, ReplayLimits, play
from tests.support.page_histories import plain_digest
from tests.support.rewrites import frames_of
from tests.support.snapshot_guests import STAGED_GUESTS, SnapshotGuest
from tests.support.snapshot_runs import record_often

FLAT_SIZE_MAX = 16 << 20
"""Memories above this size are not compared as flat bytes, because that takes long."""

DIGESTED = {kind.tag for kind in (GlobalsSet, TableSet, SetThread, DescriptorPositions)}
DIGESTED.add(DirectoryListing.tag)


def check(host: ModelHost, staged_frames: list[Frame]) -> None:
    """Compare a model with the events before a Snapshot, as the spec describes."""
    assert host.machine.digest_matches is True
    sizes = host.machine.memories
    if sum(sizes.values()) <= FLAT_SIZE_MAX:
        flat = [(index, host.machine.read(0, size, index)) for index, size in sizes.items()]
        assert (
            plain_digest(flat, [frame.payload for frame in staged_frames]) == host.machine.digest()
        )
    (positions,) = [
        codec.decode(*frame[1:3]) for frame in staged_frames if frame.tag == DescriptorPositions.tag
    ]
    assert isinstance(positions, DescriptorPositions)
    open_descriptors = host.descriptors
    for fd, position in positions.positions:
        assert open_descriptors[fd].position == position
    listings = [
        codec.decode(*frame[1:3]) for frame in staged_frames if frame.tag == DirectoryListing.tag
    ]
    assert list(host.machine.listings.values()) == listings


LARGE = ("deeper", "heap64", "growing", "high")


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(one, id=one.title, marks=[pytest.mark.deep] if one.title in LARGE else [])
        for one in STAGED_GUESTS
    ],
)
def test_a_model_agrees_with_every_snapshot_of_a_guest(
    one: SnapshotGuest, tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "run.journal"
    record_often(one, path, cache_dir)
    host, count, staged_frames = ModelHost(ReplayLimits(memory_size_max=1 << 32)), 0, list[Frame]()
    for frame in frames_of(path):
        play([frame], host)
        if frame.tag == SafePoint.tag:
            staged_frames = []
        elif frame.tag in DIGESTED:
            staged_frames.append(frame)
        elif frame.tag == Snapshot.tag:
            check(host, staged_frames)
            count += 1
    assert count > 1

"""Rebuild by the engine: a compacted journal gives the same state as its source.

The histories are calls that a guest might make, executed by the engine itself, with memory files,
host directories, sockets and a terminal.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import compaction
from journal.compaction import RetentionPolicy
from journal.engine.snapshot.contents import apply_contents, capture_contents
from journal.engine.snapshot.positions import apply_listing, apply_positions
from journal.engine.snapshot.rebuild import rebuild_state
from journal.events import codec, process, snapshots, threads
from journal.events.snapshots import (
    DescriptorContents,
    DescriptorPositions,
    DirectoryListing,
    SafePoint,
    Trigger,
)
from tests.support import network_call_histories
from tests.support.call_histories import (
    Guest,
    Operation,
    Rows,
    fresh,
    histories,
    mounts_of,
    run_history,
    somewhere,
)
from tests.support.compaction_histories import START, Story, write_story
from tests.support.engine_state import Described, Fresh, batches_of, rows_of
from tests.support.network_call_histories import NetworkGuest
from tests.support.sample_events import CODE, MODULE, pages_event, process_start, thread

POINT = SafePoint(calls=1, monotonic=2, code=CODE, whole=True, entry="_start", function="fd_write")


def snapshot_of(there: Described) -> list[tuple[int, bytes]]:
    """Return a snapshot of a guest that never writes to its memory."""
    events = (POINT, pages_event(1 << 16), threads.GlobalsSet(globals=()), thread(0))
    closing = snapshots.Snapshot(when=0, trigger=Trigger.EXPLICIT)
    return [
        *((event.tag, codec.encode(event)) for event in events),
        *((DescriptorPositions.tag, payload) for payload in there["positions"]),
        *((DirectoryListing.tag, payload) for payload in there["listings"]),
        *((DescriptorContents.tag, payload) for payload in there.get("contents", ())),
        (closing.tag, codec.encode(closing)),
    ]


def story_of(guest: Guest, folder: Path, chosen: set[int]) -> Story:
    """Return the events of a guest, with snapshots after some of its calls."""
    begin = [process_start(), process.InstrumentedPart(offset=0, data=MODULE), *mounts_of(folder)]
    rows = [(event.tag, codec.encode(event)) for event in begin]
    done = 0
    for index, (upto, there) in enumerate(guest.seen):
        rows += [(tag, payload) for _, tag, payload, _ in guest.rows.kept[done : upto + 1]]
        done = upto + 1
        if index in chosen:
            rows += snapshot_of(there)
    rows += [(tag, payload) for _, tag, payload, _ in guest.rows.kept[done:]]
    return [(tag, payload, START + at) for at, (tag, payload) in enumerate(rows)]


def rebuild_from_journal(path: Path, folder: Path, seq: int) -> Described:
    """Return the state that the engine rebuilds up to a snapshot."""
    made: Fresh = fresh(folder)
    rows = rows_of(path)
    rebuild_state(made.context, batches_of(rows), seq)
    last: list[tuple[int, bytes]] = []
    contents = []
    for number, tag, payload, _ in rows:
        if number > seq:
            break
        last = [] if tag == SafePoint.tag else [*last, (tag, payload)]
    for tag, payload in last:
        event = codec.decode(tag, payload)
        if isinstance(event, DescriptorPositions):
            apply_positions(made.context, event)
        elif isinstance(event, DirectoryListing):
            apply_listing(made.context, event)
        elif isinstance(event, DescriptorContents):
            contents.append(event)
    apply_contents(made.context, contents)
    state = made.described() | {"contents": capture_contents(made.context)}
    # The peer of a socket inside the guest is another object, with another address in memory.
    state["descriptors"] = re.sub(r" at 0x\w+", "", repr(sorted(state["descriptors"].items())))
    return state


@pytest.mark.deep
@given(histories, st.data())
def test_any_history_of_calls_is_folded_to_the_same(
    history: list[Operation], data: st.DataObject
) -> None:
    with somewhere() as folder:
        check_compaction(run_history(folder, history), folder, data)


@pytest.mark.deep
@given(network_call_histories.histories, st.data())
def test_any_history_of_calls_on_sockets_and_pipes_is_folded_to_the_same(
    history: list[Operation], data: st.DataObject
) -> None:
    with somewhere() as folder:
        guest = NetworkGuest(folder, Rows())
        guest.live(history)
        check_compaction(guest, folder, data)


def check_compaction(guest: Guest, folder: Path, data: st.DataObject) -> None:
    """Compact the journal of a guest, and compare what the engine rebuilds from both."""
    count = len(guest.seen)
    chosen = {count - 1, *data.draw(st.sets(st.integers(0, count - 1), max_size=3))}
    source, target = folder / "source", folder / "target"
    write_story(source, story_of(guest, folder, chosen))
    policy = RetentionPolicy(keep_last=data.draw(st.integers(1, 3)))
    found = compaction.compact(source, target, policy=policy)
    for seq in found.snapshots:
        assert rebuild_from_journal(target, folder, seq) == rebuild_from_journal(
            source, folder, seq
        )

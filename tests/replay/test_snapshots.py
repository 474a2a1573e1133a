"""Replay of snapshots: closed and void state, and the check of digests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.events import descriptors, process, snapshots, streams, threads
from journal.events.definition import Event
from journal.events.inputs import HostCall
from journal.events.memory import PAGE_SIZE
from journal.pages.encoding import ZERO_PAGE, ChangedPage, encode_pages, hash_page
from journal.replay import ModelHost, ReplayLimits, apply
from tests.support.flat_machine import FULL_PAGE, FlatMachine, positions
from tests.support.sample_events import (
    frames_of_events,
    host_mount,
    host_result,
    listing,
    memory_mount,
    open_path,
    pages_event,
    play_events,
    process_start,
    refusal,
    region,
    snapshot,
    thread,
    write,
)

EXPLICIT = snapshots.Trigger.EXPLICIT
GLOBALS = threads.GlobalsSet(globals=((0, 0x7F, bytes(16)),))


def safe_point(*, whole: bool = False) -> snapshots.SafePoint:
    return snapshots.SafePoint(
        calls=1, monotonic=2, code=bytes(32), whole=whole, entry="_start", function="fd_write"
    )


def whole_page(number: int, page: bytes, memory: int = 0) -> Event:
    return pages_event(1 << 16, memory, numbers=(number,), kinds=b"\1", data=page)


# -- a plain model of a guest, and its recorded events ------------------------------------------


def change_machine(draw: st.DrawFn, machine: FlatMachine) -> None:
    """Change the state of the guest between two snapshots."""
    for _ in range(draw(st.integers(0, 4))):
        index = draw(st.integers(0, 2))
        flat = machine.memories.setdefault(index, bytearray())
        flat += bytes(PAGE_SIZE * draw(st.integers(0, 3)))
        data = draw(st.binary(max_size=40) | st.sampled_from([ZERO_PAGE, FULL_PAGE, FULL_PAGE * 2]))
        at = draw(st.integers(0, len(flat)))
        flat[at : at + len(data)] = data[: len(flat) - at]
    for _ in range(draw(st.integers(0, 2))):
        table = machine.tables.setdefault(draw(st.integers(0, 1)), [])
        table += draw(st.lists(st.integers(0, 9), max_size=3))
        if table:
            table[draw(st.integers(0, len(table) - 1))] = threads.TABLE_NULL
    machine.values += draw(st.integers(0, 1000))
    machine.stacks = draw(st.none() | st.binary(max_size=20))


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[list[Event], FlatMachine | None]]:
    """Return groups of events, each with the machine of its snapshot, or None after a crash."""
    machine, closed = FlatMachine(), FlatMachine()
    found: list[tuple[list[Event], FlatMachine | None]] = []
    for _ in range(draw(st.integers(1, 5))):
        change_machine(draw, machine)
        whole = draw(st.booleans()) or not found
        events: list[Event] = [safe_point(whole=whole), *machine.told(closed, whole=whole)]
        if draw(st.integers(0, 3)) == 0:
            found.append((events[: draw(st.integers(0, len(events)))], None))
            if draw(st.booleans()):
                machine = closed.copy()  # The next session resumes from the last snapshot.
            continue
        digest = machine.digest()
        closed = machine.copy()
        snapshot = snapshots.Snapshot(when=0, trigger=EXPLICIT, digest=digest)
        found.append(([*events, snapshot], closed))
    return found


def check(host: ModelHost, machine: FlatMachine) -> None:
    assert host.machine.memories == {i: len(flat) for i, flat in machine.memories.items()}
    for index, flat in machine.memories.items():
        assert host.machine.read(0, 1 << 20, index) == flat
    elements = {(i, at): f for i, found in machine.tables.items() for at, f in enumerate(found)}
    assert host.machine.elements == elements
    assert host.machine.digest() == machine.digest()


@given(histories())
def test_a_model_equals_the_machine_at_its_last_snapshot(
    history: list[tuple[list[Event], FlatMachine | None]],
) -> None:
    host, last = ModelHost(), None
    for events, machine in history:
        for event in events:
            apply(event, host)
            if event is not events[-1] and last is not None:
                check(host, last)
        if machine is not None:
            last = machine
            check(host, machine)
            assert host.machine.digest_matches is True
            stacks = {} if machine.stacks is None else {0: thread(0, machine.stacks)}
            assert host.machine.threads == stacks
            assert host.machine.globals == machine.globals
            assert host.descriptors[0].position == machine.values


def test_hash_sums_are_updated_and_not_recomputed(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [ChangedPage(number, FULL_PAGE, ZERO_PAGE) for number in range(100)]
    host = play_events(safe_point(whole=True), *encode_pages(0, 100 * PAGE_SIZE, pages), GLOBALS)
    apply(snapshot(), host)
    hashed = []

    def hash_and_count(memory: int, number: int, page: bytes) -> int:
        hashed.append(number)
        return hash_page(memory, number, page)

    monkeypatch.setattr("journal.replay.state.memory_layers.hash_page", hash_and_count)
    two = encode_pages(
        0,
        100 * PAGE_SIZE,
        [ChangedPage(7, b"\2" * PAGE_SIZE, FULL_PAGE), ChangedPage(9, ZERO_PAGE, FULL_PAGE)],
    )
    for event in (safe_point(), *two, GLOBALS):
        apply(event, host)
    apply(snapshots.Snapshot(when=0, trigger=EXPLICIT, digest=bytes(16)), host)
    assert host.machine.digest_matches is False
    assert hashed == [7, 7, 9], "only the old and the new pages are hashed"


# -- single cases --------------------------------------------------------------------------------


def test_a_snapshot_with_a_wrong_digest_is_replayed_and_reported() -> None:
    wrong = snapshots.Snapshot(when=0, trigger=EXPLICIT, digest=b"x" * 16)
    first = (safe_point(whole=True), whole_page(0, FULL_PAGE), GLOBALS)
    host = play_events(*first, wrong)
    assert host.machine.digest_matches is False
    assert host.machine.read(0, PAGE_SIZE) == FULL_PAGE
    assert play_events(*first, snapshot()).machine.digest_matches is None
    assert play_events(*first).machine.digest_matches is None
    right = snapshots.Snapshot(when=0, trigger=EXPLICIT, digest=host.machine.digest())
    assert play_events(*first, right).machine.digest_matches is True
    for each in (whole_page(0, b"\2" * PAGE_SIZE), whole_page(1, FULL_PAGE), pages_event(1 << 17)):
        assert play_events(*first, each, right).machine.digest_matches is False
    assert (
        play_events(*first, right, process.ProcessTrap(kind="", message="")).machine.memories == {}
    )


def test_parts_before_a_crash_are_void_when_the_next_snapshot_starts() -> None:
    cut = (
        whole_page(1, FULL_PAGE),
        threads.TableSet(table=0, start=0, functions=(1,)),
        thread(0, b"s"),
    )
    host = play_events(
        memory_mount(),
        safe_point(whole=True),
        whole_page(0, FULL_PAGE),
        snapshot(),
        safe_point(),
        *cut,
        positions((0, 9)),
        listing(3, b"a"),
        process.SessionStart(
            realtime=0, monotonic=0, engine_version="", journal_version="", platform=""
        ),
        safe_point(),
        GLOBALS,
        snapshot(),
    )
    assert host.machine.pages == {0: FULL_PAGE}
    assert (host.machine.elements, host.machine.threads, host.machine.listings) == ({}, {}, {})
    assert host.descriptors[0].position == 0


def test_a_session_voids_nothing() -> None:
    session = process.SessionStart(
        realtime=0, monotonic=0, engine_version="", journal_version="", platform=""
    )
    host = play_events(safe_point(), whole_page(0, FULL_PAGE), session, snapshot())
    assert host.machine.pages == {0: FULL_PAGE}


def test_a_whole_snapshot_drops_objects_it_does_not_contain() -> None:
    first = (
        safe_point(whole=True),
        whole_page(0, FULL_PAGE),
        whole_page(1, FULL_PAGE),
        whole_page(0, FULL_PAGE, memory=1),
        threads.TableSet(table=0, start=0, functions=(1, 2)),
        GLOBALS,
        snapshot(),
    )
    changed = (whole_page(1, ZERO_PAGE), GLOBALS)
    assert play_events(*first, safe_point(), *changed, snapshot()).machine.memories == {
        0: 1 << 16,
        1: 1 << 16,
    }
    host = play_events(*first, safe_point(whole=True), *changed)
    assert sorted(host.machine.pages) == [0, 1], "nothing is dropped before it is closed"
    apply(snapshot(), host)
    assert (host.machine.memories, host.machine.pages) == ({0: 1 << 16}, {})
    assert host.machine.elements == {}


def test_patches_in_a_whole_snapshot_apply_to_zero_pages() -> None:
    patch = pages_event(1 << 16, numbers=(0,), kinds=b"\2", data=b"\1\0\1\0\1\0x")
    first = (safe_point(), whole_page(0, FULL_PAGE), snapshot())
    assert play_events(*first, safe_point(), patch, snapshot()).machine.read(0, 3) == b"\1x\1"
    host = play_events(*first, safe_point(whole=True), patch, snapshot())
    assert host.machine.read(0, 3) == b"\0x\0"
    smaller = pages_event(PAGE_SIZE)
    assert "memory 0 would shrink from 65536 to 4096 bytes" in refusal(
        *first, safe_point(), smaller
    )
    assert (
        play_events(*first, safe_point(whole=True), smaller, snapshot()).machine.memory_size == 4096
    )


def test_patches_apply_to_the_pages_of_the_last_snapshot() -> None:
    patch = pages_event(1 << 16, numbers=(0,), kinds=b"\2", data=b"\1\0\1\0\1\0x")
    first = (safe_point(), whole_page(0, FULL_PAGE), snapshot())
    host = play_events(*first, safe_point(), whole_page(0, b"\2" * PAGE_SIZE), patch, snapshot())
    assert host.machine.read(0, 3) == b"\1x\1"


def test_a_snapshot_of_our_runtime_has_exactly_its_own_stacks() -> None:
    first = (safe_point(), thread(0, b"stacks"), listing(3, b"a"), snapshot())
    host = play_events(memory_mount(), *first)
    assert host.machine.threads == {0: thread(0, b"stacks")}
    assert host.machine.listings == {3: listing(3, b"a")}
    apply(safe_point(), host)
    apply(snapshot(), host)
    assert (host.machine.threads, host.machine.listings) == ({}, {})
    wasmers = (thread(1, b"one"), snapshot(), region(0, b"x"), snapshot())
    assert play_events(*wasmers).machine.threads == {1: thread(1, b"one")}


def test_memories_share_a_limit() -> None:
    limits = ReplayLimits(memory_size_max=3 << 16)
    first = (pages_event(1 << 16, 0), pages_event(1 << 16, 7), snapshot(), pages_event(1 << 16, 8))
    assert "262144 bytes" in refusal(*first, pages_event(1 << 16, 9), limits=limits)
    assert "262144 bytes" in refusal(*first, region(1 << 16, b"x"), limits=limits)
    assert "196609" in refusal(region(3 << 16, b"x"), limits=limits)
    host = play_events(
        *first, safe_point(whole=True), pages_event(3 << 16, 9), snapshot(), limits=limits
    )
    assert host.machine.memories == {9: 3 << 16}


def test_regions_belong_to_the_first_memory() -> None:
    host = play_events(
        whole_page(0, FULL_PAGE), whole_page(0, b"\2" * PAGE_SIZE, 1), region(0, b"abc")
    )
    apply(snapshot(), host)
    assert (host.machine.read(0, 4), host.machine.read(0, 4, 1)) == (b"abc\1", b"\2" * 4)
    assert host.machine.pages_of(1) == {0: b"\2" * PAGE_SIZE}
    assert (host.machine.read(0, 4, 2), host.machine.pages_of(2)) == (b"", {})


# -- positions ----------------------------------------------------------------------------------


def test_positions_are_those_of_the_snapshot() -> None:
    first = [
        process_start(),
        memory_mount(),
        host_mount(4),
        open_path(5, 3, "a", 1),
        write(5, 0, b"abc"),
        open_path(6, 4, "a", 1),
        host_result(HostCall.OPEN, 6, b"\4" + bytes(31)),
        descriptors.DuplicateFileDescriptor(original_fd=5, copied_fd=7),
        streams.StreamWrite(stream=1, offset=0, data=b"out"),
    ]
    staged = (safe_point(), positions((0, 11), (1, 3), (5, 1), (6, 9), (7, 1)))
    host = play_events(*first, *staged)
    assert host.descriptors[5].position == 3, "the positions are staged"
    apply(snapshot(), host)
    found = {fd: opened.position for fd, opened in host.descriptors.items()}
    assert found == {0: 11, 1: 3, 2: 0, 3: 0, 4: 0, 5: 1, 6: 9, 7: 1}
    apply(snapshot(), host)
    seek = descriptors.FileDescriptorSeek(fd=5, offset=1, whence=descriptors.Whence.CURRENT)
    apply(seek, host)
    apply(snapshot(), host)
    assert host.descriptors[5].position == host.descriptors[7].position == 2
    assert "descriptor 8 is not open" in refusal(*first, positions((8, 0)))
    assert "a file" in refusal(*first, listing(5))
    closed = descriptors.CloseFileDescriptor(fd=7)
    assert 7 not in play_events(*first, *staged, closed, snapshot()).descriptors


@pytest.mark.parametrize("kinds", [b"", b"\4\4"])
def test_the_columns_of_a_listing_have_equal_lengths(kinds: bytes) -> None:
    assert "a directory listing has 1 names" in refusal(
        memory_mount(), listing(3, b"a", kinds=kinds)
    )


def test_a_replay_of_damaged_pages_is_refused_with_the_event_number() -> None:
    malformed = pages_event(1 << 16, numbers=(0,), kinds=b"\4")
    assert refusal(safe_point(), malformed) == "page 0 has the unknown kind 4"
    assert frames_of_events([malformed])[0].tag == 142

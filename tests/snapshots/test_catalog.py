"""The list of snapshots of a journal, made without a replay."""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal import Reader, list_snapshots
from journal.errors import DamagedJournal, MalformedEvent
from journal.events import codec, core, descriptors, memory, snapshots, streams, threads
from journal.events.definition import Event
from journal.events.memory import PAGE_SIZE
from journal.events.snapshots import Trigger
from journal.pages.encoding import ZERO_PAGE, ChangedPage, encode_pages
from journal.snapshots import SnapshotInfo
from tests.support.sample_events import listing, process_start, region, thread

CODE = bytes(range(32))
CLEAR = snapshots.ClearEthereal()
NOISE: list[Event] = [
    streams.StreamWrite(stream=1, offset=0, data=b"x"),
    descriptors.CloseFileDescriptor(fd=3),
]
TTY = core.TtySet(
    cols=1,
    rows=1,
    width=0,
    height=0,
    stdin_tty=True,
    stdout_tty=True,
    stderr_tty=True,
    echo=True,
    line_buffered=True,
    line_feeds=True,
)


def safe_point(
    entry: str = "_start", code: bytes = CODE, *, whole: bool = True
) -> snapshots.SafePoint:
    return snapshots.SafePoint(
        calls=7, monotonic=9, code=code, whole=whole, entry=entry, function="fd_read"
    )


def pages(count: int, page: bytes = b"\1" * PAGE_SIZE) -> list[Event]:
    """Return the events of this number of equal pages."""
    return list(
        encode_pages(0, 1 << 20, [ChangedPage(number, page, ZERO_PAGE) for number in range(count)])
    )


def snapshot(digest: bytes = b"digest") -> snapshots.Snapshot:
    return snapshots.Snapshot(when=1, trigger=Trigger.IDLE, digest=digest)


def write_journal(path: Path, events: Iterable[Event | None]) -> None:
    """Write a journal; None stands for a sync."""
    with journal.Writer(path) as writer:
        for event in events:
            if event is None:
                writer.sync()
            else:
                writer.append(event)


def list_all(path: Path, stop: int | None = None) -> list[SnapshotInfo]:
    with Reader(path) as reader:
        return list(list_snapshots(reader, stop=stop))


def write_and_list_one(path: Path, *events: Event) -> SnapshotInfo:
    """Write a journal of these events, and return its only snapshot."""
    write_journal(path, events)
    (found,) = list_all(path)
    return found


# -- any history --------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event | None], list[tuple[object, ...]]]:
    """Generate the events of a journal, and the expected properties of each snapshot."""
    events: list[Event | None] = []
    expected: list[tuple[object, ...]] = []
    is_process = draw(st.booleans())
    seq = 0

    def add(*more: Event) -> int:
        nonlocal seq
        size = 0
        for event in more:
            events.extend([None] if draw(st.integers(0, 4)) == 0 else [])
            events.append(event)
            size += len(codec.encode(event))
            seq += 1
        return size

    if is_process:
        add(process_start())
    for _ in range(draw(st.integers(0, 6))):
        add(*draw(st.lists(st.sampled_from([*NOISE, TTY]), max_size=3)))
        is_ours, is_cut = draw(st.booleans()), draw(st.integers(0, 3)) == 0
        first, size = seq, 0
        has_stacks, entry = draw(st.booleans()), draw(st.sampled_from(["", "_start"]))
        count = draw(st.integers(0, 40))
        if is_ours:
            size += add(safe_point(entry), *pages(count), threads.GlobalsSet(globals=()))
        else:
            size += add(region(PAGE_SIZE, bytes(count * PAGE_SIZE)))
        size += add(*([thread(0, b"stack")] if has_stacks else []))
        size += add(*([listing(3, b"a"), TTY] if is_ours else []))
        if is_cut:
            add(CLEAR)  # A snapshot of another runtime that follows would include these events.
            continue
        last = seq
        size += add(snapshot())
        resumable = is_process and is_ours and (not entry or has_stacks)
        entry = entry if is_ours else ""
        properties = (first if is_ours else None, count, size, has_stacks, entry, resumable)
        expected.append((last, *properties))
    return events, expected


@given(histories())
def test_every_history_has_exactly_its_closed_snapshots(
    history: tuple[list[Event | None], list[tuple[object, ...]]],
) -> None:
    events, expected = history
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        write_journal(path, events)
        found = list_all(path)
        assert [
            (
                info.seq,
                info.first_seq,
                info.pages,
                info.size,
                info.has_stacks,
                info.entry,
                info.resumable,
            )
            for info in found
        ] == expected
        for info in found:
            assert info.resumable == (not info.reason)
            assert (info.trigger, info.digest) == (Trigger.IDLE, b"digest")
            with Reader(path) as reader:
                assert info.time == reader.frame(info.seq).time
            assert list_all(path, info.seq) == [other for other in found if other.seq < info.seq]
            assert list_all(path, info.seq + 1)[-1] == info


# -- one at a time ------------------------------------------------------------------------------


def test_a_snapshot_has_every_property_of_its_safe_point(tmp_path: Path) -> None:
    body = [*pages(17), thread(0, b"stack")]
    found = write_and_list_one(
        tmp_path / "a", process_start(), NOISE[0], safe_point(whole=False), *body, snapshot()
    )
    size = sum(len(codec.encode(event)) for event in (safe_point(), *body, snapshot()))
    assert found == SnapshotInfo(
        seq=6,
        time=found.time,
        trigger=Trigger.IDLE,
        first_seq=2,
        pages=17,
        size=size,
        digest=b"digest",
        whole=False,
        has_stacks=True,
        code=CODE,
        entry="_start",
        function="fd_read",
        calls=7,
        monotonic=9,
        resumable=True,
        reason="",
    )


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (
            [process_start(), safe_point(), snapshot()],
            "the snapshot has no stacks; a resume executes the guest again instead",
        ),
        ([process_start(), snapshot()], "another runtime wrote this snapshot"),
        ([process_start(), thread(1), snapshot()], "another runtime wrote this snapshot"),
        ([safe_point(), thread(0), snapshot()], "no ProcessStart event precedes the snapshot"),
        (
            [process_start(), safe_point(code=bytes(32)), thread(0), snapshot()],
            "the snapshot does not name the module of its stacks",
        ),
        ([process_start(), safe_point("", bytes(32)), snapshot()], ""),
        ([process_start(), safe_point(), thread(0), snapshot()], ""),
        (
            [process_start(), safe_point(), CLEAR, thread(0), snapshot()],
            "another runtime wrote this snapshot",
        ),
        (
            [process_start(), safe_point(), process_start(), thread(0), snapshot()],
            "another runtime wrote this snapshot",
        ),
        (
            [process_start(), safe_point(), thread(0), safe_point(), snapshot()],
            "the snapshot has no stacks; a resume executes the guest again instead",
        ),
    ],
)
def test_a_snapshot_has_a_reason_if_it_is_not_resumable(
    events: list[Event], reason: str, tmp_path: Path
) -> None:
    found = write_and_list_one(tmp_path / "a", *events)
    assert (found.reason, found.resumable) == (reason, not reason)


def test_an_unclosed_snapshot_is_not_listed(tmp_path: Path) -> None:
    write_journal(tmp_path / "a", [process_start(), safe_point(), *pages(3), thread(0)])
    assert list_all(tmp_path / "a") == []
    write_journal(tmp_path / "a", [safe_point(), *pages(1), thread(0), snapshot()])
    (found,) = list_all(tmp_path / "a")
    assert (found.first_seq, found.pages) == (4, 1)


@pytest.mark.parametrize(
    ("start", "size", "count"), [(0, 1, 1), (4095, 2, 2), (4096, 4096, 1), (1, 8192, 3), (5, 0, 0)]
)
def test_a_region_counts_as_the_pages_it_touches(
    start: int, size: int, count: int, tmp_path: Path
) -> None:
    assert write_and_list_one(tmp_path / "a", region(start, bytes(size)), snapshot()).pages == count


@pytest.mark.parametrize(
    ("tag", "payload"),
    [
        (memory.MemoryPages.tag, b""),
        (memory.MemoryPages.tag, bytes(15)),
        (memory.MemoryPages.tag, bytes(12) + b"\2\0\0\0" + bytes(4)),
        (memory.UpdateMemoryRegion.tag, bytes(19)),
        (snapshots.SafePoint.tag, b""),
        (snapshots.Snapshot.tag, b"\0"),
    ],
)
def test_a_malformed_event_of_a_snapshot_raises(tag: int, payload: bytes, tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append_frame(tag, payload)
    with pytest.raises(MalformedEvent):
        list_all(tmp_path / "a")


def test_only_blocks_with_snapshots_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_journal(
        path, [process_start(), None, NOISE[0], None, safe_point(), thread(0), snapshot(), None]
    )
    with Reader(path) as reader:
        _, noise, ours = list(reader.blocks())[:3]
    for block, is_read in ((noise, False), (ours, True)):
        data = bytearray(path.read_bytes())
        data[block.offset + 112] ^= 1
        other = tmp_path / f"b{block.offset}"
        other.write_bytes(data)
        if is_read:
            with pytest.raises(DamagedJournal):
                list_all(other)
        else:
            assert len(list_all(other)) == 1


def test_memory_is_bounded_by_blocks(tmp_path: Path) -> None:
    page_events = (event for _ in range(8) for event in pages(256, os.urandom(PAGE_SIZE)))
    write_journal(
        tmp_path / "a", [process_start(), safe_point(), *page_events, thread(0), snapshot()]
    )
    list_all(tmp_path / "a")
    tracemalloc.start()
    try:
        (found,) = list_all(tmp_path / "a")
        assert found.pages == 2048
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()

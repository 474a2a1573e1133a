"""The snapshots that a journal has, told without playing it."""

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


def point(entry: str = "_start", code: bytes = CODE, *, whole: bool = True) -> snapshots.SafePoint:
    return snapshots.SafePoint(
        calls=7, monotonic=9, code=code, whole=whole, entry=entry, function="fd_read"
    )


def pages(count: int, page: bytes = b"\1" * PAGE_SIZE) -> list[Event]:
    """Events of so many pages."""
    return list(
        encode_pages(0, 1 << 20, [ChangedPage(number, page, ZERO_PAGE) for number in range(count)])
    )


def closing(digest: bytes = b"digest") -> snapshots.Snapshot:
    return snapshots.Snapshot(when=1, trigger=Trigger.IDLE, digest=digest)


def write_journal(path: Path, events: Iterable[Event | None]) -> None:
    """Write a journal; None is a sync."""
    with journal.Writer(path) as writer:
        for event in events:
            if event is None:
                writer.sync()
            else:
                writer.append(event)


def told(path: Path, upto: int | None = None) -> list[SnapshotInfo]:
    with Reader(path) as reader:
        return list(list_snapshots(reader, stop=upto))


def one(path: Path, *events: Event) -> SnapshotInfo:
    """The only snapshot of a journal that has these events."""
    write_journal(path, events)
    (found,) = told(path)
    return found


# -- any history --------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event | None], list[tuple[object, ...]]]:
    """Events of a journal, and of each snapshot: numbers, pages, size, kind, whether resumable."""
    events: list[Event | None] = []
    expected: list[tuple[object, ...]] = []
    is_process = draw(st.booleans())
    seq = 0

    def put(*more: Event) -> int:
        nonlocal seq
        size = 0
        for event in more:
            events.extend([None] if draw(st.integers(0, 4)) == 0 else [])
            events.append(event)
            size += len(codec.encode(event))
            seq += 1
        return size

    if is_process:
        put(process_start())
    for _ in range(draw(st.integers(0, 6))):
        put(*draw(st.lists(st.sampled_from([*NOISE, TTY]), max_size=3)))
        is_ours, is_cut = draw(st.booleans()), draw(st.integers(0, 3)) == 0
        first, size = seq, 0
        has_stacks, entry = draw(st.booleans()), draw(st.sampled_from(["", "_start"]))
        count = draw(st.integers(0, 40))
        if is_ours:
            size += put(point(entry), *pages(count), threads.GlobalsSet(globals=()))
        else:
            size += put(region(PAGE_SIZE, bytes(count * PAGE_SIZE)))
        size += put(*([thread(0, b"stack")] if has_stacks else []))
        size += put(*([listing(3, b"a"), TTY] if is_ours else []))
        if is_cut:
            put(CLEAR)  # or else it is of the next one, if that is not ours
            continue
        last = seq
        size += put(closing())
        resumable = is_process and is_ours and (not entry or has_stacks)
        entry = entry if is_ours else ""
        about = (first if is_ours else None, count, size, has_stacks, entry, resumable)
        expected.append((last, *about))
    return events, expected


@given(histories())
def test_any_history_has_the_snapshots_that_were_closed(
    history: tuple[list[Event | None], list[tuple[object, ...]]],
) -> None:
    events, expected = history
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        write_journal(path, events)
        found = told(path)
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
            assert told(path, info.seq) == [other for other in found if other.seq < info.seq]
            assert told(path, info.seq + 1)[-1] == info


# -- one at a time ------------------------------------------------------------------------------


def test_a_snapshot_is_told_with_all_that_its_safe_point_says(tmp_path: Path) -> None:
    body = [*pages(17), thread(0, b"stack")]
    found = one(tmp_path / "a", process_start(), NOISE[0], point(whole=False), *body, closing())
    size = sum(len(codec.encode(event)) for event in (point(), *body, closing()))
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
            [process_start(), point(), closing()],
            "the snapshot has no stacks; a resume executes the guest again instead",
        ),
        ([process_start(), closing()], "another runtime wrote this snapshot"),
        ([process_start(), thread(1), closing()], "another runtime wrote this snapshot"),
        ([point(), thread(0), closing()], "no ProcessStart event precedes the snapshot"),
        (
            [process_start(), point(code=bytes(32)), thread(0), closing()],
            "the snapshot does not name the module of its stacks",
        ),
        ([process_start(), point("", bytes(32)), closing()], ""),
        ([process_start(), point(), thread(0), closing()], ""),
        (
            [process_start(), point(), CLEAR, thread(0), closing()],
            "another runtime wrote this snapshot",
        ),
        (
            [process_start(), point(), process_start(), thread(0), closing()],
            "another runtime wrote this snapshot",
        ),
        (
            [process_start(), point(), thread(0), point(), closing()],
            "the snapshot has no stacks; a resume executes the guest again instead",
        ),
    ],
)
def test_a_snapshot_says_why_nobody_resumes_there(
    events: list[Event], reason: str, tmp_path: Path
) -> None:
    found = one(tmp_path / "a", *events)
    assert (found.reason, found.resumable) == (reason, not reason)


def test_what_was_begun_and_not_closed_is_none(tmp_path: Path) -> None:
    write_journal(tmp_path / "a", [process_start(), point(), *pages(3), thread(0)])
    assert told(tmp_path / "a") == []
    write_journal(tmp_path / "a", [point(), *pages(1), thread(0), closing()])
    (found,) = told(tmp_path / "a")
    assert (found.first_seq, found.pages) == (4, 1)


@pytest.mark.parametrize(
    ("start", "size", "count"), [(0, 1, 1), (4095, 2, 2), (4096, 4096, 1), (1, 8192, 3), (5, 0, 0)]
)
def test_a_region_counts_as_the_pages_that_it_lies_in(
    start: int, size: int, count: int, tmp_path: Path
) -> None:
    assert one(tmp_path / "a", region(start, bytes(size)), closing()).pages == count


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
def test_what_is_malformed_is_told(tag: int, payload: bytes, tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append_frame(tag, payload)
    with pytest.raises(MalformedEvent):
        told(tmp_path / "a")


def test_only_blocks_with_snapshots_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_journal(
        path, [process_start(), None, NOISE[0], None, point(), thread(0), closing(), None]
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
                told(other)
        else:
            assert len(told(other)) == 1


def test_memory_is_bounded_by_blocks(tmp_path: Path) -> None:
    page_events = (event for _ in range(8) for event in pages(256, os.urandom(PAGE_SIZE)))
    write_journal(tmp_path / "a", [process_start(), point(), *page_events, thread(0), closing()])
    told(tmp_path / "a")
    tracemalloc.start()
    try:
        (found,) = told(tmp_path / "a")
        assert found.pages == 2048
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()

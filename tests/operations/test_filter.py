"""Filter: exactly the selected events are kept, and the result reports resumability truthfully."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal import Frame, Query, Reader, Writer
from journal.engine import SnapshotOptions
from journal.errors import (
    CorruptBlock,
    DamagedJournal,
    ExpressionError,
    JournalError,
    MalformedEvent,
    OptionError,
)
from journal.events import BY_TAG, codec
from journal.events.core import ProcessExit
from journal.events.definition import Event, Group
from journal.events.descriptors import (
    CloseFileDescriptor,
    DuplicateFileDescriptor,
    FileDescriptorWrite,
    OpenFileDescriptor,
    RenumberFileDescriptor,
)
from journal.events.inputs import ClockRead
from journal.events.paths import CreateSymbolicLink, PathRename, UnlinkFile
from journal.events.process import ModulePart, Mount, MountKind, ProcessStart, Seal
from journal.events.streams import StreamWrite
from journal.format.block import Block
from journal.query.compiler import CompiledQuery
from journal.query.literals import JournalTimes, Moment, MomentBase
from journal.query.parser import And, Comparison, Expression, parse
from journal.query.path_tracker import PathTracker
from journal.query.selection import PREAMBLE
from journal.replay import ModelHost
from journal.rewrite import output_journal
from journal.snapshots import Trigger
from journal.snapshots.resume_flags import GAPS_ALLOWED, NOT_RESUMABLE, not_resumable_reason
from tests.support.guest_runs import wait_for_end
from tests.support.journals import make_clock
from tests.support.plain_resumability import process_start_row
from tests.support.programs import ROOT
from tests.support.query_strategies import trees
from tests.support.sample_events import process_start
from tests.support.snapshot_guests import SNAPSHOT_GUESTS, SnapshotGuest
from tests.support.snapshot_runs import record_guest, snapshots_in
from tests.support.strategies import every_event

UNKNOWN_TAGS = (222, 254)


def frames_of(path: Path) -> list[Frame]:
    """Read all frames of a journal; clear their offsets."""
    with Reader(path) as reader:
        return [frame._replace(offset=0) for frame in reader.frames()]


def write_journal(path: Path, *blocks: list[Event]) -> list[Frame]:
    """Write a journal of these blocks, and return its frames."""
    with Writer(path, clock=make_clock(1000, 10)) as writer:
        for events in blocks:
            for event in events:
                writer.append(event)
            writer.sync()
    return frames_of(path)


def selected_seqs(frames: list[Frame], query: Query) -> set[int]:
    """Return the sequence numbers that a query selects, evaluated event by event."""
    clock = JournalTimes(frames[0].time, frames[-1].time) if frames else JournalTimes(0, 0)
    predicate, names, found = CompiledQuery(query.expression, clock), PathTracker(), set()
    for frame in frames:
        is_selected = query.start <= frame.seq and (query.stop is None or frame.seq < query.stop)
        for bound, is_end in ((query.since, False), (query.until, True)):
            if bound is not None:
                moment = bound if isinstance(bound, Moment) else Moment(MomentBase.EPOCH, bound)
                is_selected &= (frame.time < clock.resolve(moment)) is is_end
        if (
            predicate.matches(frame.seq, frame.time, frame.tag, frame.payload, names)
            and is_selected
        ):
            found.add(frame.seq)
        if frame.tag in BY_TAG:
            predicate.track(frame.tag, frame.payload, names)
    return found


def pairs(events: list[Event]) -> list[tuple[int, bytes]]:
    return [(event.tag, codec.encode(event)) for event in events]


def bounds() -> st.SearchStrategy[Expression]:
    """Generate expressions that bound sequence numbers or times, some with more conditions."""
    operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    of_seq = st.builds(
        lambda operator, value: Comparison("seq", operator, (value,)),
        operators,
        st.integers(-2, 40),
    )
    of_time = st.builds(
        lambda operator, value: Comparison("time", operator, (value,)),
        operators,
        st.builds(Moment, st.sampled_from(MomentBase), st.integers(0, 400))
        | st.integers(900, 1300),
    )
    several = st.lists(of_seq | of_time | trees(), min_size=2, max_size=4).map(tuple)
    return of_seq | of_time | st.builds(And, several)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Generate queries; most parts of each are left out."""
    moments = st.builds(Moment, st.sampled_from(MomentBase), st.integers(0, 400)) | st.integers(
        900, 1300
    )

    def draw_sometimes(values: st.SearchStrategy[object], otherwise: object) -> object:
        return draw(values) if draw(st.integers(0, 3)) == 0 else otherwise

    return Query(
        groups=draw_sometimes(st.frozensets(st.sampled_from(Group), max_size=3), frozenset()),  # type: ignore[arg-type]
        tags=draw_sometimes(
            st.frozensets(st.sampled_from([*BY_TAG, 200]), max_size=9), frozenset()
        ),  # type: ignore[arg-type]
        start=draw_sometimes(st.integers(0, 40), 0),  # type: ignore[arg-type]
        stop=draw_sometimes(st.integers(0, 40), None),  # type: ignore[arg-type]
        since=draw_sometimes(moments, None),  # type: ignore[arg-type]
        until=draw_sometimes(moments, None),  # type: ignore[arg-type]
        descriptors=draw_sometimes(st.frozensets(st.integers(0, 4), max_size=3), frozenset()),  # type: ignore[arg-type]
        paths=draw_sometimes(st.sampled_from([("**",), ("/tmp/*", "a"), ("*",)]), ()),  # type: ignore[arg-type]
        where=draw_sometimes(trees() | bounds(), None),  # type: ignore[arg-type]
    )


FRAMES = st.builds(lambda event: (event.tag, codec.encode(event)), every_event()) | st.tuples(
    st.sampled_from(UNKNOWN_TAGS), st.binary(max_size=9)
)
STORIES = st.lists(st.lists(FRAMES, max_size=9), max_size=5)


def clear_flags(frames: list[Frame]) -> list[Frame]:
    """Clear the payload of ProcessStart, to which a filter may add a flag."""
    return [
        frame._replace(payload=b"") if frame.tag == ProcessStart.tag else frame for frame in frames
    ]


@given(STORIES, queries(), st.booleans(), st.booleans())
def test_exactly_the_selected_events_are_kept_with_numbers_and_times(
    tmp_path_factory: pytest.TempPathFactory,
    story: list[list[tuple[int, bytes]]],
    query: Query,
    keep: bool,
    keep_preamble: bool,
) -> None:
    folder = tmp_path_factory.mktemp("filter")
    with Writer(folder / "a", clock=make_clock(1000, 10)) as writer:
        for block in story:
            for frame in block:
                writer.append_frame(*frame)
            writer.sync()
    frames = frames_of(folder / "a")
    found = journal.filter(
        folder / "a", folder / "b", query, keep=keep, keep_preamble=keep_preamble
    )
    expected = selected_seqs(frames, query)
    kept = [frame for frame in frames if (frame.seq in expected) is keep]
    if keep_preamble:
        kept = [
            frame
            for frame in frames
            if (frame in kept or frame.tag in PREAMBLE) and frame.tag != Seal.tag
        ]
    assert clear_flags(frames_of(folder / "b")) == clear_flags(kept)
    assert found.events == len(kept)
    assert found.events + found.events_dropped == len(frames)
    with Reader(folder / "b") as reader:
        assert list(reader.verify(decode=False)) == []
    # Filter again: the source now has gaps, and nothing is written.
    again = journal.filter(folder / "b", None, query, keep=keep, keep_preamble=keep_preamble)
    if "time" not in str(query.expression) and query.since is query.until is None:
        assert again.kept == found.kept
        assert not again.dropped


def test_a_filter_without_effect_writes_the_same_blocks(tmp_path: Path) -> None:
    frames = write_journal(
        tmp_path / "a", [ClockRead(clock=0, time=1)] * 9, [ProcessExit(exit_code=0)]
    )
    found = journal.filter(tmp_path / "a", tmp_path / "b", Query())
    assert frames_of(tmp_path / "b") == frames
    assert (found.blocks, found.blocks_copied) == (2, 2)
    with Reader(tmp_path / "a") as one, Reader(tmp_path / "b") as two:
        assert one.journal_id == two.journal_id == found.journal_id


def test_blocks_without_selected_kinds_are_not_read(tmp_path: Path) -> None:
    reads = [ClockRead(clock=0, time=time) for time in range(50)]
    writes: list[Event] = [StreamWrite(stream=1, offset=0, data=b"x" * 100)] * 50
    write_journal(tmp_path / "a", [*reads], writes, [ProcessExit(exit_code=0)])
    data = bytearray((tmp_path / "a").read_bytes())
    with Reader(tmp_path / "a") as reader:
        offset = [block.offset for block in reader.blocks()][1]
    data[offset + 130] ^= 1
    (tmp_path / "a").write_bytes(data)
    found = journal.filter(tmp_path / "a", tmp_path / "b", Query(groups=frozenset({Group.CORE})))
    assert found.blocks_skipped == 2
    assert found.dropped == {ClockRead.tag: 50, StreamWrite.tag: 50}
    with pytest.raises(DamagedJournal):
        journal.filter(tmp_path / "a", tmp_path / "c", Query(groups=frozenset({Group.STDIO})))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_events_are_decoded_only_if_the_query_uses_their_fields(tmp_path: Path) -> None:
    with Writer(tmp_path / "a") as writer:
        writer.append(process_start())
        writer.append_frame(ClockRead.tag, b"short")
        writer.append(StreamWrite(stream=1, offset=0, data=b"x"))
        writer.append(StreamWrite(stream=2, offset=0, data=b"x"))
    found = journal.filter(tmp_path / "a", tmp_path / "b", Query(where="stream == 1"), keep=False)
    assert found.dropped == {StreamWrite.tag: 1}
    with pytest.raises(MalformedEvent):
        journal.filter(tmp_path / "a", tmp_path / "c", Query(where="clock == 1"))
    assert not (tmp_path / "c").exists()


def test_few_events_of_many_blocks_are_written_to_few_blocks(tmp_path: Path) -> None:
    rare: list[Event] = [ClockRead(clock=1, time=1)]
    blocks = [[*rare, *[StreamWrite(stream=1, offset=0, data=b"x")] * 20]] * 40
    frames = write_journal(tmp_path / "a", *blocks)
    found = journal.filter(tmp_path / "a", tmp_path / "b", Query(tags=frozenset({ClockRead.tag})))
    assert found.blocks == 1
    assert frames_of(tmp_path / "b") == [frame for frame in frames if frame.tag == ClockRead.tag]


def test_no_payload_is_decompressed_if_nothing_is_written(tmp_path: Path) -> None:
    writes: list[Event] = [StreamWrite(stream=1, offset=0, data=b"x" * 500)] * 20
    write_journal(tmp_path / "a", [ClockRead(clock=1, time=1), *writes])
    with Reader(tmp_path / "a") as reader, Writer(tmp_path / "b") as writer:
        for block in reader.blocks():
            body = bytes(16) + block.body[16:]  # This is no zstandard frame.
            writer.append_block(Block(block.header, body, block.first_seq, block.offset))
    query = Query(tags=frozenset({ClockRead.tag}))
    found = journal.filter(tmp_path / "b", None, query)
    assert (found.kept, found.dropped) == ({ClockRead.tag: 1}, {StreamWrite.tag: 20})
    with pytest.raises(CorruptBlock, match="decompressed"):
        journal.filter(tmp_path / "b", tmp_path / "c", query)


FILES: list[Event] = [
    Mount(fd=3, kind=MountKind.MEMORY, guest="/work", host=""),
    OpenFileDescriptor(
        fd=4, dirfd=3, dirflags=0, o_flags=1, fs_flags=0,
        fs_rights_base=0, fs_rights_inheriting=0, path="tmp/a",
    ),
    FileDescriptorWrite(fd=4, offset=0, data=b"x"),
    DuplicateFileDescriptor(original_fd=4, copied_fd=5),
    CloseFileDescriptor(fd=4),
    FileDescriptorWrite(fd=5, offset=1, data=b"y"),
    RenumberFileDescriptor(old_fd=5, new_fd=9),
    FileDescriptorWrite(fd=9, offset=2, data=b"z"),
    FileDescriptorWrite(fd=8, offset=2, data=b"of another"),
    PathRename(old_fd=3, new_fd=3, old_path="tmp/a", new_path="kept"),
    UnlinkFile(fd=3, path="./tmp/../kept"),
    CreateSymbolicLink(fd=3, old_path="/work/tmp/a", new_path="link"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        (Query(paths=("/work/tmp/*",)), [1, 2, 3, 4, 5, 6, 7, 9]),
        (Query(paths=("/work/kept",)), [9, 10]),
        (Query(paths=("/work/*",)), [9, 10, 11]),
        (Query(paths=("kept",)), [9]),
        (Query(descriptors=frozenset({4})), [1, 2, 3, 4]),
        (Query(descriptors=frozenset({9})), [6, 7]),
        (Query(paths=("/work/tmp/a",), descriptors=frozenset({5})), [3, 5, 6]),
        (Query(where='path glob "/work/**" and kind glob "*Write"'), [2, 5, 7]),
    ],
)
def test_a_path_selects_every_event_of_a_file(
    query: Query, seqs: list[int], tmp_path: Path
) -> None:
    write_journal(tmp_path / "a", FILES[:5], FILES[5:])
    journal.filter(tmp_path / "a", tmp_path / "b", query, keep_preamble=False)
    assert [frame.seq for frame in frames_of(tmp_path / "b")] == seqs


def test_a_filter_overwrites_neither_its_source_nor_another_file(tmp_path: Path) -> None:
    write_journal(tmp_path / "a", FILES)
    (tmp_path / "b").write_bytes(b"mine")
    for target in ("a", "b", "nowhere/c"):
        with pytest.raises(OptionError):
            journal.filter(tmp_path / "a", tmp_path / target, Query())
    with pytest.raises(ExpressionError):
        journal.filter(tmp_path / "a", tmp_path / "c", Query(where="fd ="))
    assert (tmp_path / "b").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_directory_is_filtered_into_a_file(tmp_path: Path) -> None:
    with Writer(tmp_path / "a", roll=journal.log.RollPolicy(size_bytes=2000)) as writer:
        for number in range(40):
            writer.append(ClockRead(clock=number % 3, time=number))
            writer.append(StreamWrite(stream=1, offset=0, data=bytes(200)))
            writer.sync()
    frames = frames_of(tmp_path / "a")
    assert len(list((tmp_path / "a").iterdir())) > 2
    journal.filter(tmp_path / "a", tmp_path / "b", Query(where="clock == 2"))
    assert frames_of(tmp_path / "b") == [
        frame for frame in frames if frame.tag == ClockRead.tag and frame.payload[0] == 2
    ]


def test_a_torn_tail_is_left_out(tmp_path: Path) -> None:
    frames = write_journal(tmp_path / "a", FILES[:6], FILES[6:])
    data = (tmp_path / "a").read_bytes()
    with Reader(tmp_path / "a") as reader:
        end = [block.offset for block in reader.blocks()][1]
    (tmp_path / "a").write_bytes(data[: end + 130])
    journal.filter(tmp_path / "a", tmp_path / "b", Query())
    assert frames_of(tmp_path / "b") == frames[:6]
    flipped = bytearray(data)
    flipped[500] ^= 1
    (tmp_path / "c").write_bytes(flipped)
    with pytest.raises((CorruptBlock, DamagedJournal)):
        journal.filter(tmp_path / "c", tmp_path / "d", Query())


# -- resumability of filtered journals -------------------------------------------------------------

GUESTS = [
    guest
    for guest in SNAPSHOT_GUESTS
    if guest.title in ("clocks", "stdin", "descriptors in memory", "environ", "deep")
]
INPUTS, STDIO = frozenset({Group.INPUTS}), frozenset({Group.STDIO})
STAGED = frozenset({Group.MEMORY, Group.THREADS, Group.SNAPSHOTS})


def record_unfinished(
    one: SnapshotGuest, path: Path, cache: Path, level: journal.engine.RecordingLevel
) -> None:
    """Record a run with snapshots whose end is missing."""
    whole = path.with_name("whole.journal")
    snapshots = SnapshotOptions(on=frozenset({Trigger.BOOTSTRAP}), every_events=6)
    with journal.record(
        one.path,
        whole,
        args=one.argv,
        env=dict(one.env),
        stdin=one.stdin,
        cache=cache,
        mounts=[journal.MemoryMount(name) for name in one.memory],
        durability=journal.engine.Durability.NONE,
        level=level,
        snapshots=snapshots,
    ) as recorder:
        wait_for_end(recorder)
    infos = snapshots_in(whole)
    at = infos[len(infos) * 2 // 3].seq
    more = 0 if level is journal.engine.RecordingLevel.STATE else 3
    journal.filter(whole, path, Query(stop=at + 1 + more))
    whole.unlink()


#: A guest can succeed without these snapshots if it has overwritten their pages since.
CAUTIOUS_REASONS = ("the snapshots on which the last snapshot is based were dropped",)


def filters(path: Path) -> list[tuple[Query, bool]]:
    """Return filters of every kind for a journal with snapshots: the query and ``keep``."""
    infos = snapshots_in(path)
    last, first = infos[-1].seq, infos[0].seq
    middle = infos[len(infos) // 2].seq
    return [
        (Query(), True),
        (Query(groups=INPUTS), False),
        (Query(groups=INPUTS, stop=last), False),
        (Query(groups=INPUTS, start=last), False),
        (Query(groups=STAGED), False),
        (Query(groups=STAGED | INPUTS), False),
        (Query(groups=frozenset({Group.MEMORY})), False),
        (Query(groups=frozenset({Group.MEMORY}), stop=middle), False),
        (Query(groups=STAGED, stop=middle), False),
        (Query(groups=STAGED, start=middle), False),
        (Query(groups=frozenset({Group.FILES})), False),
        (Query(groups=STDIO), False),
        (Query(groups=STDIO), True),
        (Query(stop=middle + 1), True),
        (Query(stop=middle - 2), True),
        (Query(start=middle), True),
        (Query(start=last), False),
        (Query(where='kind == "PortUnbridge"'), True),
        (Query(stop=4), True),
        (Query(where=f"seq == {middle}"), False),
        (Query(where=f"seq == {first + 1}"), False),
        (Query(where='kind == "SafePoint"'), False),
        (Query(where='kind == "SetThread"'), False),
        (Query(where='kind == "SessionStart"'), False),
        (Query(where='kind == "StreamDelivered"'), False),
        (Query(where='kind == "DescriptorPositions"'), False),
    ]


def resume_to_end(
    one: SnapshotGuest, path: Path, cache: Path
) -> tuple[journal.engine.RunResult, bytes, bytes, dict[str, bytes]] | None:
    """Resume a run to its end; return None if the resume is refused or fails."""
    # A memory image is cached beside the modules. A cache of its own keeps it from being found.
    modules = path.with_suffix(".cache") / "modules"
    modules.parent.mkdir()
    modules.symlink_to(cache)
    try:
        with journal.resume(
            path, stdin=one.stdin, cache=modules, durability=journal.engine.Durability.NONE
        ) as recorder:
            return wait_for_end(recorder), recorder.stdout, recorder.stderr, recorder.files
    except (JournalError, AssertionError):
        return None


@pytest.mark.parametrize("level", list(journal.engine.RecordingLevel), ids=str)
@pytest.mark.parametrize(
    "one",
    [
        pytest.param(one, id=one.title, marks=[] if one.title == "stdin" else [pytest.mark.deep])
        for one in GUESTS
    ],
)
def test_the_reported_resumability_agrees_with_a_resume(
    one: SnapshotGuest, level: journal.engine.RecordingLevel, tmp_path: Path, cache_dir: Path
) -> None:
    plain = record_guest(one, tmp_path / "plain.journal", cache_dir)
    path = tmp_path / "part.journal"
    record_unfinished(one, path, cache_dir, level)
    resumable_values = set()
    for number, (query, keep) in enumerate(filters(path)):
        target = tmp_path / f"{number}.journal"
        found = journal.filter(path, target, query, keep=keep)
        end = resume_to_end(one, target, cache_dir)
        message = f"{query}, keep {keep}: {found.reason}; {found.dropped}"
        assert found.reason
        if found.resumable:
            assert end == plain, message
        elif end is not None:
            # The resume was not refused although events are missing.
            assert end != plain or found.reason in CAUTIOUS_REASONS, message
        resumable_values.add(found.resumable)
    assert resumable_values == {True, False}


def test_a_journal_without_a_process_is_not_resumable(tmp_path: Path) -> None:
    write_journal(tmp_path / "a", FILES)
    found = journal.filter(tmp_path / "a", None, Query())
    assert (found.resumable, found.reason) == (
        False,
        "the journal has no ProcessStart event: it does not record a process",
    )


def test_the_preamble_is_kept_unless_disabled(tmp_path: Path, cache_dir: Path) -> None:
    one = GUESTS[0]
    record_guest(one, tmp_path / "a", cache_dir)
    query = Query(groups=frozenset({Group.STDIO}))
    kept = journal.filter(tmp_path / "a", None, query)
    assert set(kept.kept) >= {ProcessStart.tag, ModulePart.tag, StreamWrite.tag}
    bare = journal.filter(tmp_path / "a", None, query, keep_preamble=False)
    assert not PREAMBLE & bare.kept.keys()
    assert bare.reason == "the ProcessStart event was dropped"
    assert not (tmp_path / "b").exists()


def test_a_dry_run_reports_sizes_only_with_measure_size(tmp_path: Path, cache_dir: Path) -> None:
    record_guest(GUESTS[0], tmp_path / "a", cache_dir)
    query = Query(groups=frozenset({Group.STDIO, Group.INPUTS}))
    written = journal.filter(tmp_path / "a", tmp_path / "b", query, keep_preamble=False)
    measured = journal.filter(tmp_path / "a", None, query, keep_preamble=False, measure_size=True)
    assert measured == written
    assert written.written > 0
    message = journal.filter(tmp_path / "a", None, query, keep_preamble=False)
    assert message == replace(written, written=0, blocks=0, blocks_copied=0)


@pytest.mark.parametrize(
    ("group", "flag"),
    [(Group.STDIO, NOT_RESUMABLE), (Group.INPUTS, GAPS_ALLOWED), (Group.SOCKETS, "")],
)
def test_a_filtered_journal_has_its_flag_with_any_size_of_the_buffer(
    group: Group, flag: str, tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, path = next(guest for guest in GUESTS if guest.title == "stdin"), tmp_path / "a"
    record_unfinished(one, path, cache_dir, journal.engine.RecordingLevel.FULL)
    query = Query(groups=frozenset({group}), stop=snapshots_in(path)[-1].seq)
    expected = journal.filter(path, tmp_path / "held", query, keep=False)
    frames = frames_of(tmp_path / "held")
    for size in (0, expected.written // 2, expected.written - 1):
        monkeypatch.setattr(output_journal, "PENDING_SIZE_MAX", size)
        target = tmp_path / str(size)
        assert journal.filter(path, target, query, keep=False) == expected
        assert frames_of(target) == frames
    start = codec.decode(frames[0].tag, frames[0].payload)
    assert isinstance(start, ProcessStart)
    found = dict(start.configuration)
    assert {name for name in (NOT_RESUMABLE, GAPS_ALLOWED) if name in found} == {flag} - {""}
    assert not flag or found[flag] == expected.reason


def test_a_block_pending_at_the_end_is_written_and_the_journal_flagged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_journal, "PENDING_SIZE_MAX", 0)
    with Writer(tmp_path / "a") as writer:
        writer.append_frame(
            *process_start_row(journal.engine.RecordingLevel.FULL, embedded=False, marked=False)
        )
        writer.append(StreamWrite(stream=1, offset=0, data=b"x"))
        writer.append(ClockRead(clock=1, time=1))
    found = journal.filter(tmp_path / "a", tmp_path / "b", Query(groups=STDIO), keep=False)
    start, read = frames_of(tmp_path / "b")
    assert (start.seq, read.seq, found.events) == (0, 2, 2)
    event = codec.decode(start.tag, start.payload)
    assert isinstance(event, ProcessStart)
    assert not_resumable_reason(event) == found.reason


def test_files_are_the_same_without_events_of_other_groups(tmp_path: Path, cache_dir: Path) -> None:
    one = next(guest for guest in GUESTS if guest.title == "descriptors in memory")
    record_guest(one, tmp_path / "a", cache_dir)
    query = Query(groups=frozenset({Group.INPUTS, Group.STDIO, *STAGED}))
    found = journal.filter(tmp_path / "a", tmp_path / "b", query, keep=False)
    assert found.events_dropped
    hosts = [ModelHost(), ModelHost()]
    for name, host in zip("ab", hosts, strict=True):
        with Reader(tmp_path / name) as reader:
            journal.play(reader.frames(), host)
    assert hosts[0].files == hosts[1].files != {}


def test_fixtures_of_the_format_are_filtered_unchanged(tmp_path: Path) -> None:
    for number, path in enumerate(sorted((ROOT / "fixtures" / "events").glob("*.journal"))):
        target = tmp_path / str(number)
        journal.filter(path, target, select_all())
        kept = [frame for frame in frames_of(path) if frame.tag != Seal.tag]
        assert frames_of(target) == kept


def select_all() -> Query:
    """Return a query with a condition that every event meets."""
    return Query(where=parse("seq >= 0"))

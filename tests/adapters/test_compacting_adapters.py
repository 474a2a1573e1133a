"""CompactingSink: the forwarded events replay to the same state as all events."""

from __future__ import annotations

import gc
import mmap
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal import Event, Frame, LimitExceeded, OptionError, Reader, Writer
from journal.adapters import (
    AutoClose,
    CompactingSink,
    CountingSink,
    FilteredSink,
    MemoryJournal,
    NullJournal,
    Sink,
    Transaction,
    copy,
    pipe,
)
from journal.adapters.compacting_sink import WINDOW_EVENTS_MAX, WINDOW_SIZE_MAX
from journal.compaction import event_classes
from journal.compaction.liveness.interval_map import IntervalMap
from journal.events import codec, core, descriptors, inputs, paths, process, snapshots
from journal.events.descriptors import CloseFileDescriptor, FileDescriptorWrite
from journal.events.inputs import HostCall
from journal.events.paths import FileType
from journal.events.process import RecordingLevel
from journal.format.block import Block
from journal.replay import ModelHost, play
from journal.replay.hosts.model import ReplayState
from tests.support import compaction_histories as compacted
from tests.support.compaction_histories import (
    LIMITS,
    START,
    Seen,
    Story,
    foreign,
    history,
    keep_playable,
)
from tests.support.replayed_files import TREE, WEST
from tests.support.sample_events import host_result, open_path, write
from tests.support.snapshot_guests import SNAPSHOT_GUESTS
from tests.support.snapshot_runs import record_often, resume_guest

seeds, lengths = st.integers(0, 1 << 32), st.integers(0, 90)
windows = st.sampled_from([1, 2, 7, 60, WINDOW_EVENTS_MAX])
flushes = st.sampled_from([0.0, 0.02, 0.2])


class Numbered(MemoryJournal):
    """A buffer that accepts blocks with their sequence numbers, as a writer does."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: START)
        self.blocks: list[list[Frame]] = []

    @property
    def next_seq(self) -> int:
        return self._frames[-1].seq + 1 if self._frames else 0

    def append_block(self, source: Block) -> None:
        assert source.first_seq >= self.next_seq
        source.check()
        frames = [
            Frame(*row, time, 0) for row, time in zip(source.rows(), source.times, strict=True)
        ]
        assert not self._frames or self._frames[-1].time <= frames[0].time
        self._frames += frames
        self.blocks.append(frames)


def clock_of(story: Story) -> Callable[[], int]:
    return iter([time for *_, time in story]).__next__


def complete_state(host: ModelHost) -> Seen:
    """Return the complete state, but for what sockets have transferred."""
    return Seen(compacted.state_of(host), compacted.seen(host).nameless)


class Watched:
    """All events and the forwarded events, replayed side by side."""

    def __init__(self, end: MemoryJournal) -> None:
        self.full, self.rest = ModelHost(LIMITS), ModelHost(LIMITS)
        self.end, self.upto = end, 0
        self.came = 0

    def take(self, row: tuple[int, bytes, int]) -> None:
        tag, payload, time = row
        play([Frame(self.came, tag, payload, time, 0)], self.full)
        self.came += 1

    def compare(self, seen: Callable[[ModelHost], object] = complete_state) -> None:
        """Check that the forwarded events lead to the same state as all events."""
        play(self.end._frames[self.upto :], self.rest)
        self.upto = len(self.end._frames)
        assert seen(self.rest) == seen(self.full)


def compare_forwarding(
    story: Story, events_max: int, often: float, random: Random
) -> tuple[CompactingSink, Numbered]:
    """Append a story, flush at random, and compare after each forwarding."""
    end = Numbered()
    sink = CompactingSink(end, events_max=events_max, clock=clock_of(story))
    watched = Watched(end)
    for at, row in enumerate(story):
        assert sink.append_frame(*row[:2]) == at
        watched.take(row)
        assert len(sink) < events_max
        if random.random() < often:
            sink.flush()
        if not len(sink):
            watched.compare()
    sink.close()
    watched.compare()
    return sink, end


# -- states ---------------------------------------------------------------------------------------


@given(seeds, lengths, windows, flushes)
def test_at_each_moment_of_passing_on_the_state_is_that_of_all_that_came(
    seed: int, steps: int, events_max: int, often: float
) -> None:
    story = foreign(seed, steps, 9)
    sink, end = compare_forwarding(story, events_max, often, Random(seed))
    assert not sink.reason
    assert sink.dropped == len(story) - len(end._frames)
    check_untouched(story, end)


@given(seeds, lengths, windows, flushes, st.sampled_from(list(RecordingLevel)))
def test_so_it_is_for_a_process_with_snapshots(
    seed: int, steps: int, events_max: int, often: float, level: RecordingLevel
) -> None:
    story = history(seed, steps, 15, level)
    sink, end = compare_forwarding(story, events_max, often, Random(seed))
    assert not sink.reason
    check_untouched(story, end)
    check_snapshots(story, end)
    for block in end.blocks:
        check_front(story, block)


@given(seeds, lengths, windows, flushes)
def test_so_it_is_for_events_of_which_nobody_says_what_ran(
    seed: int, steps: int, events_max: int, often: float
) -> None:
    started = {process.ProcessStart.tag, process.InstrumentedPart.tag}
    story = keep_playable([row for row in history(seed, steps, 15) if row[0] not in started])
    sink, end = compare_forwarding(story, events_max, often, Random(seed))
    assert not sink.reason
    check_untouched(story, end)
    check_snapshots(story, end)


def check_untouched(story: Story, end: Numbered) -> None:
    """Check that forwarded events are unchanged, and complete if they cannot be analysed."""
    for frame in end._frames:
        assert frame[1:4] == story[frame.seq]
    kept = {frame.seq for frame in end._frames}
    for seq, (tag, *_) in enumerate(story):
        assert seq in kept or tag in event_classes.ANALYSED


def check_snapshots(story: Story, end: Numbered) -> None:
    """Check that the state at each snapshot is the same."""
    full = [Frame(seq, *row, 0) for seq, row in enumerate(story)]
    seqs = compacted.kept_of(full)
    assert compacted.kept_of(end._frames) == seqs
    assert compacted.states_of(end._frames, seqs) == compacted.states_of(full, seqs)


def check_front(story: Story, block: list[Frame]) -> None:
    """Check that nothing is missing after the last snapshot of a block, or without a snapshot."""
    last = max((frame.seq for frame in block if frame.tag == snapshots.Snapshot.tag), default=-1)
    behind = [frame.seq for frame in block if frame.seq > last]
    assert not behind or behind == list(range(behind[0], behind[-1] + 1))


def without_numbers(host: ModelHost) -> Seen:
    """Return the complete state, with files numbered in order of appearance."""
    seen = complete_state(host)
    found = {entry.inode for tree in seen.state.files.values() for entry in tree.values()}
    for one in seen.state.descriptors.values():
        if _is_file(one.object):
            found.add(one.object[1])
    ranks = {inode: rank for rank, inode in enumerate(sorted(found))}
    files = {
        guest: {path: entry._replace(inode=ranks[entry.inode]) for path, entry in tree.items()}
        for guest, tree in seen.state.files.items()
    }
    opened = {
        fd: one._replace(object=(one.object[0], ranks[one.object[1]], *one.object[2:]))
        if _is_file(one.object)
        else one
        for fd, one in seen.state.descriptors.items()
    }
    state: ReplayState = replace(seen.state, files=files, descriptors=opened)
    return replace(seen, state=state)


def _is_file(thing: object) -> bool:
    return isinstance(thing, tuple) and isinstance(thing[0], FileType)


@given(seeds, lengths, windows)
def test_where_numbers_are_given_anew_the_state_is_the_same_but_for_them(
    seed: int, steps: int, events_max: int
) -> None:
    story = [(tag, payload, START) for tag, payload, _ in foreign(seed, steps, 9)]
    end = MemoryJournal(clock=lambda: START)
    sink = CompactingSink(end, events_max=events_max, clock=lambda: START)
    watched = Watched(end)
    for row in story:
        upto = sink.next_seq
        assert sink.append_frame(*row[:2]) == upto
        watched.take(row)
        if not len(sink):
            watched.compare(without_numbers)
    sink.flush()
    watched.compare(without_numbers)
    assert not sink.reason
    assert end.next_seq == len(story) - sink.dropped


# -- dropped events ------------------------------------------------------------------------------

BEGIN = (core.InitModule(wasm_hash=b"hash"), *TREE[:2])


def forward_windows(*windows: list[Event]) -> list[list[Event]]:
    """Return the forwarded events of each of these windows."""
    end = Numbered()
    with CompactingSink(end, clock=lambda: START) as sink:
        found = []
        for window in windows:
            upto = len(end._frames)
            for event in window:
                sink.append(event)
            sink.flush()
            found.append([codec.decode(*frame[1:3]) for frame in end._frames[upto:]])
    return found


def life_of_a_file(fd: int, name: str) -> list[Event]:
    """Create, write and remove a file."""
    return [
        open_path(fd, WEST, name, 1),
        write(fd, 0, b"contents"),
        CloseFileDescriptor(fd=fd),
        paths.UnlinkFile(fd=WEST, path=name),
    ]


def test_a_file_that_lives_in_one_window_leaves_nothing() -> None:
    last: list[Event] = [open_path(9, WEST, "stays", 1)]
    began, behind = forward_windows([*BEGIN], [*life_of_a_file(8, "goes"), *last])
    assert began == [*BEGIN]
    assert behind == last


def test_a_window_of_what_comes_and_goes_is_empty() -> None:
    opened = open_path(9, WEST, "stays", 1)
    again = open_path(8, WEST, "stays", 0)
    windows = forward_windows([*BEGIN, opened], [again, CloseFileDescriptor(fd=8)])
    assert windows[1] == []


def test_what_was_passed_on_is_ended_in_a_later_window() -> None:
    closing, unlinking = life_of_a_file(8, "file")[2:]
    windows = forward_windows([*BEGIN, *life_of_a_file(8, "file")[:2]], [closing, unlinking])
    assert windows == [[*BEGIN, *life_of_a_file(8, "file")[:2]], [closing, unlinking]]


def test_a_window_passes_on_the_last_of_many_writes_to_one_place() -> None:
    writes: list[Event] = [write(8, 0, bytes([number] * 9)) for number in range(20)]
    windows = forward_windows([*BEGIN, open_path(8, WEST, "file", 1)], writes, writes)
    assert windows[1:] == [writes[-1:], writes[-1:]]


def test_among_many_files_a_window_of_few_events_is_passed_on_whole() -> None:
    many: list[Event] = []
    for number in range(200):
        many += [open_path(8, WEST, f"{number}", 1), CloseFileDescriptor(fd=8)]
    some, few = life_of_a_file(8, "goes") * 20, life_of_a_file(8, "goes")
    windows = forward_windows([*BEGIN, *many], some, few, some, few, few, few, few, few, some)
    assert windows[2] == windows[4] == windows[8] == few
    assert windows[1] == windows[3] == windows[9] == [few[0], *few[2:]]


def test_inputs_and_unknown_events_are_passed_on() -> None:
    heard: list[Event] = [inputs.ClockRead(clock=0, time=number) for number in range(3)]
    assert forward_windows([*BEGIN], heard)[1] == heard
    end = Numbered()
    with CompactingSink(end) as sink:
        sink.append_frame(254, b"unknown")
        assert len(end._frames) == 0
    assert [frame[:3] for frame in end._frames] == [(0, 254, b"unknown")]


def test_an_unknown_kind_finds_what_it_may_need() -> None:
    end = Numbered()
    with CompactingSink(end) as sink:
        for event in (*BEGIN, *life_of_a_file(8, "file")[:3]):
            sink.append(event)
        sink.append_frame(223, b"unknown")
        sink.append(life_of_a_file(8, "file")[3])
        sink.append(open_path(9, WEST, "other", 1))
    assert sink.dropped == 0


# -- unknown events -----------------------------------------------------------------------------


def test_behind_what_cannot_be_played_all_is_passed_on() -> None:
    end = Numbered()
    sink = CompactingSink(end, clock=lambda: START)
    events = [
        *BEGIN,
        *life_of_a_file(8, "goes"),
        CloseFileDescriptor(fd=30),
        *life_of_a_file(8, "goes"),
    ]
    for event in events:
        sink.append(event)
    sink.flush()
    assert "30" in sink.reason
    for event in life_of_a_file(9, "goes, too"):
        sink.append(event)
    sink.flush()
    assert len(end._frames) == len(events) + 4
    assert sink.dropped == 0


def test_what_is_malformed_is_passed_on() -> None:
    end = Numbered()
    with CompactingSink(end) as sink:
        sink.append(BEGIN[0])
        sink.append_frame(CloseFileDescriptor.tag, b"?")
    assert sink.reason
    assert len(end._frames) == 2


def test_over_what_is_not_known_all_is_passed_on_and_what_is_told_counts(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Writer(path) as writer:
        for event in (*BEGIN, *life_of_a_file(8, "file")[:3]):
            writer.append(event)
    with Writer(path) as writer:
        sink = CompactingSink(writer)
        assert sink.reason
    again = open_path(8, WEST, "file", 1)  # The file already exists.
    with Writer(path) as writer, Reader(path) as reader:
        sink = CompactingSink(writer, before=reader, events_max=4)
        assert not sink.reason
        first = sink.next_seq
        for event in (again, CloseFileDescriptor(fd=8)):
            sink.append(event)
        sink.append(life_of_a_file(8, "file")[3])
        sink.close()
        assert sink.dropped == 2
    with Reader(path) as reader:
        assert [frame.seq for frame in reader.frames()] == [*range(first), first + 2]


def test_a_process_is_passed_on_whole_where_its_numbers_are_not_kept() -> None:
    story = history(3, 60, 15)
    end = MemoryJournal(clock=lambda: START)
    with CompactingSink(end, clock=clock_of(story)) as sink:
        for tag, payload, _ in story:
            sink.append_frame(tag, payload)
    assert "numbers" in sink.reason
    assert [frame[1:3] for frame in end._frames] == [row[:2] for row in story]


def test_files_never_take_more_room_than_they_did() -> None:
    """A truncation that a later one makes superfluous may have made space for events in between."""
    cuts = [descriptors.FileDescriptorSetSize(fd=8, st_size=size) for size in (1500, 1400)]
    other = [open_path(9, WEST, "b", 1), write(9, 0, bytes(400))]
    began: list[Event] = [*BEGIN, open_path(8, WEST, "a", 1), write(8, 0, bytes(2000))]
    assert forward_windows(began, [*cuts, *other])[1] == [cuts[1], *other]
    assert forward_windows(began, [cuts[0], *other, cuts[1]])[1] == [cuts[0], *other, cuts[1]]
    later = forward_windows(
        began, [cuts[0], *other, cuts[1]], life_of_a_file(10, "c") + life_of_a_file(10, "d")
    )[2]
    assert life_of_a_file(10, "c")[1] not in later, "room that was taken once is no matter later"


def test_what_the_host_was_asked_waits_for_its_answer_from_window_to_window() -> None:
    mount = process.Mount(fd=20, kind=process.MountKind.HOST, guest="/host", host="/h")
    asked = paths.UnlinkFile(fd=20, path="a")
    answered = host_result(HostCall.UNLINK, 20, b"")
    assert forward_windows([*BEGIN, mount, asked], [answered]) == [
        [*BEGIN, mount, asked],
        [answered],
    ]


# -- composed -------------------------------------------------------------------------------------

LAYERS: dict[str, Callable[[Sink], Sink]] = {
    "counting": CountingSink,
    "filtered": lambda inner: FilteredSink(inner, range(1, 255)),
    "transaction": Transaction,
    "consistent": AutoClose,
    "compacting": lambda inner: CompactingSink(inner, events_max=5, clock=lambda: START),
}


@given(seeds, lengths, *[st.lists(st.sampled_from(sorted(LAYERS)), max_size=3)] * 2)
def test_it_fits_in_front_of_and_behind_any_other(
    seed: int, steps: int, outer: list[str], inner: list[str]
) -> None:
    story = [(tag, payload, START) for tag, payload, _ in foreign(seed, steps, 9)]
    end = MemoryJournal(clock=lambda: START)
    sink: Sink = end
    layers = []
    for layer in (*inner, "compacting", *outer):
        sink = LAYERS[layer](sink)
        layers.append(sink)
    watched = Watched(end)
    for row in story:
        sink.append_frame(*row[:2])
        watched.take(row)
    for one in reversed(layers):
        if isinstance(one, Transaction):
            one.commit()
        else:
            one.flush()
    watched.compare(without_numbers)


def test_what_is_filtered_in_front_of_it_is_not_judged() -> None:
    end = MemoryJournal()
    sink = FilteredSink(CompactingSink(end), lambda tag, _: tag != FileDescriptorWrite.tag)
    for event in (*BEGIN, *life_of_a_file(8, "file")[:2], write(8, 0, b"more")):
        sink.append(event)
    sink.flush()
    assert FileDescriptorWrite.tag not in [frame.tag for frame in end.frames()]
    assert end.next_seq == len(BEGIN) + 1


def fail_in(sink: CompactingSink) -> None:
    with sink:
        raise ZeroDivisionError


def test_a_rolled_back_transaction_passes_nothing_on() -> None:
    end = MemoryJournal()
    sink = CompactingSink(Transaction(end))
    sink.append(BEGIN[0])
    sink.flush()
    with pytest.raises(ZeroDivisionError):
        fail_in(sink)
    assert end.next_seq == 0


def test_it_passes_on_into_a_pipe() -> None:
    sink, source = pipe()
    story = [(event.tag, codec.encode(event)) for event in [*BEGIN, open_path(8, WEST, "a", 1)]]
    with CompactingSink(sink) as compacting:
        for row in story:
            compacting.append_frame(*row)
    assert [frame[1:3] for frame in source.frames()] == story


# -- limits and failures --------------------------------------------------------------------------


def test_a_window_is_full_by_its_events_or_its_bytes() -> None:
    end = Numbered()
    sink = CompactingSink(end, events_max=3, size_max=1000)
    for _ in range(2):
        sink.append_frame(254, b"")
    assert (len(sink), end.next_seq) == (2, 0)
    sink.append_frame(254, b"")
    assert (len(sink), end.next_seq) == (0, 3)
    sink.append_frame(254, bytes(600))
    sink.append_frame(254, bytes(600))
    assert (len(sink), end.next_seq) == (1, 4)
    sink.append_frame(254, bytes(5000))
    sink.append_frame(254, b"")
    assert (len(sink), end.next_seq) == (1, 6)
    sink.flush()


@pytest.mark.parametrize(
    "wanted",
    [
        {"events_max": 0},
        {"events_max": WINDOW_EVENTS_MAX + 1},
        {"size_max": 0},
        {"size_max": WINDOW_SIZE_MAX + 1},
    ],
    ids=str,
)
def test_a_window_of_no_size_is_refused(wanted: dict[str, int]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(wanted))} must be an integer from 1 to"):
        CompactingSink(NullJournal(), **wanted)  # type: ignore[arg-type]


@pytest.mark.deep
def test_the_largest_window_fits_in_a_block(tmp_path: Path) -> None:
    with Writer(tmp_path / "journal") as writer:
        with pytest.raises(LimitExceeded):
            CompactingSink(writer).append_frame(254, bytes(WINDOW_SIZE_MAX + 1))
        sink = CompactingSink(writer, events_max=WINDOW_EVENTS_MAX, size_max=WINDOW_SIZE_MAX)
        sink.append_frame(254, bytes(WINDOW_SIZE_MAX))
        for _ in range(WINDOW_EVENTS_MAX + 1):
            sink.append_frame(254, b"")
        sink.flush()
        assert writer.next_seq == WINDOW_EVENTS_MAX + 2


def test_events_hours_apart_are_in_two_blocks() -> None:
    times = iter([0, 1 << 31, 1 << 33])
    end = Numbered()
    with CompactingSink(end, clock=times.__next__) as sink:
        for _ in range(3):
            sink.append_frame(254, b"")
    assert [len(block) for block in end.blocks] == [2, 1]


class Refusing(MemoryJournal):
    """Rejects one event, after a given number of events."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def append_frame(self, tag: int, payload: bytes) -> int:
        if self.next_seq == self.after:
            self.after = -1
            raise LimitExceeded("not now")
        return super().append_frame(tag, payload)


def test_what_could_not_be_passed_on_is_still_held() -> None:
    end = Refusing(after=2)
    sink = CompactingSink(end)
    for number in range(4):
        sink.append_frame(254, bytes([number]))
    with pytest.raises(LimitExceeded):
        sink.flush()
    assert (len(sink), sink.next_seq) == (2, 4)
    sink.append_frame(254, b"\4")
    sink.flush()
    assert [frame.payload for frame in end.frames()] == [bytes([number]) for number in range(5)]


def test_what_sync_has_returned_from_is_durable(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Writer(path) as writer, CompactingSink(writer) as sink:
        for event in (*BEGIN, *life_of_a_file(8, "goes"), open_path(9, WEST, "stays", 1)):
            last = sink.append(event)
        assert writer.next_seq == 0
        sink.sync()
        assert writer.durable_upto == last + 1
        with Reader(path) as reader:
            assert [frame.seq for frame in reader.frames()] == [*range(len(BEGIN)), last]
            assert not reader.summary().damage
            assert not list(reader.verify())


def test_a_block_is_a_window_so_that_a_torn_one_takes_it_away_whole(tmp_path: Path) -> None:
    path, story = tmp_path / "journal", foreign(11, 300, 9)
    with Writer(path) as writer:
        sink = CompactingSink(writer, events_max=40, clock=clock_of(story))
        for tag, payload, _ in story:
            sink.append_frame(tag, payload)
        sink.close()
    frames = [Frame(seq, *row, 0) for seq, row in enumerate(story)]
    whole = path.read_bytes()
    seen: set[int] = set()
    for size in range(0, len(whole), 97):
        torn = tmp_path / "torn"
        torn.write_bytes(whole[:size])
        try:
            with Reader(torn) as reader:
                left = [frame._replace(offset=0) for frame in reader.frames()]
        except journal.JournalError:
            continue
        if left and left[-1].seq not in seen:
            seen.add(left[-1].seq)
            window = min((left[-1].seq // 40 + 1) * 40, len(frames)) - 1
            assert (
                compacted.states_of(left, [])[-1]
                == compacted.states_of(frames[: window + 1], [])[-1]
            )
    assert len(seen) > 3


# -- memory ---------------------------------------------------------------------------------------

EVENTS = 1_000_000


def log_lines(count: int) -> Iterator[Event]:
    """A guest that forever writes log files, renames them, and writes into a pipe."""
    yield from BEGIN
    yield open_path(8, WEST, "log", 1)
    yield descriptors.CreatePipe(read_fd=10, write_fd=11)
    offset, lines = 0, 0
    while lines < count:
        lines += 1
        yield write(8, offset, b"a line of it")
        yield write(11, 0, b"a line of it")
        offset += 12
        if not lines % 100_000:
            yield CloseFileDescriptor(fd=8)
            yield paths.PathRename(old_fd=WEST, new_fd=WEST, old_path="log", new_path="old")
            yield open_path(8, WEST, "log", 1)
            offset = 0


def read_memory_size() -> int:
    """Return the memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.deep
def test_memory_is_bounded_over_a_million_events() -> None:
    sizes = []
    with CompactingSink(NullJournal(), events_max=1000) as sink:
        for at, event in enumerate(log_lines(EVENTS // 2)):
            sink.append(event)
            if at in (EVENTS // 10, EVENTS - 1):
                gc.collect()
                sizes.append(read_memory_size())
    assert not sink.reason
    assert sink.next_seq >= EVENTS
    assert sizes[1] - sizes[0] < 4 << 20


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 60)), max_size=40),
    st.integers(0, 50),
)
def test_settled_owners_are_one_and_cover_what_they_did(
    steps: list[tuple[bool, int, int]], upto: int
) -> None:
    spans, settled = IntervalMap(), IntervalMap()
    for seq, (cuts, start, size) in enumerate(steps):
        for one in (spans, settled):
            if cuts:
                one.truncate(start, seq)
            else:
                one.put(start, start + size, seq)
        if seq == upto:
            settled.settle_before(seq + 1)
    parts = {at: owner for at, owner in owned(spans)}
    for at, owner in owned(settled):
        before = parts[at]
        assert owner == before or (owner == 0 and 0 <= before <= upto)
    assert settled.last_truncation == spans.last_truncation or (
        settled.last_truncation,
        spans.last_truncation <= upto,
    ) == (
        0,
        True,
    )


def owned(spans: IntervalMap) -> Iterator[tuple[int, int]]:
    parts = [*spans.intervals(200), (200, -1)]
    for (start, owner), (stop, _) in pairwise(parts):
        for at in range(start, stop):
            yield at, owner


# -- recorded -------------------------------------------------------------------------------------

RECORDED = [one for one in SNAPSHOT_GUESTS if one.title in ("descriptors in memory", "deep")]


@pytest.mark.parametrize("one", RECORDED, ids=str)
def test_a_recorded_journal_copied_through_it_plays_and_goes_on_as_before(
    one: Any, tmp_path: Path, cache_dir: Path
) -> None:
    path, target = tmp_path / "run.journal", tmp_path / "copy.journal"
    plain_run, _ = record_often(one, path, cache_dir)
    with Reader(path) as reader:
        frames = list(reader.frames())
        times = iter([frame.time for frame in frames])
        with CompactingSink(
            Writer(target, journal_id=reader.journal_id), clock=times.__next__
        ) as sink:
            assert copy(reader, sink) == len(frames)
        assert not sink.reason
        seqs = compacted.kept_of(frames)
    after = compacted.frames_of(target)
    assert compacted.kept_of(after) == seqs
    assert compacted.states_of(after, seqs) == compacted.states_of(frames, seqs)
    assert resume_guest(one, target, cache_dir, at=seqs[-1]) == plain_run
    if one.memory:
        assert sink.dropped

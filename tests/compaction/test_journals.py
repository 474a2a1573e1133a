"""Compaction of all sorts of journals: refusals, kept events, and pages."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import journal
from journal import Event, FormatError, OptionError, Reader, Writer
from journal.compaction import RetentionPolicy, compact
from journal.compaction.merge import snapshot_merge as runs
from journal.engine import RecordingLevel
from journal.events import codec, inputs, snapshots, threads
from journal.events.definition import field_dict
from journal.events.descriptors import FileDescriptorSetSize
from journal.events.memory import PAGE_SIZE, MemoryPages
from journal.events.snapshots import SafePoint, Trigger
from journal.events.streams import StreamWrite
from journal.log import RollPolicy
from journal.pages.encoding import ZERO_PAGE, ChangedPage, encode_pages
from tests.support.compaction_histories import (
    START,
    History,
    check,
    foreign,
    frames_of,
    histories,
    history,
    policies,
    preamble,
    write_events,
    write_story,
)
from tests.support.forged_journals import Forge
from tests.support.sample_events import (
    CODE,
    close,
    mkdir,
    open_path,
    pages_event,
    region,
    thread,
    unlink,
    whole_snapshot,
    write,
)

seeds, lengths = st.integers(0, 1 << 32), st.integers(0, 200)

# -- every sort -----------------------------------------------------------------------------------


@given(seeds, lengths, policies)
@example(seed=810, steps=195, policy=RetentionPolicy(keep_every=7))
def test_a_compacted_journal_of_another_runtime_plays_to_the_same_states(
    seed: int, steps: int, policy: RetentionPolicy
) -> None:
    with TemporaryDirectory() as name:
        source = write_story(Path(name) / "source", foreign(seed, steps, 9))
        check(source, Path(name) / "target", policy)
        again = check(Path(name) / "target", Path(name) / "again", policy)
        assert again.kept_events == again.events


@given(seeds, lengths, policies)
def test_a_compacted_journal_without_inputs_plays_to_the_same_states(
    seed: int, steps: int, policy: RetentionPolicy
) -> None:
    with TemporaryDirectory() as name:
        source = write_story(Path(name) / "source", history(seed, steps, 15, RecordingLevel.STATE))
        check(source, Path(name) / "target", policy)


@example(
    History(754, 176, 15), RetentionPolicy(3, 34), RetentionPolicy(3)
)  # other events between a snapshot's parts
@settings(max_examples=10)
@given(histories, policies, policies)
def test_what_was_compacted_can_be_compacted_by_another_policy(
    made: History, first: RetentionPolicy, second: RetentionPolicy
) -> None:
    with TemporaryDirectory() as name:
        source = write_story(Path(name) / "source", made.story)
        check(source, Path(name) / "target", first)
        check(Path(name) / "target", Path(name) / "again", second)


def test_a_directory_of_segments_becomes_one_file(tmp_path: Path) -> None:
    clock = iter(range(START, 1 << 62)).__next__
    with Writer(tmp_path / "source", roll=RollPolicy(1 << 9), clock=clock) as writer:
        for tag, payload, _ in history(1, 100, 15):
            writer.append_frame(tag, payload)
            writer.sync()
    assert len(list((tmp_path / "source").iterdir())) > 9
    found = check(tmp_path / "source", tmp_path / "target", RetentionPolicy())
    assert found.kept_events < found.events
    assert (tmp_path / "target").is_file()


def test_a_journal_without_events_stays_without(tmp_path: Path) -> None:
    Writer(tmp_path / "source").close()
    found = compact(tmp_path / "source", tmp_path / "target")
    assert (found.events, found.kinds, found.snapshots, found.reason) == (0, (), (), "")
    assert frames_of(tmp_path / "target") == []
    with Reader(tmp_path / "source") as source, Reader(tmp_path / "target") as target:
        assert source.journal_id == target.journal_id


@pytest.mark.parametrize(
    ("events", "why"),
    [
        (preamble(), "the journal has no snapshot"),
        ([*preamble(), inputs.ClockRead(clock=0, time=1), mkdir("a"), mkdir("b")], "no snapshot"),
        (
            [*preamble()[:1], *preamble()[2:], *whole_snapshot()],
            "the journal does not contain the code of snapshot 9",
        ),
        (
            [*preamble(), *whole_snapshot()[:3], *whole_snapshot()[4:]],
            "snapshot 9 cannot be resumed",
        ),
    ],
)
def test_nothing_is_dropped_from_a_run_that_is_executed_again(
    tmp_path: Path, events: list[Event], why: str
) -> None:
    source = write_events(tmp_path / "source", events)
    found = compact(source, tmp_path / "target")
    assert found.reason.startswith(
        "nothing can be dropped: the guest is executed again from its start"
    )
    assert why in found.reason
    assert found.upto == 0
    assert frames_of(tmp_path / "target") == frames_of(source)


def test_what_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    source = write_story(tmp_path / "source", history(5, 120, 15))
    data = source.read_bytes()
    for cut in (1, 100, 200):
        source.write_bytes(data[: len(data) - 600 - cut])
        with Reader(source) as reader:
            assert reader.torn_size
        check(source, tmp_path / f"target{cut}", RetentionPolicy())


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    source = write_story(tmp_path / "source", history(5, 120, 15))
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 1
    source.write_bytes(data)
    with pytest.raises(FormatError, match="at offset"):
        compact(source, tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
    with pytest.raises(OptionError, match="is also a source"):
        compact(source, source)
    (tmp_path / "empty").touch()
    with pytest.raises(journal.NotAJournal):
        compact(tmp_path / "empty", tmp_path / "target")


def test_numbers_that_were_lost_before_stay_lost(tmp_path: Path) -> None:
    forge = Forge()
    story = [
        (event.tag, codec.encode(event)) for event in [*preamble(), mkdir("a"), *whole_snapshot()]
    ]
    seqs = [7 + 3 * at for at in range(len(story))]
    forge.add(*story[:3], numbers=seqs[:3])
    forge.add(*story[3:], numbers=seqs[3:])
    source = forge.write(tmp_path / "source")
    found = check(source, tmp_path / "target", RetentionPolicy())
    assert found.kept_events == len(story)


def test_nothing_is_written_when_it_is_only_asked_for(tmp_path: Path) -> None:
    source = write_story(tmp_path / "source", history(5, 200, 15))
    found = compact(source, tmp_path / "target", dry_run=True)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert found == compact(source, tmp_path / "target")
    assert found.dropped_snapshots


def test_progress_is_told(tmp_path: Path) -> None:
    source = write_story(tmp_path / "source", history(5, 200, 15))
    told: list[tuple[str, int, int]] = []
    compact(source, tmp_path / "target", progress=lambda *what: told.append(what))
    steps = ["scanning", "analysing", "merging", "writing"]
    assert list(dict.fromkeys(what for what, _, _ in told)) == steps
    assert all(0 < done <= size for _, done, size in told)


# -- unknown kinds --------------------------------------------------------------------------------


def test_events_of_unknown_kinds_stay_and_so_does_what_they_may_need(tmp_path: Path) -> None:
    made = [open_path(5, 3, "a", 1), write(5, 0, b"abc"), close(5), unlink("a")]
    begin = [*preamble(), *whole_snapshot(), inputs.RandomBytes(data=b"x"), *made[:3]]
    story = [(event.tag, codec.encode(event), START) for event in begin]
    strange = [(222, b"of a later version", START), (254, b"", START)]
    rest = [made[3], mkdir("b"), *whole_snapshot()]
    story += [*strange, *((event.tag, codec.encode(event), START) for event in rest)]
    source = write_story(tmp_path / "source", story)
    found = compact(source, tmp_path / "target")
    at = len(begin)
    why = f"snapshots are kept unmerged: event {at} has the unknown tag 222"
    assert found.reason == why
    assert not found.dropped_snapshots
    stays = frames_of(tmp_path / "target")
    assert stays == frames_of(source), "the file might be read there"
    assert [(kind.tag, kind.name) for kind in found.kinds if not kind.name] == [
        (222, ""),
        (254, ""),
    ]


def test_behind_the_newest_snapshot_an_unknown_kind_hinders_nothing(tmp_path: Path) -> None:
    events = [*preamble(), *whole_snapshot(), mkdir("a"), unlink("b")][:-1]
    told = [inputs.RandomBytes(data=b"x"), *whole_snapshot()]
    story = [(event.tag, codec.encode(event), START) for event in [*events, *told]]
    source = write_story(tmp_path / "source", [*story, (222, b"later", START)])
    found = compact(source, tmp_path / "target")
    assert not found.reason
    assert len(found.dropped_snapshots) == 1
    assert frames_of(tmp_path / "target")[-1].payload == b"later"


# -- pages ----------------------------------------------------------------------------------------


def page(number: int, version: int) -> bytes:
    return (b"%d %d " % (number, version)).ljust(PAGE_SIZE, b".")


def pages_in(path: Path) -> list[MemoryPages]:
    found = [codec.decode(frame.tag, frame.payload) for frame in frames_of(path)]
    return [event for event in found if isinstance(event, MemoryPages)]


def snapshot_of_pages(pages: list[ChangedPage], size: int, *, whole: bool) -> list[Event]:
    """Return a snapshot that changes pages."""
    point = SafePoint(calls=1, monotonic=2, code=CODE, whole=whole, entry="_start", function="f")
    rest: list[Event] = [threads.GlobalsSet(globals=()), thread(0)]
    rest.append(snapshots.DescriptorPositions(positions=(), free=()))
    closing = snapshots.Snapshot(when=0, trigger=Trigger.EXPLICIT)
    return [point, *encode_pages(0, size, pages), *rest, closing]


def test_pages_are_told_once_and_zeros_not_at_all(tmp_path: Path) -> None:
    size = 64 * PAGE_SIZE
    events = preamble()
    events += snapshot_of_pages(
        [ChangedPage(n, page(n, 0), ZERO_PAGE) for n in range(50)], size, whole=True
    )
    for version in range(1, 9):
        pages = [ChangedPage(n, page(n, version), page(n, version - 1)) for n in range(10, 14)]
        events += snapshot_of_pages(pages, size, whole=False)
    events += snapshot_of_pages([ChangedPage(0, ZERO_PAGE, page(0, 0))], size, whole=False)
    source = write_events(tmp_path / "source", events)
    check(source, tmp_path / "target", RetentionPolicy())
    merged = pages_in(tmp_path / "target")
    assert [number for event in merged for number in event.numbers] == list(range(1, 50))
    assert b"".join(event.kinds for event in merged) == b"\1" * 49
    assert max(len(event.numbers) for event in merged) == 16, "so that damage is small"
    check(source, tmp_path / "two", RetentionPolicy(keep_last=2))
    merged = pages_in(tmp_path / "two")
    assert [event.numbers for event in merged][-1] == (0,)
    assert merged[-1].kinds == b"\0"
    check(source, tmp_path / "three", RetentionPolicy(keep_last=5))
    patches = [event for event in pages_in(tmp_path / "three") if b"\2" in event.kinds]
    assert patches
    assert all(len(event.data) < PAGE_SIZE for event in patches)


def test_where_there_are_few_numbers_events_are_larger(tmp_path: Path) -> None:
    size = 256 * PAGE_SIZE
    events = preamble()
    events += snapshot_of_pages(
        [ChangedPage(n, page(n, 0), ZERO_PAGE) for n in range(200)], size, whole=True
    )
    events += [StreamWrite(stream=1, offset=0, data=b"it stays, and its number too")]
    events += snapshot_of_pages([ChangedPage(7, page(7, 1), page(7, 0))], size, whole=False)
    source = write_events(tmp_path / "source", events)
    check(source, tmp_path / "target", RetentionPolicy())
    (merged,) = pages_in(tmp_path / "target")
    assert merged.numbers == tuple(range(200))


def test_where_there_are_too_few_numbers_those_in_front_of_what_stays_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PAGES_MAX", 32)
    size = 256 * PAGE_SIZE
    events = preamble()
    events += snapshot_of_pages(
        [ChangedPage(n, page(n, 0), ZERO_PAGE) for n in range(200)], size, whole=True
    )
    for n in range(3):
        events += [StreamWrite(stream=1, offset=2 * n, data=b"it"), inputs.RandomBytes(data=b"x")]
    events += snapshot_of_pages([ChangedPage(7, page(7, 1), page(7, 0))], size, whole=False)
    source = write_events(tmp_path / "source", events)
    found = check(source, tmp_path / "target", RetentionPolicy())
    merged = pages_in(tmp_path / "target")
    assert [len(event.numbers) for event in merged] == [32] * 6 + [8]
    with Reader(tmp_path / "target") as reader:
        (info,) = journal.list_snapshots(reader)
        assert info.resumable
        assert [info.seq] == list(found.snapshots)
    assert compact(tmp_path / "target", tmp_path / "again").kept_events == found.kept_events


def test_where_no_numbers_are_left_snapshots_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PAGES_MAX", 16)
    events = preamble()
    pages = [ChangedPage(n, page(n, 0), ZERO_PAGE) for n in range(200)]
    one = MemoryPages(
        memory=0,
        size=256 * PAGE_SIZE,
        numbers=tuple(range(200)),
        kinds=b"\1" * 200,
        data=b"".join(found.now for found in pages),
    )
    plain = snapshot_of_pages([], 256 * PAGE_SIZE, whole=True)
    events += [plain[0], one, *plain[2:]]
    events += snapshot_of_pages(
        [ChangedPage(7, page(7, 1), page(7, 0))], 256 * PAGE_SIZE, whole=False
    )
    source = write_events(tmp_path / "source", events)
    found = check(source, tmp_path / "target", RetentionPolicy())
    why = "snapshots are kept unmerged: the pages of a snapshot need 13 sequence numbers"
    assert why in found.reason
    assert not found.dropped_snapshots


@pytest.mark.parametrize(
    "strange",
    [
        [region(0, b"a region"), snapshots.Snapshot(when=0, trigger=Trigger.EXPLICIT)],
        [snapshots.Snapshot(when=0, trigger=Trigger.EXPLICIT)],
        [threads.CloseThread(id=1, exit_code=0)],
    ],
)
def test_snapshots_of_two_runtimes_stay_as_they_are(tmp_path: Path, strange: list[Event]) -> None:
    events = [
        *preamble(),
        *whole_snapshot(),
        *strange,
        inputs.RandomBytes(data=b"x"),
        *whole_snapshot(),
    ]
    source = write_events(tmp_path / "source", events)
    found = check(source, tmp_path / "target", RetentionPolicy())
    assert found.reason.startswith("snapshots are kept unmerged: ")
    assert not found.dropped_snapshots
    assert found.events - found.kept_events == 1, "what the guest was told goes all the same"


def test_a_position_that_only_a_dropped_snapshot_tells_keeps_it(tmp_path: Path) -> None:
    first, last = whole_snapshot((5, 7)), whole_snapshot()
    events = [*preamble(), open_path(5, 3, "a", 1), *first, *last]
    source = write_events(tmp_path / "source", events)
    found = check(source, tmp_path / "target", RetentionPolicy())
    assert "a kept event depends on a dropped event" in found.reason
    assert len(found.snapshots) == 2


def test_inputs_before_a_snapshot_that_cannot_be_resumed_stay(tmp_path: Path) -> None:
    """The journal is a part of another one, without its preamble."""
    heard = [inputs.ClockRead(clock=0, time=number) for number in range(9)]
    first, (point, *_, closing) = whole_snapshot(), whole_snapshot()
    assert isinstance(point, SafePoint)
    second = [SafePoint(**field_dict(point) | {"whole": False}), closing]
    source = write_events(tmp_path / "source", [*first, *heard, *second])
    found = check(source, tmp_path / "target", RetentionPolicy())
    assert len(found.dropped_snapshots) == 1
    kept = {one.seq for one in frames_of(tmp_path / "target")}
    assert kept >= set(range(len(first), len(first) + len(heard)))


def test_files_never_take_more_room_than_they_did(tmp_path: Path) -> None:
    """A truncation made superfluous by a later one may have made space for events between them."""
    events: list[Event] = [*preamble(), open_path(5, 3, "a", 1), write(5, 0, b"a" * 2000)]
    cuts = [FileDescriptorSetSize(fd=5, st_size=size) for size in (1500, 1400)]
    other = [open_path(6, 3, "b", 1), write(6, 0, b"b" * 400)]
    source = write_events(
        tmp_path / "plenty", [*events, cuts[0], *cuts[1:], *other, *whole_snapshot()]
    )
    assert check(source, tmp_path / "a", RetentionPolicy()).reason == ""
    source = write_events(
        tmp_path / "source", [*events, cuts[0], *other, cuts[1], *whole_snapshot()]
    )
    found = check(source, tmp_path / "b", RetentionPolicy())
    assert "files would at times need more space than before" in found.reason
    assert found.kept_events == found.events


def test_pages_of_no_memory_are_left_as_they_are(tmp_path: Path) -> None:
    broken = pages_event(1 << 16, numbers=(20,), kinds=b"\1", data=bytes(PAGE_SIZE))
    first = whole_snapshot()
    events = [*preamble(), first[0], broken, *first[2:], *whole_snapshot()]
    source = write_events(tmp_path / "source", events)
    found = compact(source, tmp_path / "target")
    assert not found.reason, "a whole one stands behind it"
    events = [*preamble(), *first[:1], broken, *first[2:]]
    point = SafePoint(calls=1, monotonic=2, code=CODE, whole=False, entry="_start", function="f")
    source = write_events(tmp_path / "other", [*events, point, *whole_snapshot()[1:]])
    found = compact(source, tmp_path / "others")
    assert "page 20 is outside a memory of 16 pages" in found.reason
    assert frames_of(tmp_path / "others") == frames_of(source)

"""Split and cut: each part is a journal, and the joined parts equal the source."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal import (
    CorruptBlock,
    EngineError,
    Frame,
    NotAJournal,
    OptionError,
    Reader,
    Writer,
    concat,
    play,
)
from journal.events.process import ModulePart, ProcessStart
from journal.events.snapshots import Snapshot
from journal.format.block import BLOCK_HEADER_SIZE
from journal.log import RollPolicy
from journal.operations.split import cut, split
from journal.operations.verify import Verifier
from journal.replay import ModelHost
from journal.rewrite.block_builder import BlockBuilder
from tests.support.guest_runs import wait_for_end
from tests.support.journals import write_stories
from tests.support.worker_journal import ORDERS, recorded, snapshot_seqs

__all__ = ["recorded"]

#: A journal as runs of events: the gap before each run and the tags. Tag 59 is a snapshot.
runs = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 50]),
        st.lists(st.sampled_from([1, 2, 3, Snapshot.tag]), min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=5,
)


def write_journal(path: Path, story: list[tuple[int, list[int]]], first_seq: int = 0) -> None:
    """Write a journal with gaps between its runs; each run has blocks of its own."""
    with Writer(path, first_seq=first_seq) as writer:
        builder, seq = BlockBuilder(writer), first_seq
        for gap, tags in story:
            seq += gap
            for tag in tags:
                builder.add(seq, tag, bytes([seq % 251]) * 40, 1_000_000 + 3 * seq)
                seq += 1
            builder.flush()


def frames_of(path: Path) -> list[Frame]:
    with Reader(path) as reader:
        return [frame._replace(offset=0) for frame in reader.frames()]


def check_whole(path: Path) -> None:
    assert list(Verifier(path, decode=False).run()) == []


@given(
    runs,
    st.integers(0, 9),
    st.lists(st.integers(0, 130), max_size=3),
    st.booleans(),
    st.none() | st.integers(1, 900),
)
def test_joined_parts_have_the_same_frames(
    story: list[tuple[int, list[int]]],
    first_seq: int,
    at: list[int],
    snapshots: bool,
    size: int | None,
) -> None:
    with TemporaryDirectory() as name:
        whole, folder = Path(name) / "whole.journal", Path(name) / "parts"
        write_journal(whole, story, first_seq)
        frames = frames_of(whole)
        at = [seq for seq in at if frames[0].seq < seq <= frames[-1].seq]
        if not (at or snapshots or size):
            return
        found = split(whole, folder, at=at, snapshots=snapshots, size=size)
        paths = [part.path for part in found.parts]
        assert sorted(folder.iterdir()) == paths
        concat(paths, Path(name) / "joined")
        assert frames_of(Path(name) / "joined") == frames
        (Path(name) / "cat").write_bytes(b"".join(path.read_bytes() for path in paths))
        assert frames_of(Path(name) / "cat") == frames
        parts = [frames_of(path) for path in paths]
        assert list(chain.from_iterable(parts)) == frames, (
            "each part stores its sequence numbers and times"
        )
        for part, part_frames in zip(found.parts, parts, strict=True):
            check_whole(part.path)
            assert (part.first_seq, part.last_seq) == (part_frames[0].seq, part_frames[-1].seq)
            assert part.events == len(part_frames)
            assert part.size == part.path.stat().st_size
            if snapshots:
                assert all(frame.tag != Snapshot.tag for frame in part_frames[:-1])
        assert all(any(seq <= part.first_seq for part in found.parts) for seq in at)
        if not (snapshots or size):
            assert len(parts) == 1 + len({sum(frame.seq < seq for frame in frames) for seq in at})


@given(runs, st.integers(0, 9), st.data())
def test_a_cut_has_the_frames_up_to_its_event(
    story: list[tuple[int, list[int]]], first_seq: int, data: st.DataObject
) -> None:
    with TemporaryDirectory() as name:
        whole, target = Path(name) / "whole", Path(name) / "cut"
        write_journal(whole, story, first_seq)
        frames = frames_of(whole)
        at = data.draw(st.sampled_from(frames)).seq
        found = cut(whole, target, at=at)
        assert frames_of(target) == [frame for frame in frames if frame.seq <= at]
        assert (found.events, found.last_seq) == (len(frames_of(target)), at)
        check_whole(target)
        with Reader(whole) as before, Reader(target) as after:
            assert before.journal_id == after.journal_id == found.journal_id


def test_parts_of_a_size_are_not_larger(tmp_path: Path) -> None:
    with Writer(tmp_path / "day.journal", compress=False, roll=RollPolicy(1 << 20)) as writer:
        for number in range(1000):
            writer.append_frame(1, number.to_bytes(2, "big") * 2000)
    found = split(tmp_path / "day.journal", tmp_path / "parts", size=1 << 18)
    assert [part.path.name for part in found.parts][:2] == [
        "day.000000.journal",
        "day.000001.journal",
    ]
    assert len(found.parts) == 20
    assert all(part.size <= 1 << 18 for part in found.parts)
    assert min(part.size for part in found.parts[:-1]) > 1 << 17
    assert found.events == 1000


def test_a_part_can_be_continued(tmp_path: Path) -> None:
    write_stories(tmp_path / "a", [(1, b"x"), (2, b"y"), (3, b"z")])
    split(tmp_path / "a", tmp_path / "parts", at=[1])
    last = tmp_path / "parts" / "a.000001.journal"
    with Writer(last) as writer:
        assert writer.append_frame(4, b"more") == 3
    assert [frame.seq for frame in frames_of(last)] == [1, 2, 3]
    with Reader(last) as reader:
        assert reader.frame(2).payload == b"z"
        assert [frame.seq for frame in reader.backward()] == [3, 2, 1]


def test_an_impossible_split_or_cut_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "parts"
    write_stories(source, [(1, b"x"), (2, b"y")])
    for options in ({"at": [0]}, {"at": [2]}, {"at": [1, 99]}, {"size": 0}, {}):
        with pytest.raises(OptionError):
            split(source, target, **options)
    with pytest.raises(OptionError, match="has no ProcessStart event"):
        split(source, target, at=[1], self_contained=True)
    with pytest.raises(OptionError, match="has no event 7"):
        cut(source, target, at=7)
    with pytest.raises(OptionError):
        cut(source, source, at=0)
    with Writer(tmp_path / "empty"):
        pass
    with pytest.raises(OptionError):
        split(tmp_path / "empty", target, size=1)
    with pytest.raises(OptionError):
        cut(tmp_path / "empty", target, at=0)
    (tmp_path / "gif").write_bytes(b"GIF89a" * 100)
    with pytest.raises(NotAJournal):
        split(tmp_path / "gif", target, at=[1])
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "empty", "gif"]
    target.mkdir()
    with pytest.raises(OptionError, match="already exists"):
        split(source, target, at=[1])


def test_damage_is_refused_and_the_part_before_it_can_be_cut_off(tmp_path: Path) -> None:
    source = tmp_path / "a"
    data = bytearray(write_stories(source, [(1, b"x")], [(2, b"y")], [(3, b"z")]))
    with Reader(source) as reader:
        block = list(reader.blocks())[1]
    data[block.offset + BLOCK_HEADER_SIZE] ^= 0xFF
    source.write_bytes(data)
    with pytest.raises(journal.LostAcknowledged, match=r"of .*/a$"):
        split(source, tmp_path / "parts", at=[2])
    with pytest.raises((CorruptBlock, journal.LostAcknowledged)):
        cut(source, tmp_path / "b", at=2)
    assert cut(source, tmp_path / "b", at=0).events == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "b"]


# -- journals of processes --------------------------------------------------------------------


def test_a_journal_cut_at_a_snapshot_resumes_like_the_whole_journal(
    recorded: Path, tmp_path: Path, cache_dir: Path
) -> None:
    with journal.resume(recorded, cache=cache_dir) as recorder:
        expected = wait_for_end(recorder), recorder.stdout
    numbers = snapshot_seqs(recorded)
    assert len(numbers) > 2
    for seq in numbers[:: max(1, len(numbers) // 3)]:
        path = tmp_path / f"{seq}.journal"
        cut(recorded, path, at=seq)
        with journal.resume(path, stdin=ORDERS, cache=cache_dir) as recorder:
            assert not recorder.ended_before
            found = wait_for_end(recorder), recorder.stdout
            assert found == expected


def test_a_journal_split_at_snapshots_and_joined_has_the_same_states(
    recorded: Path, tmp_path: Path
) -> None:
    found = split(recorded, tmp_path / "parts", snapshots=True)
    numbers = snapshot_seqs(recorded)
    assert [part.last_seq for part in found.parts[: len(numbers)]] == numbers
    concat([part.path for part in found.parts], tmp_path / "joined")
    for seq in [*numbers, None]:
        states = []
        for path in (recorded, tmp_path / "joined"):
            host = ModelHost()
            with Reader(path) as reader:
                play(reader.frames(), host, upto=None if seq is None else seq + 1)
            states.append(host.state())
        assert states[0] == states[1]


def test_a_self_contained_part_has_the_preamble_and_cannot_be_resumed(
    recorded: Path, tmp_path: Path, cache_dir: Path
) -> None:
    found = split(recorded, tmp_path / "parts", snapshots=True, self_contained=True)
    whole = {frame.seq: frame for frame in frames_of(recorded)}
    first, *others = found.parts
    assert frames_of(first.path)[0] == whole[0]
    assert others
    for part in others:
        frames = frames_of(part.path)
        start, *rest = frames
        assert start.tag == ProcessStart.tag
        assert all(frame == whole[frame.seq] for frame in rest)
        assert any(frame.tag == ModulePart.tag for frame in rest)
        assert [frame.seq for frame in frames if frame.seq >= part.first_seq] == [
            seq for seq in whole if part.first_seq <= seq <= part.last_seq
        ]
        with Reader(part.path) as reader:
            infos = list(journal.list_snapshots(reader))
        assert not any(info.resumable for info in infos)
        with pytest.raises(EngineError, match=f"without the events before event {part.first_seq}"):
            journal.resume(part.path, cache=cache_dir)

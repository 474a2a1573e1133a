"""Random access to events: by sequence number, time and tag, and from the end."""

import errno
import os
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal import Frame, Reader, Writer
from journal.errors import CorruptBlock, LostAcknowledged, MissingEvents
from journal.format import segment_index
from journal.log import RecoveryMode, RollPolicy, segment_files
from tests.support.journals import make_clock

COUNT = 3000
TAGS = (1, 2, 70)


def write(
    path: Path, roll: RollPolicy | None, sessions: int = 3
) -> list[tuple[int, int, bytes, int]]:
    """Write events in blocks of many sizes; return them as a list."""
    rng = random.Random(1)
    rows = []
    clock = make_clock()
    for _ in range(sessions):
        with Writer(path, roll=roll, clock=clock, compress=False) as writer:
            for _ in range(COUNT // sessions):
                tag, payload = rng.choice(TAGS), rng.randbytes(rng.choice((0, 20, 300)))
                seq = writer.append_frame(tag, payload)
                rows.append((seq, tag, payload, writer.time))
                if rng.random() < 0.05:
                    writer.flush()
    return rows


@pytest.fixture(scope="module", params=[None, RollPolicy(30_000)], ids=["file", "directory"])
def journal(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[tuple[int, int, bytes, int]]]:
    path = tmp_path_factory.mktemp("finding") / "a.journal"
    return path, write(path, request.param)


Journal = tuple[Path, list[tuple[int, int, bytes, int]]]


def plain(frames: Iterable[Frame]) -> list[tuple[int, int, bytes, int]]:
    return [(frame.seq, frame.tag, frame.payload, frame.time) for frame in frames]


def test_every_event_is_found_by_its_number(journal: Journal) -> None:
    path, rows = journal
    numbers = list(range(COUNT))
    random.Random(2).shuffle(numbers)
    for verify in (True, False):
        with Reader(path) as reader:
            for seq in numbers:
                assert tuple(reader.frame(seq, verify=verify)[:4]) == rows[seq]
            for seq in (COUNT, COUNT + 1, 1 << 62, -1):
                with pytest.raises(KeyError):
                    reader.frame(seq)


def test_reading_from_a_number_gives_what_stands_behind_it(journal: Journal) -> None:
    path, rows = journal
    with Reader(path) as reader:
        for start in (0, 1, 999, 1000, 1001, 2500, COUNT - 1, COUNT, COUNT + 7):
            assert plain(reader.frames(start)) == rows[start:]
            assert plain(reader.frames(start, stop=start + 10)) == rows[start : start + 10]
        assert plain(reader.frames(5, stop=5)) == []


@given(st.data())
@settings(max_examples=60)
def test_any_question_is_answered_as_a_list_would(journal: Journal, data: st.DataObject) -> None:
    path, rows = journal
    start = data.draw(st.integers(0, COUNT + 10))
    stop = data.draw(st.none() | st.integers(0, COUNT + 10))
    tags = data.draw(st.none() | st.sets(st.sampled_from([*TAGS, 66, 200])))
    since = data.draw(st.none() | st.sampled_from(rows).map(lambda row: row[3] - row[0] % 3))
    wanted = [
        row
        for row in rows[start:stop]
        if (tags is None or row[1] in tags) and (since is None or row[3] >= since)
    ]
    with Reader(path) as reader:
        assert plain(reader.frames(start, stop=stop, tags=tags, since=since)) == wanted
        below = [row for row in rows[: start + 1] if tags is None or row[1] in tags]
        some = data.draw(st.integers(1, 40))
        backward = reader.backward(start, tags=tags)
        assert (
            plain([frame for frame, _ in zip(backward, range(some), strict=False)])
            == (below[::-1][:some])
        )
        assert (
            plain(reader.last(some, tags=tags))
            == [row for row in rows if tags is None or row[1] in tags][-some:]
        )


def test_backward_is_forward_from_the_end(journal: Journal) -> None:
    path, rows = journal
    with Reader(path) as reader:
        assert plain(reader.backward()) == rows[::-1]
        assert plain(reader.backward(0)) == rows[:1]


def test_a_number_is_found_while_the_journal_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Writer(path, roll=RollPolicy(2000)) as writer, Reader(path) as reader:
        for number in range(400):
            writer.append_frame(1, b"%d" % number)
            writer.flush()
            if number % 7 == 0:
                assert reader.frame(number).payload == b"%d" % number
                assert reader.frame(number // 2).payload == b"%d" % (number // 2)
                assert reader.last(1)[0].seq == number
        with pytest.raises(KeyError):
            reader.frame(400)


def test_a_sealed_segment_is_searched_by_its_own_index(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    rows = write(path, RollPolicy(100_000), sessions=1)
    names = segment_files.list_segments(path)
    assert len(names) > 2
    files = segment_files.SegmentFiles(path)
    for name, head in zip(names, files.read_heads(names), strict=True):
        source = files.open(name)
        assert source is not None
        assert head.header is not None
        found = segment_index.read(source, head.header)
        if name == names[-1]:
            assert found is None, "the last segment is not sealed"
            continue
        assert found is not None
        assert found.event_count == found.next_seq - found.first_seqs[0]
        assert list(found.times) == [rows[seq][3] for seq in found.first_seqs]
    files.close()
    with Reader(path) as reader, Reads() as reads:
        assert tuple(reader.frame(COUNT // 3)[:4]) == rows[COUNT // 3]
    assert reads.count < 30, "it is found by its index, not by walking"


class Reads:
    """Count the preads of the enclosed block."""

    def __init__(self) -> None:
        self.count = 0
        self._pread = os.pread
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        self._patch.setattr(os, "pread", self._counted)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def _counted(self, descriptor: int, size: int, offset: int) -> bytes:
        self.count += 1
        return self._pread(descriptor, size, offset)


def test_a_file_is_bisected_once_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Writer(path, compress=False) as writer:
        writer.append_payloads(1, [bytes(1000)] * 20_000)
    with Reader(path) as reader:
        blocks = len(list(reader.blocks()))
        with Reads() as reads:
            reader.frame(0)
        assert reads.count < 2 * blocks + 10
        with Reads() as reads:
            for seq in range(1, 20_000, 1999):
                assert reader.frame(seq).seq == seq
        assert reads.count <= 4 * 11


@pytest.mark.parametrize("roll", [None, RollPolicy(20_000)], ids=["file", "directory"])
def test_an_index_with_wrong_bytes_is_not_believed(tmp_path: Path, roll: RollPolicy | None) -> None:
    path = tmp_path / "a.journal"
    rows = write(path, roll, sessions=1)
    place = path / segment_files.list_segments(path)[0] if roll else path
    data = bytearray(place.read_bytes())
    data[-30] ^= 1
    place.write_bytes(data)
    with Reader(path) as reader:
        for seq in (0, 10, 25):
            assert tuple(reader.frame(seq)[:4]) == rows[seq]


def test_a_lost_number_is_an_error_and_its_neighbours_are_found(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Writer(path, compress=False) as writer:
        for number in range(30):
            writer.append_frame(1, bytes([number]) * 100)
            writer.flush()
            if number == 20:
                writer.sync()
    with Reader(path) as reader:
        blocks = list(reader.blocks())
    for seq, kind, kinds in (
        (5, LostAcknowledged, (LostAcknowledged,)),
        (25, CorruptBlock, (CorruptBlock, LostAcknowledged, MissingEvents)),
    ):
        broken = bytearray(path.read_bytes())
        offset = blocks[seq].offset
        broken[offset + 130] ^= 4
        path.write_bytes(broken)
        with Reader(path) as reader:
            with pytest.raises(kinds) as caught:
                reader.frame(seq)
            assert caught.value.first_seq <= seq <= caught.value.last_seq
            assert isinstance(caught.value, kind) or kind is CorruptBlock
            assert reader.frame(seq - 1).payload == bytes([seq - 1]) * 100
            assert reader.frame(seq + 1).payload == bytes([seq + 1]) * 100
        with Reader(path, mode=RecoveryMode.SALVAGE) as reader:
            found = [frame.seq for frame in reader.backward()]
            assert found == [other for other in range(29, -1, -1) if other != seq]
            assert [loss.first_seq for loss in reader.losses] == [seq]
        broken[offset + 130] ^= 4
        path.write_bytes(broken)


def test_what_a_writer_gave_up_is_not_found_in_a_sealed_segment(tmp_path: Path) -> None:
    """Debris inside a row of the index has sequence numbers and hashes of its own."""
    path = tmp_path / "a.journal"
    with Writer(path, roll=RollPolicy(1 << 20), compress=False) as writer:
        for number in range(6):
            writer.append_frame(1, b"old%d" % number + b"x" * (5000 if number > 2 else 0))
            (writer.sync if number == 2 else writer.flush)()
        shutil.copytree(path, tmp_path / "crashed")
    path = tmp_path / "crashed"
    file = path / segment_files.segment_name(0)
    data = bytearray(file.read_bytes().rstrip(b"\0"))
    at = (data.find(b"old3") // 4096 + 1) * 4096
    data[at : at + 600] = bytes(600)  # This page did not reach the disk.
    file.write_bytes(data)
    with Writer(path, roll=RollPolicy(20_000), compress=False) as writer:
        assert writer.next_seq == 3
        for number in range(3, 9):
            writer.append_frame(1, b"new%d" % number + bytes(3000))
            writer.flush()
        writer.sync()
        writer.append_frame(1, b"behind")
    assert len(segment_files.list_segments(path)) > 1
    with Reader(path) as reader:
        wanted = {frame.seq: frame.payload for frame in reader.frames()}
        assert wanted[4].startswith(b"new4")
        assert {seq: reader.frame(seq).payload for seq in wanted} == wanted
        assert {frame.seq: frame.payload for frame in reader.backward()} == wanted


@pytest.mark.parametrize("cut", [None, 1200])
def test_a_lost_segment_file_is_told_of_backward_and_by_number(
    tmp_path: Path, cut: int | None
) -> None:
    path = tmp_path / "a.journal"
    with Writer(path, roll=RollPolicy(4000), compress=False) as writer:
        for number in range(12):
            writer.append_frame(1, bytes([number]) * 1000)
            writer.sync()
    lost = path / segment_files.segment_name(1)
    if cut is None:
        lost.unlink()
    else:
        os.truncate(lost, cut)
    with Reader(path) as reader:
        for ask in (reader.frames, reader.backward, lambda: reader.last(12)):
            with pytest.raises(LostAcknowledged):
                list(ask())
        assert [frame.seq for frame in reader.last(2)] == [10, 11]
        with pytest.raises(LostAcknowledged):
            reader.frame(6)
        assert reader.frame(2).payload == b"\2" * 1000


def test_lost_events_in_front_of_all_others_are_told_of_backward(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Writer(path, compress=False) as writer:
        for number in range(3):
            writer.append_frame(1, bytes([number]) * 1000)
            writer.sync()
    data = bytearray(path.read_bytes())
    data[168:176] = bytes(8)
    path.write_bytes(data)
    with Reader(path) as reader:
        found = reader.backward()
        assert [next(found).seq, next(found).seq] == [2, 1]
        with pytest.raises(LostAcknowledged):
            next(found)


def test_after_failing_over_nothing_is_found_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Writer(path, roll=RollPolicy(1 << 20)) as writer, pytest.MonkeyPatch.context() as patch:
        writer.append_frame(1, b"0")
        writer.sync()
        for number in range(1, 4):
            writer.append_frame(1, b"%d" % number)
            writer.flush()
        _fails_once(patch, "fdatasync")
        writer.sync()
        writer.append_frame(1, b"4")
    assert len(segment_files.list_segments(path)) == 2
    with Reader(path) as reader:
        assert [frame.seq for frame in reader.backward()] == [4, 3, 2, 1, 0]
        assert [reader.frame(seq).payload for seq in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_the_first_event_is_found_behind_a_file_that_holds_none(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with Writer(path, roll=RollPolicy(1 << 20)) as writer, pytest.MonkeyPatch.context() as patch:
        for payload in (b"0", b"1"):
            _fails_once(patch, "pwritev")
            writer.append_frame(1, payload)
            writer.sync()
    with Reader(path) as reader:
        assert reader.frame(1).payload == b"1"
        assert reader.frame(0).payload == b"0"


def _fails_once(patch: pytest.MonkeyPatch, name: str) -> None:
    real = getattr(os, name)

    def fail(*_: object) -> int:
        patch.setattr(os, name, real)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    patch.setattr(os, name, fail)

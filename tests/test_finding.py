"""Finding events without reading all: by number, by time, by tag, from the end."""

import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal import Frame, Mode, Reader, Roll, Writer, index, segments
from journal.errors import CorruptBlock, LostAcknowledged, MissingEvents
from tests.journals import ticking

COUNT = 3000
TAGS = (1, 2, 70)


def write(path: Path, roll: Roll | None, sessions: int = 3) -> list[tuple[int, int, bytes, int]]:
    """Write events in blocks of many sizes; give them as a list."""
    rng = random.Random(1)
    rows = []
    clock = ticking()
    for _ in range(sessions):
        with Writer(path, roll=roll, clock=clock, compress=False) as writer:
            for _ in range(COUNT // sessions):
                tag, payload = rng.choice(TAGS), rng.randbytes(rng.choice((0, 20, 300)))
                seq = writer.append_frame(tag, payload)
                rows.append((seq, tag, payload, writer.time))
                if rng.random() < 0.05:
                    writer.flush()
    return rows


@pytest.fixture(scope="module", params=[None, Roll(30_000)], ids=["file", "directory"])
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
    with Writer(path, roll=Roll(2000)) as writer, Reader(path) as reader:
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
    rows = write(path, Roll(100_000), sessions=1)
    names = segments.names_in(path)
    assert len(names) > 2
    files = segments.Files(path)
    for name, head in zip(names, files.heads(names), strict=True):
        source = files.open(name)
        assert source is not None
        assert head.header is not None
        found = index.read(source, head.header)
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
    """Counts the preads of what is done within."""

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


@pytest.mark.parametrize("roll", [None, Roll(20_000)], ids=["file", "directory"])
def test_an_index_with_wrong_bytes_is_not_believed(tmp_path: Path, roll: Roll | None) -> None:
    path = tmp_path / "a.journal"
    rows = write(path, roll, sessions=1)
    place = path / segments.names_in(path)[0] if roll else path
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
        with Reader(path, mode=Mode.SALVAGE) as reader:
            found = [frame.seq for frame in reader.backward()]
            assert found == [other for other in range(29, -1, -1) if other != seq]
            assert [loss.first_seq for loss in reader.losses] == [seq]
        broken[offset + 130] ^= 4
        path.write_bytes(broken)

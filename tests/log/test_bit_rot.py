"""Bit rot in a block that no later block confirms is noticed, and is not taken for a torn write."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from journal.errors import CorruptBlock, LostAcknowledged
from journal.format import bit_search
from journal.format.bit_search import flip_bit
from journal.log import RecoveryMode, bit_rot, header_scan
from journal.log.reader import Reader
from journal.log.roll_policy import RollPolicy
from journal.log.scan import Damage
from journal.log.summary import Summary
from journal.log.writer import Writer
from journal.operations.salvage import salvage
from tests.support.forged_journals import Forge, directories, lay
from tests.support.plain_reader import SECTOR_SIZE, reading
from tests.support.reader_oracle import expected, outcome

STRICT_MODES = [RecoveryMode.STRICT, RecoveryMode.TOLERATE_TAIL, RecoveryMode.POINT_IN_TIME]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def killed(path: Path, append: Callable[[Writer], object], roll: RollPolicy | None = None) -> None:
    """Write a journal whose writer syncs each of three events, then appends, and is killed."""
    writer = Writer(path, roll=roll, compress=False)
    for number in range(3):
        writer.append_frame(200, b"acknowledged %d" % number)
        writer.sync()
    append(writer)
    file = path / "0000000000.journal" if roll else path
    data = file.read_bytes()
    writer.close()
    file.write_bytes(data)


def last_block(data: bytes) -> tuple[int, int]:
    """Return the start and the end of the last block."""
    block = reading(data).blocks[-1]
    return block.start, block.end


def read_all(path: Path) -> None:
    with Reader(path) as reader:
        list(reader.frames())


def summary_of(path: Path) -> Summary:
    with Reader(path) as reader:
        return reader.summary()


def check_refused(path: Path, first_seq: int, last_seq: int) -> None:
    """Check that the rot is reported, that no writer resumes before it, and that it is repaired."""
    before = path.read_bytes()
    for mode in STRICT_MODES:
        with Reader(path, mode=mode) as reader, pytest.raises(CorruptBlock) as caught:
            list(reader.frames())
        assert (caught.value.first_seq, caught.value.last_seq) == (first_seq, last_seq)
        with pytest.raises(CorruptBlock, match="one flipped bit, which journaltool recover repair"):
            Writer(path, mode=mode)
    with Reader(path) as reader:
        assert len(list(reader.verify(decode=False))) == 1
        (damage,) = (item for item in reader.items() if isinstance(item, Damage))
    assert (damage.first_seq, damage.last_seq, damage.acknowledged) == (first_seq, last_seq, False)
    assert not damage.open_ended
    assert path.read_bytes() == before
    target = path.with_name("recovered")
    target.unlink(missing_ok=True)
    result = salvage(path, target)
    assert result.is_whole
    assert len(result.repairs) == 1


def test_every_flipped_bit_of_the_last_block_after_a_kill_is_noticed_and_repaired(
    path: Path,
) -> None:
    killed(path, lambda writer: None)
    data = path.read_bytes()
    start, end = last_block(data)
    used = len(data[start:end].rstrip(b"\0"))
    for bit in range(8 * start, 8 * (start + used), 17):
        path.write_bytes(flip_bit(data, bit))
        check_refused(path, 2, 2)
        with Reader(path.with_name("recovered")) as reader:
            assert [frame.seq for frame in reader.frames()] == [0, 1, 2]
    with Writer(path.with_name("recovered")) as writer:
        assert writer.append_frame(1, b"") == 3


@pytest.mark.parametrize("bit", [0, 8 * 40 + 3, 8 * 200])
def test_rot_in_the_first_of_several_blocks_of_one_sync_is_refused(path: Path, bit: int) -> None:
    killed(path, lambda writer: append_blocks(writer, b"a", b"b", b"c"))
    data = path.read_bytes()
    start = reading(data).blocks[-3].start
    path.write_bytes(flip_bit(data, 8 * start + bit))
    check_refused(path, 3, 3)
    with Reader(path, mode=RecoveryMode.SALVAGE) as reader:
        assert [frame.seq for frame in reader.frames()] == [0, 1, 2, 4, 5]


def append_blocks(writer: Writer, *names: bytes) -> None:
    for name in names:
        append_block(writer, name)


def append_block(writer: Writer, name: bytes, size: int = 100) -> None:
    writer.append_frame(1, name * size)
    writer.flush()


def test_rot_before_a_torn_write_is_noticed(path: Path) -> None:
    killed(path, lambda writer: append_block(writer, b"torn"))
    data = path.read_bytes()
    start, _ = last_block(data)
    path.write_bytes(flip_bit(data[: start + 50], 8 * (start - 20)))
    check_refused(path, 2, 2)
    with Reader(path, mode=RecoveryMode.SALVAGE) as reader:
        assert [frame.seq for frame in reader.frames()] == [0, 1]
        assert reader.summary().torn_size == 50


@pytest.mark.parametrize("size", [100, 3000, 20_000])
def test_what_a_crash_leaves_is_a_torn_write(path: Path, size: int) -> None:
    killed(path, lambda writer: append_block(writer, os.urandom(1), size))
    data = path.read_bytes()
    start, end = last_block(data)
    whole = data[:end]
    states = [whole[:at] for at in range(start + 8, end, 1 + size // 50)]
    for sector in range(start - start % SECTOR_SIZE, end, SECTOR_SIZE):
        lost = slice(max(start, sector), min(end, sector + SECTOR_SIZE))
        states.append(whole[: lost.start] + bytes(lost.stop - lost.start) + whole[lost.stop :])
        states.append(whole[: lost.start] + bytes(end - lost.start))
    for state in states:
        path.write_bytes(state)
        assert outcome(path)[1] is False
        assert summary_of(path).damage == ()
        with Writer(path) as writer:
            assert summary_of(path).last_seq == 2, "the reserve completes no block"
            assert writer.append_frame(1, b"again") == 3


@pytest.mark.parametrize("close", [False, True], ids=["events", "marker"])
def test_a_block_torn_at_any_byte_is_a_torn_write(path: Path, close: bool) -> None:
    """Try last bytes with a single bit: as a tag, or by chance in the hash of a marker."""
    for salt in range(20):
        forge = Forge(salt)
        start = forge.add() if close else forge.add((1, b"x" * salt), durable=False)
        for at in range(start + 8 + salt % 2, len(forge.data), 2):  # All bytes in two salts.
            path.write_bytes(forge.data[:at] + bytes(len(forge.data) - at + 100))
            if path.read_bytes().startswith(forge.data):
                continue
            assert summary_of(path).damage == (), (salt, at)


def test_a_sector_of_one_bit_that_reads_as_zeros_may_not_have_been_written(path: Path) -> None:
    forge = Forge()
    forge.even = True
    forge.add((1, bytes([7] * 272 + [0] * 3)), durable=False)
    data = forge.data
    assert data[SECTOR_SIZE:] == b"\0\0\0\1\0\0\0\0"
    path.write_bytes(data[:SECTOR_SIZE] + bytes(8))
    assert outcome(path) == ([], False)
    assert summary_of(path).torn_size == len(data) - 128
    path.write_bytes(flip_bit(data, 8 * SECTOR_SIZE))  # The sector has been written.
    check_refused(path, 0, 0)


def test_two_flipped_bits_are_no_proof_that_a_block_was_written(path: Path) -> None:
    killed(path, lambda writer: None)
    data = path.read_bytes()
    start, end = last_block(data)
    for second in range(8 * start + 1, 8 * end, 41):
        path.write_bytes(flip_bit(flip_bit(data, 8 * start + 900), second))
        assert (
            outcome(path, RecoveryMode.SALVAGE)
            == expected([path.read_bytes()])[RecoveryMode.SALVAGE]
        )
        assert not any(damage.is_rot for damage in summary_of(path).damage)


def test_rot_in_the_last_segment_file_is_refused(path: Path) -> None:
    killed(path, lambda writer: None, roll=RollPolicy(1 << 20))
    file = path / "0000000000.journal"
    data = file.read_bytes()
    start, _ = last_block(data)
    file.write_bytes(flip_bit(data, 8 * start + 400))
    with pytest.raises(CorruptBlock, match=r"which journaltool recover repairs.*0000000000"):
        Writer(path, roll=RollPolicy())
    with pytest.raises(CorruptBlock):
        read_all(path)


def test_rot_before_the_next_segment_was_acknowledged(path: Path) -> None:
    """A writer begins a segment only when the segment before it is durable."""
    first = Forge()
    first.add((1, b"a"))
    start = first.add((1, b"b"), durable=False)
    first.add((1, b"c"), durable=False)
    second = first.next(99)
    second.add((1, b"d"))
    files = [flip_bit(first.data, 8 * start + 900), second.data]
    lay(path, files)
    with pytest.raises(LostAcknowledged):
        read_all(path)
    for mode, wanted in expected(files).items():
        assert outcome(path, mode) == wanted, mode


def test_rot_at_the_end_of_a_concatenated_journal_is_no_debris(path: Path) -> None:
    killed(path, lambda writer: None)
    data = path.read_bytes()
    start, end = last_block(data)
    path.write_bytes(flip_bit(data[:end], 8 * start + 900) + directories()["rolled"][0])
    with pytest.raises(CorruptBlock, match="which journaltool recover repairs"):
        read_all(path)
    (damage,) = summary_of(path).damage
    assert (damage.offset, damage.size) == (start, end - start)


def test_rot_of_the_closing_marker_loses_no_event(path: Path) -> None:
    with Writer(path) as writer:
        writer.append_frame(1, b"a")
    data = path.read_bytes()
    path.write_bytes(flip_bit(data, 8 * len(data) - 500))
    assert [row.seq for row in outcome(path)[0]] == [0]
    (damage,) = summary_of(path).damage
    assert damage.is_rot
    assert damage.last_seq < damage.first_seq
    with pytest.raises(CorruptBlock, match="which journaltool recover repairs"):
        Writer(path)


def test_a_follower_stops_at_rot(path: Path) -> None:
    killed(path, lambda writer: None)
    data = path.read_bytes()
    start, _ = last_block(data)
    path.write_bytes(flip_bit(data, 8 * start + 1))
    with Reader(path) as reader:
        frames = reader.follow(timeout_seconds=0)
        assert [next(frames).seq for _ in range(2)] == [0, 1]
        with pytest.raises(CorruptBlock):
            next(frames)


def test_a_large_block_that_lacks_a_sector_is_not_searched(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(path, lambda writer: append_block(writer, b"x", 2 * bit_rot.TORN_BODY_SIZE_MAX))
    data = path.read_bytes()
    _, end = last_block(data)
    monkeypatch.setattr(bit_search, "repair_block_body", None)
    at = (end - 2000) & -SECTOR_SIZE
    path.write_bytes(data[:at] + bytes(SECTOR_SIZE) + data[at + SECTOR_SIZE :])
    assert [row.seq for row in outcome(path)[0]] == [0, 1, 2]
    path.write_bytes(data)
    assert [row.seq for row in outcome(path)[0]] == [0, 1, 2, 3]


@pytest.mark.parametrize("limit", ["_HEADER_SEARCH_SIZE_MAX", "_BODY_SEARCH_SIZE_MAX"])
def test_the_search_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    killed(path, lambda writer: None)
    data = path.read_bytes()
    start, _ = last_block(data)
    path.write_bytes(flip_bit(data, 8 * start + (200 if "HEADER" in limit else 900)))
    assert outcome(path)[1] is True
    monkeypatch.setattr(header_scan, limit, 1000)
    assert outcome(path)[1] is False


def test_the_reserve_of_a_writer_completes_no_torn_marker(path: Path) -> None:
    """The last byte of a marker is the last byte of a hash, so one salt in 256 gives a zero."""
    torn = 0
    for salt in range(2000):
        forge = Forge(salt)
        forge.add((1, b"x"))
        forge.add()
        if forge.data[-1]:
            continue
        torn += 1
        path.write_bytes(forge.data[:-1])
        before = summary_of(path)
        with Writer(path) as writer:
            assert summary_of(path).blocks == before.blocks == 1
            assert writer.append_frame(1, b"next") == 1
    assert torn

"""Every bit flipped: detected, no wrong event returned, and no other block lost."""

from collections.abc import Iterable
from itertools import permutations
from pathlib import Path

import pytest

from journal.errors import JournalError, LostAcknowledged
from journal.log import RecoveryMode
from journal.log.reader import Reader
from journal.log.summary import Summary
from journal.log.writer import Writer
from journal.operations.salvage import salvage
from tests.support.budget import Budget
from tests.support.forged_journals import (
    SALT,
    Forge,
    directories,
    lay,
    rolled,
    segment_name,
    shapes,
)
from tests.support.plain_reader import SEGMENT_MAGIC, SEGMENT_SIZE, Reading, Row, reading
from tests.support.reader_oracle import expected, outcome

SHAPES = shapes()
DIRECTORIES = directories()
STRIDE = 67
"""Stride of flipped bits in larger journals when time is short."""
Told = tuple[Summary, int]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def small() -> bytes:
    forge = Forge()
    forge.add((1, b"one"), (70, b""))
    return forge.mark().data


def flip_bit(data: bytes, bit: int) -> bytes:
    broken = bytearray(data)
    broken[bit // 8] ^= 1 << bit % 8
    return bytes(broken)


def read_facts(path: Path) -> Told | None:
    """Return the facts of a journal besides its events; None if the reader rejects it."""
    try:
        with Reader(path, mode=RecoveryMode.SALVAGE) as reader:
            return reader.summary(), len(list(reader.verify(decode=False)))
    except JournalError:
        return None


def untouched(whole: Reading, file: int, at: int) -> list[Row]:
    """Return the events of all blocks except the one with the byte ``at``."""
    return [
        row
        for block in whole.blocks
        if block.file != file or not block.start <= at < block.end
        for row in block.rows
    ]


def find_unprotected_bytes(whole: Reading, file: int) -> set[int]:
    """Return the bytes that may change undetected: debris and torn writes only.

    A crash left these bytes, they were never promised, and readers skip them. All other bytes are
    hashed (including padding, reserved fields, markers and indices), or are zeros after the tail,
    where any other value is reported as a torn write or as damage.
    """
    pieces = [piece for piece in (*whole.debris, *whole.torn) if piece.file == file]
    return {at for _, start, size in pieces for at in range(start, start + size)}


def content(rows: Iterable[Row]) -> list[tuple[int, bytes, int]]:
    """Return the content of events without their sequence numbers."""
    return [row[1:4] for row in rows]


def is_header(data: bytes, at: int) -> bool:
    """Return whether a byte belongs to a segment header."""
    return SEGMENT_MAGIC in data[max(0, at - SEGMENT_SIZE + 1) : at + 8] and any(
        data.startswith(SEGMENT_MAGIC, start)
        for start in range(max(0, at - SEGMENT_SIZE + 1), at + 1)
    )


def check_flips(path: Path, files: list[bytes], file: int, bits: Iterable[int]) -> None:
    """Flip bits of one file of a journal: the only file, or one of a directory."""
    whole, data = reading(*files), files[file]
    free, sound = find_unprotected_bytes(whole, file), read_facts(path)
    place = path / segment_name(file) if path.is_dir() else path
    for bit in bits:
        at = bit // 8
        broken = flip_bit(data, bit)
        place.write_bytes(broken)
        assert at in free or read_facts(path) != sound, f"bit {bit} is not noticed"
        rows, refused = outcome(path, RecoveryMode.SALVAGE)
        wanted = expected([*files[:file], broken, *files[file + 1 :]])
        assert (rows, refused) == wanted[RecoveryMode.SALVAGE], f"bit {bit}"
        if is_header(
            data, at
        ):  # Its segment is lost, and later sequence numbers may start from the segment before.
            lost = [row for block in whole.blocks if block.file == file for row in block.rows]
            rest = [row for row in whole.rows if row not in lost]
            assert set(content(rest)) <= set(content(rows)) <= set(content(whole.rows)) or refused
        else:
            assert (rows, refused) == (untouched(whole, file, at), False), f"bit {bit}"
    place.write_bytes(data)


@pytest.mark.deep
def test_every_flipped_bit_of_a_small_journal_is_noticed(path: Path, budget: Budget) -> None:
    data = small()
    path.write_bytes(data)
    check_flips(path, [data], 0, budget.spend(range(len(data) * 8), 100))


@pytest.mark.deep
@pytest.mark.parametrize("name", SHAPES)
def test_every_flipped_bit_of_every_shape_is_noticed(path: Path, name: str, budget: Budget) -> None:
    data = SHAPES[name]
    path.write_bytes(data)
    check_flips(path, [data], 0, budget.spend(range(len(data) * 8), 100))


@pytest.mark.parametrize("name", DIRECTORIES)
def test_flipped_bits_of_every_segment_file_are_noticed(path: Path, name: str) -> None:
    files = DIRECTORIES[name]
    lay(path, files)
    for file, data in enumerate(files):
        check_flips(path, files, file, range(0, len(data) * 8, STRIDE))


@pytest.mark.deep
@pytest.mark.parametrize("name", DIRECTORIES)
def test_every_flipped_bit_of_every_segment_file_is_noticed(
    path: Path, name: str, budget: Budget
) -> None:
    files = DIRECTORIES[name]
    lay(path, files)
    for file, data in enumerate(files):
        check_flips(path, files, file, budget.spend(range(len(data) * 8), 50))


def write_equal_blocks(salt: int = SALT, word: bytes = b"block", synced: bool = True) -> Forge:
    """Write blocks of equal size."""
    forge = Forge(salt)
    for number in range(5):
        forge.add((1 + number, word + b" %d" % number), durable=synced)
    return forge.mark()


def check_broken(path: Path, data: bytes, whole: list[Row]) -> None:
    """Check that a journal is reported as broken, and that only written events are returned."""
    path.write_bytes(data)
    summary, findings = read_facts(path) or (None, 1)
    assert findings or (summary and (summary.torn_size or summary.debris))
    for mode, wanted in expected([data]).items():
        assert outcome(path, mode) == wanted, mode
    rows, _ = outcome(path, RecoveryMode.SALVAGE)
    assert set(rows) <= set(whole)
    assert [row.seq for row in rows] == sorted({row.seq for row in rows})


@pytest.mark.parametrize("synced", [True, False])
def test_blocks_that_changed_places_are_not_believed(path: Path, synced: bool) -> None:
    forge = write_equal_blocks(synced=synced)
    data, whole = forge.data, reading(forge.data).rows
    for (a, a_end), (b, b_end) in permutations(forge.blocks[:-1], 2):
        check_broken(path, data[:a] + data[b:b_end] + data[a_end:], whole)  # In place of the block.
        check_broken(path, data[:a] + data[b:b_end] + data[a:], whole)  # Before the block.
        if a < b:
            swapped = data[:a] + data[b:b_end] + data[a_end:b] + data[a:a_end] + data[b_end:]
            check_broken(path, swapped, whole)


@pytest.mark.parametrize("salt", [SALT, SALT + 1], ids=["older-state", "other-file"])
def test_blocks_of_another_past_are_not_believed(path: Path, salt: int) -> None:
    forge, stale = write_equal_blocks(), write_equal_blocks(salt, b"stale")
    whole, past = reading(forge.data).rows, reading(stale.data).rows
    for start, end in forge.blocks[:-1]:
        data = forge.data[:start] + stale.data[start:end] + forge.data[end:]
        check_broken(path, data, whole)
    for start, end in permutations([start for start, _ in forge.blocks], 2):
        if start < end:  # A run of blocks is a valid history up to its end.
            data = forge.data[:start] + stale.data[start:end] + forge.data[end:]
            check_broken(path, data, whole + past)


def test_segment_files_in_another_order_are_not_believed(path: Path) -> None:
    files = DIRECTORIES["rolled"]
    whole = content(reading(*files).rows)
    for order in permutations(range(3)):
        shuffled = [files[index] for index in order]
        lay(path, shuffled)
        for mode, wanted in expected(shuffled).items():
            assert outcome(path, mode) == wanted, (order, mode)
        rows, _ = outcome(path, RecoveryMode.SALVAGE)
        assert set(content(rows)) <= set(whole)
        seqs = [row.seq for row in rows]
        assert seqs == sorted(set(seqs))
        found = read_facts(path)
        assert found is None or found[1] or order == (0, 1, 2), order
        assert outcome(path, RecoveryMode.STRICT)[1] == (order != (0, 1, 2))


def test_a_segment_file_that_is_missing_is_noticed(path: Path) -> None:
    files = DIRECTORIES["rolled"]
    whole = reading(*files).rows
    lay(path, [files[0], files[2]])
    rows, refused = outcome(path, RecoveryMode.SALVAGE)
    assert not refused
    assert rows == [row for row in whole if row.seq not in (3, 4, 5)]
    with Reader(path, mode=RecoveryMode.SALVAGE) as reader:
        (damage,) = reader.summary().damage
        assert (damage.first_seq, damage.last_seq, damage.acknowledged) == (3, 5, True)
    assert outcome(path, RecoveryMode.POINT_IN_TIME) == (whole[:3], True)


def test_a_segment_file_of_another_journal_is_damage(path: Path) -> None:
    ours = rolled()
    theirs = Forge(SALT + 40, journal_id=b"somebody else's!")
    theirs.add((9, b"theirs"))
    files = [ours[0].data, theirs.mark().data, ours[1].data, ours[2].data]
    lay(path, files)
    for mode, wanted in expected(files).items():
        assert outcome(path, mode) == wanted, mode
    found = read_facts(path)
    assert found is not None
    assert found[1]
    # No event of the other journal is taken for one of this journal, and none moves.
    assert outcome(path, RecoveryMode.SALVAGE) == (reading(*[one.data for one in ours]).rows, False)


def test_a_segment_file_that_is_there_twice_is_noticed(path: Path) -> None:
    files = DIRECTORIES["rolled"]
    for index in range(3):
        doubled = [*files[: index + 1], *files[index:]]
        lay(path, doubled)
        for mode, wanted in expected(doubled).items():
            assert outcome(path, mode) == wanted, (index, mode)
        found = read_facts(path)
        assert found is not None
        assert found[1]
        rows, _ = outcome(path, RecoveryMode.SALVAGE)
        assert [row.seq for row in rows] == sorted({row.seq for row in rows})


def test_a_journal_whose_first_segment_file_is_gone_says_so(path: Path) -> None:
    files = DIRECTORIES["rolled"]
    whole = reading(*files).rows
    lay(path, files[1:])
    assert outcome(path, RecoveryMode.SALVAGE) == (whole[3:], False)
    for mode in (RecoveryMode.STRICT, RecoveryMode.TOLERATE_TAIL, RecoveryMode.POINT_IN_TIME):
        assert outcome(path, mode) == ([], True)
        with Reader(path, mode=mode) as reader, pytest.raises(LostAcknowledged) as caught:
            list(reader.frames())
        assert (caught.value.first_seq, caught.value.last_seq) == (0, 2)
    with pytest.raises(LostAcknowledged):
        Writer(path)


def salvage_rows(path: Path) -> list[Row]:
    """Return the content of the new journal that ``salvage`` writes."""
    target = path.with_name("recovered.journal")
    target.unlink(missing_ok=True)
    salvage(path, target)
    found = reading(target.read_bytes())
    assert not found.damage
    assert outcome(target, RecoveryMode.STRICT) == (found.rows, False)
    return found.rows


def without_place(rows: Iterable[Row]) -> list[tuple[int, int, bytes, int]]:
    return [row[:4] for row in rows]


def check_recovery(path: Path, data: bytes, bits: Iterable[int]) -> None:
    """Flip bits: salvage recovers all events of every other block, and usually all events."""
    whole, saved, count = reading(data), 0, 0
    for bit in bits:
        path.write_bytes(flip_bit(data, bit))
        rows = without_place(salvage_rows(path))
        assert path.read_bytes() == flip_bit(data, bit)
        assert set(rows) <= set(without_place(whole.rows)), bit
        assert set(without_place(untouched(whole, 0, bit // 8))) <= set(rows), bit
        saved += len(rows) == len(whole.rows)
        count += 1
    assert saved == count  # A single bit is always found.


def test_recovery_gives_back_all_events_around_and_behind_a_flipped_bit(path: Path) -> None:
    data = small()
    check_recovery(path, data, range(0, len(data) * 8, 37))


@pytest.mark.deep
@pytest.mark.parametrize("name", ["plain", "compressed", "debris", "unsynced"])
def test_recovery_gives_back_all_events_around_and_behind_every_bit(
    path: Path, name: str, budget: Budget
) -> None:
    data = SHAPES[name]
    check_recovery(path, data, budget.spend(range(0, len(data) * 8, 3), 50))


@pytest.mark.parametrize("name", SHAPES)
def test_recovery_gives_back_every_event_of_blocks_that_are_not_broken(
    path: Path, name: str
) -> None:
    data = SHAPES[name]
    whole = reading(data)
    for block in whole.blocks:
        if block.rows:  # More than one bit is flipped, so it cannot be repaired.
            broken = data[: block.start + 40] + bytes(30) + data[block.start + 70 :]
            path.write_bytes(broken)
            kept = without_place(untouched(whole, 0, block.start))
            assert without_place(salvage_rows(path)) == kept

"""Changes of a sealed journal by somebody without the key are noticed, also with right hashes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest

from journal.errors import FormatError, JournalError, WrongKey
from journal.format import segment_header
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.log.commit_policy import CommitPolicy
from journal.log.reader import Reader
from journal.log.roll_policy import RollPolicy
from journal.log.scan import RecoveryMode
from journal.log.writer import Writer
from tests.support.budget import Budget
from tests.support.sealed_journals import (
    KEY,
    OTHER_KEY,
    SECRET,
    StoredBlock,
    blocks_of,
    flip,
    head_of,
    is_refused,
    lay,
    number_on,
    read_all,
)

EVENTS = [SECRET + b" %d" % number for number in range(4)]


@pytest.fixture(autouse=True)
def _no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip real syncs: this file does not test them."""
    monkeypatch.setattr(os, "fdatasync", lambda _: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def write(path: Path, events: Sequence[bytes] = EVENTS, roll: RollPolicy | None = None) -> bytes:
    """Write a sealed journal with a block for each event, and return its file."""
    with Writer(path, key=KEY, roll=roll, compress=False, clock=lambda: 5) as writer:
        for event in events:
            writer.append_frame(200, event)
            writer.sync()
    return path.read_bytes() if roll is None else b""


def write_segments(path: Path, word: bytes = b"") -> list[bytes]:
    """Write a sealed journal of three segments, and return its files."""
    with Writer(
        path, key=KEY, roll=RollPolicy(1), compress=False, commit=CommitPolicy.NONE
    ) as writer:
        for event in EVENTS[:3]:
            writer.append_frame(200, event + word)
            writer.flush()
    return [file.read_bytes() for file in sorted(path.iterdir())]


def lay_directory(path: Path, files: Sequence[bytes]) -> None:
    """Write the files of a journal directory, and remove all others."""
    path.mkdir(exist_ok=True)
    for old in path.iterdir():
        old.unlink()
    for number, data in enumerate(files):
        (path / f"{number:010}.journal").write_bytes(data)


def check_prefix(path: Path, events: Sequence[bytes] = EVENTS) -> None:
    """Check that readers get an error, or events from the beginning: a cut, as by a crash."""
    found: list[bytes] = []
    with suppress(FormatError), Reader(path, key=KEY) as reader:  # A WrongKey is no FormatError.
        found.extend(frame.payload for frame in reader.frames())
    assert found == list(events[: len(found)])


def test_a_journal_that_was_not_changed_is_read(path: Path) -> None:
    data = write(path)
    assert read_all(path, RecoveryMode.STRICT) == EVENTS
    assert SECRET not in data
    path.write_bytes(lay(data, blocks_of(data)))
    assert path.read_bytes() == data
    assert not is_refused(path)


def flips(data: bytes, path: Path, bits: Iterator[int]) -> None:
    for bit in bits:
        path.write_bytes(flip(data, bit))
        check_prefix(path)
        with pytest.raises(JournalError):
            read_all(path, RecoveryMode.STRICT)


def test_a_flipped_bit_is_noticed(path: Path) -> None:
    data = write(path, EVENTS[:2])
    flips(data, path, iter(range(0, 8 * len(data), 131)))


@pytest.mark.deep
def test_every_flipped_bit_is_noticed(path: Path, budget: Budget) -> None:
    data = write(path, EVENTS[:2])
    flips(data, path, budget.spend(range(8 * len(data)), 200))


def test_a_flipped_bit_with_right_hashes_is_forged(path: Path) -> None:
    """The hashes of all following blocks are made to fit."""
    data = write(path)
    blocks = blocks_of(data)
    for index, stored in enumerate(blocks[1:], 1):
        for at in (0, 23, 24, len(stored.body) // 2, len(stored.body) - 1):
            changed = list(blocks)
            changed[index] = stored._replace(body=flip(stored.body, 8 * at))
            path.write_bytes(lay(data, changed))
            assert is_refused(path)
            with pytest.raises(JournalError):
                Writer(path, key=KEY)


FIELDS = ("frame_count", "tag_bitmap", "time_first", "time_last", "durable_upto", "first_seq")


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_of_a_header_can_be_changed(path: Path, field: str) -> None:
    data = write(path)
    blocks = blocks_of(data)
    for index, stored in enumerate(blocks[1:], 1):
        value = getattr(stored.header, field)
        for other in {value + 1, max(0, value - 1), 0} - {value}:
            changed = list(blocks)
            changed[index] = stored._replace(header=stored.header._replace(**{field: other}))
            path.write_bytes(lay(data, changed))
            if path.read_bytes() == data:
                continue  # An offset above that of the block is lowered again.
            check_prefix(path)
            with Reader(path, key=KEY) as reader:
                assert list(reader.verify(decode=False)), (index, other)


def test_blocks_that_are_left_out_or_moved_are_noticed(path: Path) -> None:
    data = write(path, EVENTS[:3])
    blocks = blocks_of(data)
    assert len(blocks) == 5  # The key block, three events, and the last marker.
    for count in range(2, 5):
        for chosen in permutations(blocks[1:], count - 1):
            kept = [blocks[0], *chosen]
            if kept == blocks[: len(kept)]:
                continue
            for order in (kept, number_on(kept)):
                path.write_bytes(lay(data, order))
                assert is_refused(path)


def test_a_cut_between_blocks_shows_only_the_beginning(path: Path) -> None:
    data = write(path)
    blocks = blocks_of(data)
    for count in range(1, len(blocks) + 1):
        path.write_bytes(lay(data, blocks[:count]))
        assert read_all(path) == EVENTS[: count - 1]


def test_every_cut_shows_only_the_beginning(path: Path) -> None:
    data = write(path, EVENTS[:2])
    for size in range(SEGMENT_HEADER_SIZE, len(data), 5):
        path.write_bytes(data[:size])
        check_prefix(path, EVENTS[:2])


def test_two_copies_that_were_both_continued_cannot_be_mixed(path: Path, tmp_path: Path) -> None:
    write(path, EVENTS[:1])
    copy = tmp_path / "copy.journal"
    copy.write_bytes(path.read_bytes())
    events = [b"one", b"two", b"six"]
    ours, theirs = blocks_of(write(path, events)), blocks_of(write(copy, events[::-1]))
    data = path.read_bytes()
    assert len(ours) == len(theirs)
    common = [one == other for one, other in zip(ours, theirs, strict=True)].index(False)
    for at in range(common + 1, len(ours)):
        for mixed in (ours[:at] + theirs[at:], theirs[:at] + ours[at:]):
            path.write_bytes(lay(data, mixed))
            assert is_refused(path)
    path.write_bytes(lay(data, theirs))
    assert read_all(path) == [EVENTS[0], *events[::-1]]


def test_a_block_of_another_segment_is_not_believed(path: Path, tmp_path: Path) -> None:
    data, other = write(path), write(tmp_path / "other.journal")
    ours, theirs = blocks_of(data), blocks_of(other)
    for index in range(len(ours)):
        mixed = [*ours[:index], theirs[index], *ours[index + 1 :]]
        path.write_bytes(lay(data, mixed))
        assert is_refused(path)


def test_a_plain_block_in_a_sealed_segment_is_not_believed(path: Path, tmp_path: Path) -> None:
    data = write(path)
    with Writer(tmp_path / "plain.journal", compress=False, clock=lambda: 5) as writer:
        for event in EVENTS:
            writer.append_frame(200, event[:-1] + b"X")
            writer.sync()
    ours, plain = blocks_of(data), blocks_of((tmp_path / "plain.journal").read_bytes())
    for index in range(1, 5):
        mixed = [*ours[:index], plain[index - 1], *ours[index + 1 :]]
        path.write_bytes(lay(data, number_on(mixed)))
        assert is_refused(path)
        path.write_bytes(lay(data, number_on([*ours[:index], plain[index - 1]])))
        assert is_refused(path)
    path.write_bytes((tmp_path / "plain.journal").read_bytes())
    with pytest.raises(WrongKey, match="not sealed"):
        read_all(path)
    with pytest.raises(WrongKey, match="not sealed"):
        Writer(path, key=KEY)


def rehash(data: bytes, **changes: Any) -> bytes:
    """Return a segment with other values in its header, and hashes that fit."""
    raw, _ = segment_header.read(data, 0)._replace(**changes).encode()
    return lay(raw, blocks_of(data))


@pytest.mark.parametrize(
    "changes",
    [
        {"created": 1},
        {"first_seq": 1},
        {"journal_id": b"x" * 16},
        {"previous_end": 128, "previous_hash": 1},
        {"is_sealed": False, "minor": 1},
        {"minor": 3},
        {"compatible_features": 1},
    ],
    ids=str,
)
def test_no_field_of_a_segment_header_can_be_changed(path: Path, changes: dict[str, Any]) -> None:
    data = write(path)
    path.write_bytes(rehash(data, **changes))
    with pytest.raises(JournalError):
        read_all(path)
    with pytest.raises(JournalError):
        Writer(path, key=KEY)


def relink(before: bytes, after: bytes) -> bytes:
    """Return the file ``after`` with a header and hashes that continue ``before``."""
    last = blocks_of(before)[-1].header
    return rehash(
        after,
        previous_end=last.end,
        previous_hash=last.hash,
        journal_id=head_of(before).journal_id,
    )


def test_segments_that_are_left_out_moved_or_of_another_journal_are_noticed(
    path: Path, tmp_path: Path
) -> None:
    files, others = write_segments(path), write_segments(tmp_path / "other", b"!")
    assert len(files) >= 3
    assert read_all(path) == EVENTS[:3]
    pool = [*files, *others]
    for count in (2, 3):
        for chosen in permutations(pool[:5], count):
            if list(chosen) in (files[:count], others[:count]):
                continue
            lay_directory(path, chosen)
            assert is_refused(path)
            relinked = [chosen[0]]
            for data in chosen[1:]:
                relinked.append(relink(relinked[-1], data))
            lay_directory(path, relinked)
            if relinked != files[:count]:
                assert is_refused(path)


def test_joined_files_are_read_only_in_their_order(path: Path, tmp_path: Path) -> None:
    files, others = write_segments(path), write_segments(tmp_path / "other", b"!")
    joined = tmp_path / "joined.journal"
    joined.write_bytes(b"".join(files))
    assert read_all(joined) == EVENTS[:3]
    for order in ([1, 0], [0, 2], [1], [1, 2]):
        joined.write_bytes(b"".join(files[index] for index in order))
        assert is_refused(joined)
    joined.write_bytes(files[0] + others[0])
    assert is_refused(joined)
    with Writer(tmp_path / "stranger.journal", key=OTHER_KEY) as writer:
        writer.append_frame(200, b"of another key")
    joined.write_bytes(files[0] + (tmp_path / "stranger.journal").read_bytes())
    with pytest.raises(FormatError, match="sealed with another key"):
        read_all(joined)
    with Writer(tmp_path / "plain.journal") as writer:
        writer.append_frame(200, b"plain")
    joined.write_bytes(files[0] + (tmp_path / "plain.journal").read_bytes())
    assert is_refused(joined)


def test_a_segment_of_a_copy_is_not_believed(path: Path, tmp_path: Path) -> None:
    """The last segment of a copy was continued elsewhere. What follows it is not mixed in."""
    files = write_segments(path)
    copy = tmp_path / "copy"
    lay_directory(copy, files[:-1])
    with Writer(copy, key=KEY, roll=RollPolicy(1), commit=CommitPolicy.NONE) as writer:
        for event in (b"other", b"past"):
            writer.append_frame(200, event)
            writer.flush()
    others = [file.read_bytes() for file in sorted(copy.iterdir())]
    at = len(files) - 2
    assert others[at] != files[at]
    lay_directory(path, [*files[:at], others[at], files[at + 1]])
    assert read_all(path) == EVENTS[:3]  # The blocks of the other past are debris, as of a crash.
    for mixed in (
        [*files[:at], others[at], relink(others[at], files[at + 1])],
        [*files[: at + 1], *others[at + 1 :]],
    ):
        lay_directory(path, mixed)
        assert is_refused(path)


@pytest.mark.deep
def test_random_edits_never_show_other_events(path: Path, budget: Budget) -> None:
    data = write(path)
    blocks = blocks_of(data)
    chance = random.Random(14)
    for _ in budget.spend(range(100_000), 200):
        edited = list(blocks)
        for _ in range(chance.randint(1, 3)):
            edit = chance.choice(EDITS)
            edited = edit(edited, chance)
        # A changed id of the key looks like a wrong key, and shows nothing.
        edited = [blocks[0] if one.header.offset == SEGMENT_HEADER_SIZE else one for one in edited]
        if chance.random() < 0.5:
            edited = number_on(edited)
        path.write_bytes(lay(data, edited))
        check_prefix(path)


def _drop(blocks: list[StoredBlock], chance: random.Random) -> list[StoredBlock]:
    at = chance.randrange(len(blocks))
    return blocks[:at] + blocks[at + 1 :]


def _swap(blocks: list[StoredBlock], chance: random.Random) -> list[StoredBlock]:
    pairs = list(combinations(range(len(blocks)), 2))
    if pairs:
        one, other = chance.choice(pairs)
        blocks = list(blocks)
        blocks[one], blocks[other] = blocks[other], blocks[one]
    return blocks


def _repeat(blocks: list[StoredBlock], chance: random.Random) -> list[StoredBlock]:
    if not blocks:
        return blocks
    at = chance.randrange(len(blocks))
    return [*blocks[:at], chance.choice(blocks), *blocks[at:]]


def _flip(blocks: list[StoredBlock], chance: random.Random) -> list[StoredBlock]:
    if not blocks:
        return blocks
    at = chance.randrange(len(blocks))
    body = blocks[at].body
    changed = blocks[at]._replace(body=flip(body, chance.randrange(8 * len(body))))
    return [*blocks[:at], changed, *blocks[at + 1 :]]


def _drop_if_any(blocks: list[StoredBlock], chance: random.Random) -> list[StoredBlock]:
    return _drop(blocks, chance) if blocks else blocks


EDITS: list[Callable[[list[StoredBlock], random.Random], list[StoredBlock]]] = [
    _drop_if_any,
    _swap,
    _repeat,
    _flip,
]

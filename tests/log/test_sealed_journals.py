"""Sealed journals: written, continued, rolled, followed and switched as others are."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import journal
from journal import SealKey, events
from journal.errors import JournalError, OptionError, WrongKey
from journal.format import seal_cipher
from journal.format.seal_cipher import NONCE_SIZE
from journal.format.seal_key import WrappingKey
from journal.log.commit_policy import CommitPolicy
from journal.log.reader import Reader
from journal.log.roll_policy import RollPolicy
from journal.log.scan import RecoveryMode
from journal.log.seal_keys import PROCESS_KEYS
from journal.log.writer import Writer
from tests.support.budget import Budget
from tests.support.sealed_journals import (
    KEY,
    OTHER_KEY,
    SECRET,
    blocks_of,
    head_of,
    process_key,
    read_all,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def contents(folder: Path) -> Iterator[bytes]:
    return (file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_a_sealed_journal_is_continued_by_every_session(path: Path) -> None:
    expected = []
    for session in range(3):
        with Writer(path, key=KEY) as writer:
            for number in range(5):
                expected.append(SECRET * (1 + 40 * number) + b"%d" % session)
                writer.append_frame(200 + number, expected[-1])
                if number % 2:
                    writer.sync()
    for mode in RecoveryMode:
        assert read_all(path, mode) == expected
    with Reader(path, key=KEY) as reader:
        assert reader.is_sealed
        assert reader.summary().version == (1, 2)
        assert [frame.payload for frame in reader.frames(tags={203})] == expected[3::5]
        assert [reader.frame(seq).payload for seq in range(15)] == expected
        assert [frame.seq for frame in reader.backward()] == list(range(14, -1, -1))
        assert not list(reader.verify(decode=False))
    assert not any(SECRET in data for data in contents(path.parent))


def test_only_headers_are_read_without_the_key(path: Path) -> None:
    with Writer(path, key=KEY) as writer:
        for _ in range(3):
            writer.append_frame(200, SECRET)
            writer.sync()
    with Reader(path) as reader:
        assert reader.summary().events == 3
        for read in (reader.frames, reader.blocks, reader.backward, reader.rows):
            with pytest.raises(WrongKey, match="its key is needed"):
                list(read())
        with pytest.raises(WrongKey):
            reader.frame(1)
    with pytest.raises(WrongKey, match="its key is needed"):
        Writer(path)


@pytest.mark.parametrize("is_directory", [False, True])
def test_a_wrong_key_is_one_sentence_and_changes_nothing(path: Path, is_directory: bool) -> None:
    roll = RollPolicy() if is_directory else None
    with Writer(path, key=KEY, roll=roll) as writer:
        writer.append_frame(200, SECRET)
    before = list(contents(path.parent))
    for key in (OTHER_KEY, SealKey.from_passphrase("x")):
        for mode in (RecoveryMode.STRICT, RecoveryMode.POINT_IN_TIME, RecoveryMode.SALVAGE):
            with pytest.raises(WrongKey, match="the given key is another one"):
                Reader(path, key=key, mode=mode)
        with pytest.raises(WrongKey, match="the given key is another one"):
            Writer(path, key=key, roll=roll)
    assert list(contents(path.parent)) == before


def test_a_key_is_a_seal_key(path: Path) -> None:
    for key in (b"x" * 32, "key", 1):
        with pytest.raises(OptionError, match="SealKey"):
            Writer(path, key=key)  # type: ignore[arg-type]
        with pytest.raises(OptionError, match="SealKey"):
            Reader(path, key=key)  # type: ignore[arg-type]
    assert not path.exists()


def test_a_passphrase_seals_all_segments_with_one_derivation(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("journal.format.seal_key.SCRYPT_COST_LOG2", 10)
    derived: list[int] = []
    derive = SealKey._derive

    def count(key: SealKey, cost_log2: int, salt: bytes) -> WrappingKey:
        derived.append(cost_log2)
        return derive(key, cost_log2, salt)

    monkeypatch.setattr(SealKey, "_derive", count)
    with Writer(path, key=SealKey.from_passphrase("open"), roll=RollPolicy(1)) as writer:
        for _ in range(4):
            writer.append_frame(200, SECRET)
            writer.sync()
    assert len(derived) == 1
    with Reader(path, key=SealKey.from_passphrase("open")) as reader:
        assert len(list(reader.frames())) == 4
    assert len(derived) == 2


def test_a_rolled_journal_is_sealed_in_every_segment(path: Path) -> None:
    with Writer(path, key=KEY, roll=RollPolicy(1000), compress=False) as writer:
        for _ in range(30):
            writer.append_frame(200, SECRET * 4)
            writer.sync()
    files = list(contents(path))
    assert len(files) > 2
    assert all(head_of(data).is_sealed for data in files)
    assert not any(SECRET in data for data in files)
    with Writer(path, key=KEY, roll=RollPolicy(1000)) as writer:
        assert writer.next_seq == 30
    with Reader(path, key=KEY) as reader:
        assert [frame.seq for frame in reader.frames(25)] == list(range(25, 30))
        assert reader.frame(17).payload == SECRET * 4


def test_gaps_in_the_numbers_are_visible_without_the_key(path: Path, tmp_path: Path) -> None:
    """A scan without the key finds the end of a block whose column of numbers is encrypted."""
    with Writer(tmp_path / "source") as writer:
        for _ in range(6):
            writer.append_frame(200, SECRET)
            writer.sync()
    with Reader(tmp_path / "source") as source, Writer(path, key=KEY) as writer:
        for block in itertools.islice(source.blocks(), 1, None, 2):
            writer.append_block(block)
    with Reader(path, key=KEY) as reader:
        assert [frame.seq for frame in reader.frames()] == [1, 3, 5]
    with Reader(path) as reader:
        assert reader.summary().damage == ()
        assert reader.summary().last_seq == 5


def test_a_journal_is_followed_while_it_is_written(path: Path) -> None:
    with Writer(path, key=KEY) as writer, Reader(path, key=KEY) as reader:
        frames = reader.follow(timeout_seconds=60)
        for number in range(5):
            writer.append_frame(200, SECRET + b"%d" % number)
            writer.flush()
            assert next(frames).payload == SECRET + b"%d" % number


def test_a_writer_switches_to_a_sealed_journal(path: Path, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    with Writer(path, key=KEY) as writer:
        writer.append_frame(200, SECRET)
        writer.sync()
        with Writer(beside, key=KEY, journal_id=writer.journal_id) as other:
            other.append_frame(200, SECRET)
        writer.append_frame(200, SECRET + b"2")
        writer.switch_to(beside)
        writer.append_frame(200, SECRET + b"3")
    assert read_all(path) == [SECRET, SECRET + b"2", SECRET + b"3"]
    assert not any(SECRET in data for data in contents(tmp_path))


@pytest.mark.parametrize("roll", [None, RollPolicy()])
@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
def test_a_disk_that_fails_leaves_sealed_copies(
    path: Path, roll: RollPolicy | None, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = getattr(os, call), 1

    def fail_once(*arguments: object) -> object:
        nonlocal left
        if left:
            left -= 1
            raise OSError(errno.EIO, "failed")
        return real(*arguments)

    expected = [SECRET + b"%d" % number for number in range(7)]
    with Writer(path, key=KEY, roll=roll, compress=False) as writer:
        for event in expected[:2]:
            writer.append_frame(200, event)
            writer.sync()
        for event in expected[2:5]:
            writer.append_frame(200, event)
            writer.flush()
        monkeypatch.setattr(os, call, fail_once)
        for event in expected[5:]:
            writer.append_frame(200, event)
            writer.sync()
    assert not left
    assert read_all(path) == expected
    assert not any(SECRET in data for data in contents(path.parent))


def test_kinds_of_applications_are_declared_in_a_sealed_journal(path: Path) -> None:
    @journal.application_event(tag=230)
    class Metric(events.definition.Event):
        """A number."""

        value: events.wire_types.U8

    for _ in range(2):
        with Writer(path, key=KEY, kinds=[Metric]):
            pass
    with Reader(path, key=KEY) as reader:
        assert [type(event) for event in reader] == [events.application.ApplicationKind]


def test_the_key_of_the_process_is_used_if_none_is_given(path: Path) -> None:
    with process_key():
        with Writer(path) as writer:
            writer.append_frame(200, SECRET)
        with Reader(path) as reader:
            assert [frame.payload for frame in reader.frames()] == [SECRET]
    assert SECRET not in path.read_bytes()
    PROCESS_KEYS.writing = KEY
    try:
        plain = path.with_name("plain")
        with Reader(path) as reader:
            assert len(list(reader.frames())) == 1
        PROCESS_KEYS.writing = None
        Writer(plain).close()
        PROCESS_KEYS.writing = KEY
        Reader(plain).close()  # Only a key for reading requires a seal.
    finally:
        PROCESS_KEYS.writing = None


def test_a_torn_creation_of_a_sealed_journal_is_begun_anew(path: Path) -> None:
    Writer(path, key=KEY).close()
    data = path.read_bytes()
    for size in [*range(0, len(data), 37), 127, 128, 129, len(data) - 1]:
        path.write_bytes(data[:size])
        with Writer(path, key=KEY) as writer:
            writer.append_frame(200, SECRET)
        assert read_all(path) == [SECRET]


def test_a_writer_continues_after_a_torn_write(path: Path) -> None:
    check_torn_writes(path, lambda sizes: sizes[::61])


@pytest.mark.deep
def test_a_writer_continues_after_a_torn_write_at_each_byte(path: Path, budget: Budget) -> None:
    check_torn_writes(path, lambda sizes: budget.spend(sizes, 30))


def check_torn_writes(path: Path, choose: Callable[[range], Iterable[int]]) -> None:
    """Cut a killed journal in its blocks, with and without zeros after them, and continue it."""
    with Writer(path, key=KEY, compress=False) as writer:
        for number in range(3):
            writer.append_frame(200, SECRET + b"%d" % number)
            writer.sync()
        data = path.read_bytes()[: writer.size + 512]
    ends = [stored.header.end for stored in blocks_of(data)]
    for size in choose(range(ends[0], ends[-1])):
        count = sum(end <= size for end in ends) - 1
        for zeros in (0, 4096):
            path.write_bytes(data[:size] + bytes(zeros))
            with Writer(path, key=KEY) as writer:
                assert writer.next_seq == count
                writer.append_frame(200, b"after")
            expected = [SECRET + b"%d" % number for number in range(count)]
            assert read_all(path) == [*expected, b"after"]


# -- nonces ---------------------------------------------------------------------------------------


class _Nonces:
    """All pairs of a data key and a nonce that were used, each of which must be new."""

    def __init__(self) -> None:
        self.used: set[tuple[bytes, bytes]] = set()
        self.count = 0

    def listen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        encrypt = seal_cipher.SealCipher.encrypt

        def record(cipher: seal_cipher.SealCipher, plain: bytes, context: bytes) -> bytes:
            sealed = encrypt(cipher, plain, context)
            derived = cipher._derive(sealed[:NONCE_SIZE])
            self.used.add((derived, sealed[12:NONCE_SIZE]))
            self.count += 1
            return sealed

        monkeypatch.setattr(seal_cipher.SealCipher, "encrypt", record)


STEPS = st.lists(
    st.sampled_from(["append", "sync", "close", "crash", "tear", "copy", "back", "roll"]),
    max_size=30,
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS, is_directory=st.booleans())
def test_no_nonce_is_used_twice_in_any_history(
    steps: list[str], is_directory: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, nonces = tmp_path_factory.mktemp("nonces"), _Nonces()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda _: None)
        nonces.listen(patch)
        history = _History(folder, RollPolicy(2000) if is_directory else None)
        for step in steps:
            getattr(history, step)()
        history.end()
    assert len(nonces.used) == nonces.count
    assert nonces.count
    shutil.rmtree(folder)


class _History:
    """A sealed journal with crashes, torn writes, copies that are continued, and restored ones."""

    def __init__(self, folder: Path, policy: RollPolicy | None) -> None:
        self._folder, self._policy = folder, policy
        self._path, self._copies = folder / "0", 0
        self._writer = self._open()

    def _open(self) -> Writer:
        policy = CommitPolicy.EXPLICIT
        return Writer(self._path, key=KEY, roll=self._policy, commit=policy, compress=False)

    def _copy(self) -> Path:
        self._copies += 1
        target = self._folder / str(self._copies)
        (shutil.copytree if self._policy else shutil.copy2)(self._path, target)
        return target

    def append(self) -> None:
        self._writer.append_frame(200, SECRET)
        self._writer.flush()

    def sync(self) -> None:
        self._writer.append_frame(200, SECRET)
        self._writer.sync()

    def end(self) -> None:
        self._writer.close()

    def close(self) -> None:
        """Continue in a new session."""
        self._continue(self._path)

    def _continue(self, path: Path) -> None:
        with suppress(JournalError):
            self._writer.close()
        self._path = path
        self._writer = self._open()

    def crash(self) -> None:
        """Continue what the file had before the writer closed it."""
        self._continue(self._copy())

    def tear(self) -> None:
        """Continue after a write of which the last bytes are missing."""
        self._writer.append_frame(200, SECRET)
        self._writer.flush()
        target = self._copy()
        file = sorted(target.iterdir())[-1] if self._policy else target
        data = file.read_bytes().rstrip(b"\0")
        file.write_bytes(data[: max(376, len(data) - 9)])
        self._continue(target)

    def copy(self) -> None:
        """Continue two copies of the same state."""
        first, second = self._copy(), self._copy()
        self._continue(first)
        self.sync()
        self._continue(second)
        self.sync()

    def back(self) -> None:
        """Continue an old state, as after a restored backup."""
        old = self._copy()
        self.sync()
        self._continue(old)

    def roll(self) -> None:
        self._writer.append_frame(200, SECRET * 100)
        self._writer.sync()

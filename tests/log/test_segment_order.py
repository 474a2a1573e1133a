"""Segments of a directory that are foreign, repeated, missing or in another order.

Readers, verification, summaries, recovery and writers agree that the journal is damaged.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from journal import FormatError, JournalError, Reader, Verifier, Writer
from journal.log import Debris, RecoveryMode, RollPolicy
from journal.operations.salvage import salvage
from tests.support.command_line import run_inside

COUNT = 70
Change = Callable[[list[Path], list[Path]], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a"


@pytest.fixture
def segments(tmp_path: Path) -> list[Path]:
    return fill(tmp_path / "a")


@pytest.fixture
def others(tmp_path: Path) -> list[Path]:
    return fill(tmp_path / "b")


def fill(path: Path) -> list[Path]:
    with Writer(path, roll=RollPolicy(2000)) as writer:
        for number in range(COUNT):
            writer.append_frame(200, path.name.encode() + b"%04d" % number + bytes(100))
            if number % 3 == 2:
                writer.sync()
    segments = sorted(path.glob("*.journal"))
    assert len(segments) > 4
    return segments


def swap(first: Path, second: Path) -> None:
    between = first.with_name("between")
    first.rename(between)
    second.rename(first)
    between.rename(second)


CHANGES: dict[str, Change] = {
    "the first of another as the last": lambda own, other: shutil.copy(other[0], own[-1]),
    "the last of another as the last": lambda own, other: shutil.copy(other[-1], own[-1]),
    "one of another in the middle": lambda own, other: shutil.copy(other[2], own[2]),
    "the first of another in the middle": lambda own, other: shutil.copy(other[0], own[2]),
    "the first of another as the first": lambda own, other: shutil.copy(other[0], own[0]),
    "the first of another behind the last": lambda own, other: shutil.copy(
        other[0], own[-1].with_name("0000000099.journal")
    ),
    "one of another behind the last": lambda own, other: shutil.copy(
        other[1], own[-1].with_name("0000000099.journal")
    ),
    "the first again as the last": lambda own, _: shutil.copy(own[0], own[-1]),
    "the first again behind the last": lambda own, _: shutil.copy(
        own[0], own[-1].with_name("0000000099.journal")
    ),
    "the last again behind the last": lambda own, _: shutil.copy(
        own[-1], own[-1].with_name("0000000099.journal")
    ),
    "one again in the place of the next": lambda own, _: shutil.copy(own[1], own[2]),
    "one again as the last": lambda own, _: shutil.copy(own[1], own[-1]),
    "two in the other order": lambda own, _: swap(own[1], own[2]),
    "the last two in the other order": lambda own, _: swap(own[-2], own[-1]),
    "the first two in the other order": lambda own, _: swap(own[0], own[1]),
    "one missing": lambda own, _: own[2].unlink(),
    "the first missing": lambda own, _: own[0].unlink(),
    "other bytes as the last": lambda own, _: own[-1].write_bytes(b"something else"),
    "nothing as the last": lambda own, _: own[-1].write_bytes(b""),
    "other bytes in the middle": lambda own, _: own[2].write_bytes(b"something else"),
}

DAMAGED = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


def read(path: Path, mode: RecoveryMode) -> list[bytes]:
    with Reader(path, mode=mode) as reader:
        return [bytes(frame.payload[:1]) for frame in reader.frames()]


@DAMAGED
def test_readers_verification_and_writers_report_it(
    path: Path, segments: list[Path], others: list[Path], change: Change
) -> None:
    change(segments, others)
    before = {file: file.read_bytes() for file in path.iterdir()}
    for mode in (RecoveryMode.STRICT, RecoveryMode.TOLERATE_TAIL, RecoveryMode.POINT_IN_TIME):
        with pytest.raises(FormatError):
            read(path, mode)
        with pytest.raises(FormatError), Reader(path, mode=mode) as reader:
            list(reader.backward())
        with pytest.raises(JournalError):
            Writer(path, mode=mode)
    with Reader(path, mode=RecoveryMode.SALVAGE) as reader:
        list(reader.frames())
        assert reader.losses
        assert reader.summary().damage
        assert list(reader.verify())
    verifier = Verifier(path)
    assert [finding for finding in verifier.run() if not isinstance(finding, Debris)]
    assert {file: file.read_bytes() for file in path.iterdir()} == before


@DAMAGED
def test_recovery_takes_no_event_of_another_journal(
    path: Path, segments: list[Path], others: list[Path], change: Change
) -> None:
    with Reader(path) as reader:
        whole = {frame.seq: bytes(frame.payload) for frame in reader.frames()}
    is_first_foreign = change is CHANGES["the first of another as the first"]
    change(segments, others)
    result = salvage(path, path.with_name("target"))
    assert not result.is_whole
    with Reader(path.with_name("target")) as reader:
        kept = {frame.seq: bytes(frame.payload) for frame in reader.frames()}
    assert kept.items() <= whole.items() or is_first_foreign
    # The first file decides which journal it is: all others are then foreign.
    assert {payload[:1] for payload in kept.values()} == ({b"b"} if is_first_foreign else {b"a"})


@DAMAGED
def test_the_commands_report_it(
    path: Path, segments: list[Path], others: list[Path], change: Change
) -> None:
    change(segments, others)
    done = run_inside("verify", "a", at=path.parent)
    assert done.returncode == 3
    done = run_inside("info", "--json", "a", at=path.parent)
    assert json.loads(done.stdout)["damage"]
    done = run_inside("recover", "a", "target", at=path.parent)
    assert done.returncode == 3
    assert run_inside("inspect", "a", at=path.parent).returncode in (1, 3, 5, 6)


def test_an_event_of_a_replaced_segment_is_lost(
    path: Path, segments: list[Path], others: list[Path]
) -> None:
    shutil.copy(others[0], segments[-1])
    with Reader(path) as reader:
        with pytest.raises(FormatError, match="it is not the first of its directory"):
            reader.frame(COUNT - 1)
        assert reader.frame(0).payload[:1] == b"a"

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from journal.errors import JournalError, LostAcknowledged
from journal.format.block import BLOCK_HEADER_SIZE
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.log.reader import Reader
from journal.log.writer import Writer
from tests.support.budget import Budget
from tests.support.journals import read_rows, write_stories

CHILD = """
import random, sys
from journal.log.writer import Writer
rng = random.Random(int(sys.argv[2]))
with Writer(sys.argv[1], compress=rng.random() < 0.5) as writer:
    while True:
        for _ in range(rng.randrange(40)):
            size = rng.choice((0, 10, 300, 30_000))
            seq = writer.next_seq
            writer.append_frame(1 + seq % 254, seq.to_bytes(8) + bytes(size))
        if rng.random() < 0.2:
            writer.flush()
        else:
            writer.sync()
            print(writer.durable_upto, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def kill_at_random(path: Path, seed: int, seconds: float) -> int:
    """Start a writing process and kill it; return the end of the acknowledged numbers."""
    command = [sys.executable, "-c", CHILD, str(path), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        assert first, "the child could not write"
        time.sleep(seconds)
        child.kill()
        lines = [first, *child.stdout.read().splitlines(keepends=True)]
    assert child.returncode == -signal.SIGKILL
    return max(int(line) for line in lines if line.endswith("\n"))


def kill_and_check(path: Path, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(rounds):
        acknowledged = kill_at_random(path, rng.randrange(1 << 30), rng.random() * 0.05)
        with Reader(path) as reader:
            frames = list(reader.frames())
            assert reader.summary().damage == ()
        assert len(frames) >= acknowledged, f"round {number}"
        for seq, frame in enumerate(frames):
            assert (frame.seq, frame.tag) == (seq, 1 + seq % 254)
            assert int.from_bytes(frame.payload[:8]) == seq


def test_a_killed_writer_loses_nothing_that_it_acknowledged(path: Path) -> None:
    kill_and_check(path, 5, seed=1)


@pytest.mark.deep
def test_a_writer_killed_often_loses_nothing_that_it_acknowledged(
    tmp_path: Path, budget: Budget
) -> None:
    for seed in budget.spend(range(20), 2):
        kill_and_check(tmp_path / f"{seed}.journal", 10 if budget.seconds else 30, seed)


def torn(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:-size])


def test_debris_is_explained_again_and_again(path: Path) -> None:
    expected = []
    for number in range(12):
        kept, lost = (1, b"kept %d" % number), (2, b"lost %d" % number * number)
        with Writer(path) as writer:
            writer.append_frame(*kept)
            writer.sync()
            expected.append(kept)
            if number % 3:
                writer.append_frame(*lost)
                writer.sync()
        torn(path, BLOCK_HEADER_SIZE + number + 1 if number % 3 else number + 1)
        assert read_rows(path) == expected
    Writer(path).close()
    with Reader(path) as reader:
        summary = reader.summary()
        assert len(summary.debris) == 11
        assert summary.torn_size
        assert summary.damage == ()
        assert list(reader.verify(decode=False)) == []
        assert [frame.seq for frame in reader.frames()] == list(range(12))


def test_a_crash_right_behind_a_recovery_is_recovered_from_too(path: Path) -> None:
    data = write_stories(path, [(1, b"a")], [(2, b"bbb")])
    second = len(data) - BLOCK_HEADER_SIZE - 120
    path.write_bytes(data[: second + 115])  # The header is complete, the body is not.
    with Writer(path) as writer:
        writer.append_frame(3, b"ccc")
        writer.sync()
    cut = path.read_bytes()
    start = cut.rindex(b"ccc")
    path.write_bytes(
        cut[: start + 1]
    )  # The recovery marker that explained the debris is itself torn.
    assert read_rows(path) == [(1, b"a")]
    with Writer(path) as writer:
        assert writer.append_frame(4, b"d") == 1
    assert read_rows(path) == [(1, b"a"), (4, b"d")]
    with Reader(path) as reader:
        assert reader.summary().damage == ()
        assert reader.summary().torn_size == 0


def tail_of(path: Path) -> int:
    """Return the end of the last whole block: an open writer has zeros after it."""
    with Reader(path) as reader:
        return reader.tail


def three_unsynced(path: Path) -> tuple[bytes, list[int]]:
    """Write a journal with one synced block and three flushed ones; return their ends."""
    writer = Writer(path)
    writer.append_frame(1, b"safe")
    writer.sync()
    ends = [tail_of(path)]
    for name in (b"one" * 9, b"two" * 9, b"three" * 9):
        writer.append_frame(1, name)
        writer.flush()
        ends.append(tail_of(path))
    data = path.read_bytes()[: ends[-1]]
    writer.close()
    return data, ends


@pytest.mark.parametrize("body_only", [False, True])
def test_blocks_that_reached_the_disk_out_of_order_are_left_behind(
    path: Path, body_only: bool
) -> None:
    data, ends = three_unsynced(path)
    start = ends[0] + (BLOCK_HEADER_SIZE if body_only else 0)
    broken = data[:start] + bytes(ends[1] - start) + data[ends[1] :]
    path.write_bytes(broken)
    with pytest.raises(JournalError) as caught:
        read_rows(path)
    assert not getattr(caught.value, "acknowledged", True)
    with Writer(path) as writer:
        assert writer.next_seq == writer.durable_upto == 1
        assert read_rows(path) == [
            (1, b"safe")
        ]  # The marker is written immediately, before any append.
        writer.append_frame(1, b"again")
    assert path.read_bytes().startswith(broken)
    assert read_rows(path) == [(1, b"safe"), (1, b"again")]
    with Reader(path) as reader:
        assert reader.summary().debris == ((ends[0], len(broken) - ends[0]),)
        assert reader.summary().events == 2
        assert [frame.seq for frame in reader.frames(1)] == [1]


def test_any_subset_of_what_was_not_synced_may_reach_the_disk(path: Path) -> None:
    data, ends = three_unsynced(path)
    rng = random.Random(5)
    for _ in range(300):
        state = bytearray(data[: ends[0]])
        for at in range(ends[0], len(data), 16):
            state += data[at : at + 16] if rng.random() < 0.8 else bytes(16)
        path.write_bytes(state[: rng.randrange(ends[0], len(state))])
        with Writer(path) as writer:
            seq = writer.append_frame(7, b"new")
        rows = read_rows(path)
        assert rows[0] == (1, b"safe")
        assert rows[-1] == (7, b"new")
        assert len(rows) == seq + 1
        assert rows[1:-1] == [(1, b"one" * 9), (1, b"two" * 9), (1, b"three" * 9)][: seq - 1]


def test_damage_below_a_later_sync_is_refused_by_a_writer(path: Path) -> None:
    data = write_stories(path, [(1, b"a" * 50)], [(1, b"b")], [(1, b"c")])
    at = SEGMENT_HEADER_SIZE + 20
    path.write_bytes(data[:at] + b"?" + data[at + 1 :])
    with pytest.raises(LostAcknowledged) as caught:
        Writer(path)
    assert (caught.value.offset, caught.value.acknowledged) == (SEGMENT_HEADER_SIZE, True)


def test_readers_beside_a_live_writer_never_stumble(path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(path), "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline()
            looks = seen = 0
            with Reader(path) as reader:
                while looks < 15 or not seen:
                    looks += 1
                    frames = list(reader.frames(seen))
                    assert [frame.seq for frame in frames] == list(range(seen, seen + len(frames)))
                    seen += len(frames)
                    assert reader.summary().damage == ()
                    assert list(reader.verify(decode=False)) == []
                    child.stdout.readline()
            assert seen
        finally:
            child.kill()

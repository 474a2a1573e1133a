"""Online compaction: appended events, and their states, are preserved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import OptionError, Reader, Writer
from journal.adapters import CompactingLog
from journal.compaction import CompactionSchedule, RetentionPolicy
from journal.compaction.online import BackgroundCompactor, OnlineCompactionResult, compact_online
from journal.compaction.schedule import GrowthMeter
from journal.compaction.worker_process import WorkerFailed, compact_in_worker
from journal.errors import JournalError
from journal.log import RollPolicy
from tests.support.budget import Budget
from tests.support.compaction_histories import (
    START,
    frames_of,
    history,
    kept_of,
    states_of,
    write_story,
)
from tests.support.deadlines import wait_until
from tests.support.scheduled_writers import begin, overwriting

STORY = history(5, 200, 15)


@pytest.mark.parametrize("roll", [None, RollPolicy(1 << 11)], ids=["file", "directory"])
def test_a_journal_is_compacted_beside_its_writer_which_goes_on(
    tmp_path: Path, roll: RollPolicy | None
) -> None:
    half = len(STORY) // 2
    path, plain = tmp_path / "j", write_story(tmp_path / "plain", STORY)
    moment = START
    with Writer(path, roll=roll, clock=lambda: moment) as writer:
        for tag, payload, moment in STORY[:half]:  # noqa: B007 (the clock reads it)
            writer.append_frame(tag, payload)
        found = compact_online(writer, policy=RetentionPolicy(keep_last=2))
        assert found.switchover is not None
        for tag, payload, moment in STORY[half:]:  # noqa: B007
            writer.append_frame(tag, payload)
        again = compact_online(writer, policy=RetentionPolicy(keep_last=2))
        assert again.switchover is not None
        assert compact_online(writer, policy=RetentionPolicy(keep_last=2)).switchover is None, (
            "nothing goes"
        )
        assert writer.next_seq == len(STORY)
    kept = kept_of(frames_of(path))
    assert kept == list(again.compaction.snapshots)
    assert states_of(frames_of(path), kept) == states_of(frames_of(plain), kept)
    assert len(frames_of(path)) < len(STORY)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["j", "plain"]


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 5000)), max_size=40),
    st.none() | st.integers(1, 300),
    st.none() | st.integers(1, 20000),
    st.none() | st.floats(1.01, 4),
    st.integers(1, 4000),
)
def test_a_meter_says_when_as_a_plain_count_would(
    steps: list[tuple[int, int]],
    every_events: int | None,
    every_size: int | None,
    factor: float | None,
    size_min: int,
) -> None:
    schedule = CompactionSchedule(
        every_events=every_events, every_size=every_size, factor=factor, size_min=size_min
    )
    meter, next_seq, written = GrowthMeter(schedule, 7, 100), 7, 0
    events, size, base = 0, 0, 100
    for more_events, more in steps:
        next_seq, written = next_seq + more_events, written + more
        events, size = events + more_events, size + more
        wanted = (
            (every_events is not None and events >= every_events)
            or (every_size is not None and size >= every_size)
            or (factor is not None and base + size >= factor * max(base, size_min))
        )
        assert meter.is_due(next_seq, written) == wanted
        if wanted:
            base = (base + size) // 2
            meter.reset(next_seq, written, base)
            events = size = 0
            assert not meter.is_due(next_seq, written), "not twice for the same"


@pytest.mark.parametrize(
    "wishes", [{"every_events": 0}, {"every_size": -1}, {"factor": 1.0}, {"size_min": 0}]
)
def test_what_cannot_be_wished_is_refused(wishes: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        CompactionSchedule(**wishes)  # type: ignore[arg-type]


def test_a_log_file_is_compacted_as_it_grows_and_not_by_its_first_writes(tmp_path: Path) -> None:
    path, told = tmp_path / "j", list[OnlineCompactionResult | JournalError]()
    schedule = CompactionSchedule(factor=2, size_min=1 << 17, on_close=True)
    with CompactingLog(path, schedule, report=told.append, compress=False) as log:
        count = begin(log)
        overwriting(log, 20)
        assert not told
        for nth in (1, 2, 3):
            overwriting(log, 80)
            wait_until(lambda n=nth: log.compactions >= n)  # type: ignore[misc]
    assert all(isinstance(found, OnlineCompactionResult) for found in told), told
    assert path.stat().st_size < 1 << 16
    assert [entry.name for entry in tmp_path.iterdir()] == ["j"]
    frames = frames_of(path)
    assert frames[-1].seq == count + 20 + 3 * 80 - 1
    assert all(one.seq < other.seq for one, other in pairwise(frames))


def test_what_cannot_be_compacted_stays_and_is_told_and_tried_again(tmp_path: Path) -> None:
    path, told = tmp_path / "j", list[OnlineCompactionResult | JournalError]()
    with Writer(path, compress=False) as writer:
        count = begin(writer)
        overwriting(writer, 40)
        with BackgroundCompactor(
            writer, CompactionSchedule(every_events=50), report=told.append
        ) as compactor:
            path.chmod(0)  # unreadable except for root
            good = path.read_bytes()[:200] if os.geteuid() == 0 else b""
            damaged = bytearray(good)
            if good:
                damaged[150] ^= 1
                with path.open("r+b") as file:
                    file.write(damaged)
            overwriting(writer, 60)
            wait_until(lambda: bool(told))
            assert isinstance(told[0], WorkerFailed)
            path.chmod(0o600)
            if good:
                with path.open("r+b") as file:
                    file.write(good)
            overwriting(writer, 60)
            wait_until(lambda: compactor.count > 0)
        assert writer.next_seq == count + 160
    assert frames_of(path)[-1].seq == count + 159


def test_a_compaction_apart_is_given_up_and_leaves_nothing(tmp_path: Path) -> None:
    path, stop = write_story(tmp_path / "j", STORY), threading.Event()
    stop.set()
    with pytest.raises(WorkerFailed, match="cancelled"):
        compact_in_worker(path, tmp_path / "target", RetentionPolicy(), None, stop)
    assert [entry.name for entry in tmp_path.iterdir()] == ["j"]


def test_a_compaction_apart_says_in_a_sentence_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"no journal " * 99)
    with pytest.raises(WorkerFailed, match="no segment") as caught:
        compact_in_worker(tmp_path / "text", tmp_path / "target", RetentionPolicy())
    assert "\n" not in str(caught.value)


_WRITER = """
import os
import sys
from journal.compaction import CompactionSchedule, OnlineCompactionResult
from journal.adapters import CompactingLog
from tests.support.scheduled_writers import begin, overwriting

def report(found):
    os.write(1, b"-1\\n" if isinstance(found, OnlineCompactionResult) else b"-2\\n")

schedule = CompactionSchedule(every_events=200)
with CompactingLog(sys.argv[1], schedule, report=report, compress=False) as log:
    begin(log)
    while True:
        overwriting(log, 16)
        log.sync()
        os.write(1, b"%d\\n" % log.next_seq)
"""


@pytest.mark.deep
def test_a_writer_that_is_killed_while_its_journal_is_compacted_keeps_what_it_promised(
    tmp_path: Path, budget: Budget
) -> None:
    compacted = 0
    for trial in budget.spend(range(24), 6):
        path = tmp_path / f"{trial}"
        command = [sys.executable, "-c", _WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said, wanted, behind = [0], 1 + trial % 3, 40 * (trial % 8)
            for line in process.stdout:
                said.append(int(line))
                wanted, behind = wanted - (said[-1] == -1), behind - (wanted <= 0)
                if wanted <= 0 and behind <= 0:
                    break
            process.send_signal(signal.SIGKILL)
            # The last line may be incomplete.
            said += map(int, process.stdout.read().splitlines()[:-1])
        assert -2 not in said
        found = frames_of(path)
        assert found[-1].seq >= max(said) - 1
        compacted += len(found) < found[-1].seq
        with Reader(path) as reader:
            assert not list(reader.verify())
    assert compacted == budget.tried

"""Times of events: they follow the clock that tells them, forward and back."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.events.core import ProcessExit
from journal.format.block import TIME_SPAN_MAX
from journal.log import clock as log_clock
from journal.log.reader import Reader
from journal.log.roll_policy import RollPolicy
from journal.log.writer import Writer

HOUR = 3_600_000_000
NOW = 1_800_000_000_000_000
FUTURE = NOW + 24 * 365 * HOUR


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


def ticking(*times: int) -> Callable[[], int]:
    """Return a clock with these times, which starts with a reading for the segment header."""
    return iter([times[0], *times]).__next__


def times_in(path: Path) -> list[int]:
    with Reader(path) as reader:
        assert list(reader.verify()) == []
        return [frame.time for frame in reader.frames()]


def segments(path: Path) -> int:
    return len(list(path.iterdir()))


def write_times(path: Path, *times: int) -> None:
    with Writer(path, clock=ticking(*times)) as writer:
        for _ in times:
            writer.append(ProcessExit(exit_code=0))


class SystemClocks:
    """Clocks of a system that a test can suspend, and whose real-time clock it can set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real, self.steady = NOW * 1000, 5_000_000
        monkeypatch.setattr(log_clock, "time", self)

    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def time_ns(self) -> int:
        return self.real

    def clock_gettime_ns(self, clock: int) -> int:
        assert clock == time.CLOCK_BOOTTIME
        return self.steady

    def pass_time(self, microseconds: int) -> None:
        """Let time pass, also that of a suspended machine."""
        self.real += microseconds * 1000
        self.steady += microseconds * 1000

    def set_forward(self, microseconds: int) -> None:
        """Set the real-time clock."""
        self.real += microseconds * 1000


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> SystemClocks:
    return SystemClocks(monkeypatch)


@pytest.mark.parametrize("flushed", [False, True], ids=["in one block", "in a block each"])
def test_times_follow_the_real_time_clock_when_it_is_set(
    path: Path, clocks: SystemClocks, flushed: bool
) -> None:
    expected = []
    with Writer(path) as writer:
        for step in (0, HOUR, -2 * HOUR, 3 * HOUR, -1):
            clocks.set_forward(step)
            writer.append_frame(1, b"")
            expected.append(clocks.real // 1000)
            assert writer.time == expected[-1]
            if flushed:
                writer.flush()
                assert writer.time == expected[-1]
    assert times_in(path) == expected


def test_times_follow_the_real_time_clock_across_a_suspend(
    path: Path, clocks: SystemClocks
) -> None:
    with Writer(path) as writer:
        writer.append_frame(1, b"")
        clocks.pass_time(8 * HOUR)  # The monotonic clock stands still meanwhile.
        writer.append_frame(1, b"")
        assert writer.append_many([(1, b"")] * 3) == range(2, 5)
    assert times_in(path) == [NOW] + [NOW + 8 * HOUR] * 4


def test_a_session_with_a_clock_in_the_future_shifts_no_later_session(
    path: Path, clocks: SystemClocks
) -> None:
    write_times(path, FUTURE, FUTURE + 5)
    with Writer(path) as writer:
        assert writer.time == FUTURE + 5
        writer.append_frame(1, b"")
        clocks.pass_time(HOUR)
        writer.append_frame(1, b"")
    assert times_in(path) == [FUTURE, FUTURE + 5, NOW, NOW + HOUR]
    with Writer(path) as writer:
        assert writer.time == NOW + HOUR


def test_the_time_of_the_last_event_is_found_before_a_segment_without_events(path: Path) -> None:
    with Writer(path, roll=RollPolicy(1 << 10), clock=lambda: NOW) as writer:
        writer.append_frame(1, os.urandom(1 << 11))
        writer.sync()
    assert segments(path) == 2
    with Writer(path, clock=lambda: 5) as writer:
        assert writer.time == NOW
        writer.append_frame(1, b"later")
        assert writer.time == 5
    assert times_in(path) == [NOW, 5]


def test_times_too_far_apart_for_one_block_take_two(path: Path) -> None:
    times = [5, 10, 11 + TIME_SPAN_MAX, 12 + TIME_SPAN_MAX, 1 << 50]
    write_times(path, *times)
    assert times_in(path) == times
    with Reader(path) as reader:
        assert len(list(reader.blocks())) == 3


def test_a_time_that_no_journal_can_store_is_replaced_by_the_nearest(path: Path) -> None:
    write_times(path, 7, -5, 1 << 70)
    assert times_in(path) == [7, 0, (1 << 63) - 1]


def test_a_clock_that_is_set_all_the_time_does_not_fill_the_reserve(path: Path) -> None:
    times = [NOW - number * HOUR for number in range(200)]
    write_times(path, *times)
    found = times_in(path)
    with Reader(path) as reader:
        blocks = len(list(reader.blocks()))
    assert blocks <= 64
    assert found == times[:blocks] + [times[blocks - 1]] * (200 - blocks)


@given(st.lists(st.integers(0, 3 * TIME_SPAN_MAX), min_size=1, max_size=60))
def test_each_block_takes_as_many_times_as_it_can_store(times: list[int]) -> None:
    count = log_clock.count_for_one_block(times)
    assert count >= 1
    block, rest = times[:count], times[count:]
    assert block == sorted(block)
    assert block[-1] - block[0] <= TIME_SPAN_MAX
    assert not rest or rest[0] < block[-1] or rest[0] - block[0] > TIME_SPAN_MAX
    fitted = log_clock.fit_into_one_block(times)
    assert log_clock.count_for_one_block(fitted) == len(times)
    assert fitted[:count] == block


# -- the age of segments --------------------------------------------------------------------------


def append_and_sync(writer: Writer) -> None:
    writer.append_frame(1, b"x")
    writer.sync()


@pytest.mark.parametrize("step", [-24 * HOUR, 24 * HOUR])
def test_the_age_of_a_segment_does_not_depend_on_steps_of_the_clock(
    path: Path, clocks: SystemClocks, step: int
) -> None:
    with Writer(path, roll=RollPolicy(age_seconds=3600.0)) as writer:
        append_and_sync(writer)
        clocks.set_forward(step)
        clocks.pass_time(HOUR - 1)
        append_and_sync(writer)
        assert segments(path) == 1
        clocks.pass_time(1)
        append_and_sync(writer)
        assert segments(path) == 2
        clocks.pass_time(HOUR)
        append_and_sync(writer)
        assert segments(path) == 3


def test_a_segment_grows_old_between_sessions_and_one_from_the_future_begins_anew(
    path: Path, clocks: SystemClocks
) -> None:
    roll = RollPolicy(age_seconds=3600.0)
    with Writer(path, roll=roll) as writer:
        append_and_sync(writer)
    clocks.pass_time(HOUR)
    with Writer(path, roll=roll) as writer:
        append_and_sync(writer)
        assert segments(path) == 2
    clocks.set_forward(-24 * HOUR)
    with Writer(path, roll=roll) as writer:
        append_and_sync(writer)
        assert segments(path) == 2
        clocks.pass_time(HOUR)
        append_and_sync(writer)
        assert segments(path) == 3

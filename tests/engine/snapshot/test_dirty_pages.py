"""Tests of dirty pages: kernel tracking and comparison agree with a plain comparison."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal.engine.memory import dirty_pages
from journal.engine.memory.dirty_pages import (
    PAGE_SIZE,
    ComparedDirtyPages,
    DirtyPageTracking,
    KernelDirtyPages,
    track_dirty_pages,
)
from journal.errors import EngineError, OptionError
from tests.support.dirty_pages import PAGES_MAX, memory, pages, why_not_by_kernel

needs_kernel = pytest.mark.skipif(bool(why_not_by_kernel()), reason=why_not_by_kernel())
WAYS = pytest.mark.parametrize(
    "make",
    [pytest.param(KernelDirtyPages, marks=needs_kernel), ComparedDirtyPages],
    ids=["kernel", "compare"],
)
Make = type[KernelDirtyPages | ComparedDirtyPages]


Write = tuple[int, int, bytes]
WRITES = st.lists(
    st.tuples(st.integers(0, PAGES_MAX - 1), st.integers(0, PAGE_SIZE - 1), st.binary(max_size=9))
)
#: Written pages, and the number of pages after the next growth.
STEPS = st.lists(st.tuples(WRITES, st.integers(0, PAGES_MAX)), min_size=1, max_size=6)


@needs_kernel
@given(STEPS, st.integers(1, PAGES_MAX))
@settings(max_examples=60)
def test_all_ways_agree(steps: list[tuple[list[Write], int]], count: int) -> None:
    with memory() as ours:
        kernel = ours.watched_by(KernelDirtyPages, count * PAGE_SIZE)
        comparing = ours.watched_by(ComparedDirtyPages, count * PAGE_SIZE)
        try:
            before = [ours.page(number) for number in range(PAGES_MAX)]
            for writes, grown in steps:
                count = max(count, grown)
                touched = set()
                for page, offset, data in writes:
                    at = page % count * PAGE_SIZE + offset
                    end = min(at + len(data), count * PAGE_SIZE)
                    ours.bytes[at:end] = data[: end - at]
                    touched |= set(range(at // PAGE_SIZE, -(-end // PAGE_SIZE)))
                now = [ours.page(number) for number in range(PAGES_MAX)]
                changed = [n for n in range(PAGES_MAX) if now[n] != before[n]]
                told = pages(kernel.take(count * PAGE_SIZE))
                assert pages(comparing.take(count * PAGE_SIZE)) == changed
                assert set(changed) <= set(told) <= touched
                assert told == sorted(told)
                before = now
        finally:
            kernel.close()
            comparing.close()


@WAYS
def test_what_stood_there_before_is_not_written(make: Make) -> None:
    with memory() as ours:
        ours.bytes[:] = b"x" * len(ours.bytes)
        watched = ours.watched_by(make, len(ours.bytes))
        assert watched.take(len(ours.bytes)) == []
        ours.bytes[5 * PAGE_SIZE] = 1
        ours.bytes[6 * PAGE_SIZE] = 1
        ours.bytes[20 * PAGE_SIZE + 4095] = 1
        assert watched.take(len(ours.bytes)) == [(5, 7), (20, 21)]
        assert watched.take(len(ours.bytes)) == []
        watched.close()


@WAYS
def test_what_grows_is_watched_from_then_on(make: Make) -> None:
    with memory() as ours:
        watched = ours.watched_by(make, 2 * PAGE_SIZE)
        ours.bytes[3 * PAGE_SIZE] = 1
        assert watched.take(8 * PAGE_SIZE) == [(3, 4)]
        ours.bytes[7 * PAGE_SIZE] = 1
        ours.bytes[0] = 1
        assert watched.take(8 * PAGE_SIZE) == [(0, 1), (7, 8)]
        assert watched.take(80 * PAGE_SIZE) == []
        watched.close()


@WAYS
def test_more_runs_than_are_told_at_once_are_all_told(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dirty_pages, "_RANGES_MAX", 4)
    with memory() as ours:
        watched = ours.watched_by(make, len(ours.bytes))
        wanted = list(range(0, PAGES_MAX, 2))
        for page in wanted:
            ours.bytes[page * PAGE_SIZE] = 1
        assert pages(watched.take(len(ours.bytes))) == wanted
        assert watched.take(len(ours.bytes)) == []
        watched.close()


@needs_kernel
def test_without_privilege_the_kernel_tells_too() -> None:
    """Run a child process as user nobody."""
    program = """
import ctypes, os
from tests.support.dirty_pages import KernelDirtyPages, PAGE_SIZE, memory
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: the process owns /proc/self again.
with memory() as ours:
    watched = KernelDirtyPages(ours.address, 8 * PAGE_SIZE)
    ours.bytes[PAGE_SIZE] = 1
    print(watched.collect(8 * PAGE_SIZE))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[(1, 2)]\n", done.stderr


def test_where_the_kernel_cannot_the_choice_falls_on_comparing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> int:
        raise OSError("not here")

    monkeypatch.setattr(dirty_pages, "_open_userfaultfd", refuse)
    with memory() as ours:
        watched = track_dirty_pages(ours.address, 8 * PAGE_SIZE, ours.address)
        assert isinstance(watched, ComparedDirtyPages)
        watched.close()
        with pytest.raises(EngineError, match="the kernel cannot track dirty pages"):
            track_dirty_pages(ours.address, 8 * PAGE_SIZE, 0, DirtyPageTracking.KERNEL)


def test_only_whole_pages_are_watched() -> None:
    with memory() as ours, pytest.raises(OptionError, match="whole pages"):
        track_dirty_pages(ours.address, PAGE_SIZE + 1, 0)

"""A memory that returns to its image, whichever pages were written since the last return."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal.engine.memory.dirty_pages import PAGE_SIZE, DirtyPageTracking
from journal.engine.memory.mapping import MappedImage
from journal.engine.memory.resettable import HOT_PAGES_MAX, ResettableMemory

PAGES = 3 * HOT_PAGES_MAX
SIZE = PAGES * PAGE_SIZE
WHOLE = SIZE
"""A limit of private bytes that is never reached."""


@pytest.fixture(scope="module")
def image() -> Iterator[MappedImage]:
    """Return an image whose pages all differ."""
    fd = os.memfd_create("image")
    os.truncate(fd, SIZE)
    for number in range(PAGES):
        os.pwrite(fd, b"page %d" % number, number * PAGE_SIZE)
    image = MappedImage(SIZE, fd, 0)
    yield image
    image.close()
    os.close(fd)


@pytest.fixture(params=[DirtyPageTracking.AUTO, DirtyPageTracking.COMPARE])
def tracking(request: pytest.FixtureRequest) -> DirtyPageTracking:
    tracking: DirtyPageTracking = request.param
    return tracking


class Written:
    """A memory of this process, written page by page, and its return to the image."""

    def __init__(self, image: MappedImage, tracking: DirtyPageTracking, private_size: int) -> None:
        self.map = mmap.mmap(-1, SIZE)
        self._byte = ctypes.c_char.from_buffer(self.map)
        self._expected = image.view.tobytes()
        address = ctypes.addressof(self._byte)
        self.memory = ResettableMemory(address, image, tracking, private_size)

    def write(self, pages: Iterator[int] | range | list[int]) -> None:
        for number in pages:
            self.map[number * PAGE_SIZE + 100] = 0xAA

    def check_return(self) -> None:
        self.memory.reset()
        assert self.map[:] == self._expected

    def count_private(self) -> int:
        """Return how many pages of the memory are copies of its own, by /proc/self/pagemap."""
        entry_size, is_file = 8, 1 << 61
        first = ctypes.addressof(self._byte) // PAGE_SIZE
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            data = os.pread(pagemap.fileno(), PAGES * entry_size, first * entry_size)
        entries = memoryview(data).cast("Q")
        return sum(1 for entry in entries if entry >> 62 and not entry & is_file)

    def close(self) -> None:
        self.memory.close()
        del self._byte
        self.map.close()


@pytest.fixture
def written(image: MappedImage, tracking: DirtyPageTracking) -> Iterator[Written]:
    written = Written(image, tracking, WHOLE)
    yield written
    written.close()


def test_the_same_pages_return_again_and_again(written: Written) -> None:
    for _ in range(6):
        written.write(range(3, 40, 2))
        written.check_return()


def test_pages_that_are_hot_by_chance_return_with_new_ones(written: Written) -> None:
    choice = random.Random(0)
    for turn in range(8):
        written.write(range(10, 20))
        written.write([choice.randrange(PAGES) for _ in range(turn * 40)])
        written.check_return()


def test_more_pages_than_can_be_hot_return(written: Written) -> None:
    for _ in range(4):
        written.write(range(0, PAGES, 2))
        written.check_return()
        written.write(range(5))
        written.check_return()


def test_a_memory_that_was_written_much_is_mapped_anew(
    image: MappedImage, tracking: DirtyPageTracking
) -> None:
    written = Written(image, tracking, 50 * PAGE_SIZE)
    for first in range(0, 160, 40):
        written.write(range(first, first + 40))
        written.check_return()
    written.write(range(PAGES))
    written.check_return()
    assert written.count_private() <= 50
    written.close()


def test_the_kernel_or_the_comparison_counts_the_pages(written: Written) -> None:
    written.write([7, 8, 900])
    assert written.memory.reset() == 3

"""Return of a memory to the bytes of an image, at the cost of the pages that were written."""

import ctypes
from contextlib import suppress

from journal.engine.memory.dirty_pages import (
    PAGE_SIZE,
    ComparedDirtyPages,
    DirtyPageTracking,
    KernelDirtyPages,
    PageRange,
)
from journal.engine.memory.mapping import MappedImage, map_over
from journal.errors import EngineError

HOT_PAGES_MAX = 2048
"""Largest number of pages that are copied back without asking whether they were written."""
_HOT_GAP_PAGES = 3
"""Hot pages are joined over a gap of this size: a page is copied as fast as a range is begun."""
_COLD_RANGES_MAX = 128
"""Ranges that are protected one by one. More are protected with one scan of the whole memory."""
_FORGET_PERIOD = 1024
"""Resets after which the hot pages are found anew."""


class ResettableMemory:
    """A memory whose first ``image.size`` bytes are mapped from an image, and can return to it.

    The kernel finds the written pages. A page that was written in two consecutive intervals becomes
    *hot*: it is copied back at each reset and stays unprotected, because a copy takes a fifth of
    the time of a write fault. Without the kernel's support the memory is compared with the image.

    After more than ``private_size_max`` bytes were written over all resets, the image is mapped
    anew, so that the memory keeps no more private pages than that. The memory belongs to one
    instance; nobody writes it during a reset.
    """

    def __init__(
        self,
        address: int,
        image: MappedImage,
        tracking: DirtyPageTracking,
        private_size_max: int,
    ) -> None:
        self._address, self._image, self._tracking = address, image, tracking
        self._private_pages_max = private_size_max // PAGE_SIZE
        array = (ctypes.c_ubyte * image.size).from_address(address)
        self._view = memoryview(array).cast("B")
        self._kernel: KernelDirtyPages | None = None
        self._map()

    def _map(self) -> None:
        """Map the image over the memory, and start tracking."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None
        map_over(self._address, self._image.size, self._image.fd, self._image.offset)
        self._private: set[int] = set()
        self._last_cold: set[int] = set()
        self._resets = 0
        self._set_hot([])
        if self._tracking is DirtyPageTracking.COMPARE:
            return
        try:
            self._kernel = KernelDirtyPages(self._address, self._image.size)
        except OSError as error:
            if self._tracking is DirtyPageTracking.KERNEL:
                reason = f"the kernel cannot track dirty pages: {error}"
                raise EngineError(reason) from error

    def _set_hot(self, ranges: list[PageRange]) -> None:
        self._hot = ranges
        self._hot_pages = {page for start, stop in ranges for page in range(start, stop)}
        self._copies = [
            (
                self._view[start * PAGE_SIZE : stop * PAGE_SIZE],
                self._image.view[start * PAGE_SIZE : stop * PAGE_SIZE],
            )
            for start, stop in ranges
        ]

    def reset(self) -> int:
        """Return the memory to the bytes of the image. Return how many pages were copied."""
        if self._kernel is None:
            compared = ComparedDirtyPages(self._address, self._image.address)
            written = compared.collect(self._image.size)
            self._private.update(page for start, stop in written for page in range(start, stop))
            if len(self._private) > self._private_pages_max:
                self._map()
            else:
                self._copy(written)
            return _count(written)
        written = self._kernel.find()
        if written == self._hot:  # The usual case of a session like the last ones.
            for target, source in self._copies:
                target[:] = source
            self._note_reset()
            return len(self._hot_pages)
        return self._reset_cold(self._kernel, written)

    def _reset_cold(self, kernel: KernelDirtyPages, written: list[PageRange]) -> int:
        """Reset pages of which some are not hot, and decide which of them become hot."""
        count = _count(written)
        hot = self._hot_pages
        cold = {page for start, stop in written for page in range(start, stop) if page not in hot}
        self._private |= cold
        if len(self._private) + len(hot) > self._private_pages_max:
            self._map()
            return count
        self._copy(written)
        again = cold & self._last_cold
        self._last_cold = cold - again
        if len(hot) + len(again) * (1 + _HOT_GAP_PAGES) > HOT_PAGES_MAX:
            self._last_cold, again = cold, set()
            self._forget_hot(kernel)
            return count
        if again:
            self._set_hot(_join(sorted(hot | again), _HOT_GAP_PAGES))
            # The pages in the gaps are copied from now on, so they are unprotected too.
            for target, source in self._copies:
                target[:] = source
            hot = self._hot_pages
        ranges = _join(sorted(cold - hot), 0)
        if len(ranges) > _COLD_RANGES_MAX:
            self._forget_hot(kernel)
        else:
            for pages in ranges:
                kernel.protect(pages)
        self._note_reset()
        return count

    def _copy(self, ranges: list[PageRange]) -> None:
        view, source = self._view, self._image.view
        for start, stop in ranges:
            begin, end = start * PAGE_SIZE, stop * PAGE_SIZE
            view[begin:end] = source[begin:end]

    def _note_reset(self) -> None:
        self._resets += 1
        if self._resets >= _FORGET_PERIOD and self._kernel is not None:
            self._resets = 0
            self._forget_hot(self._kernel)

    def _forget_hot(self, kernel: KernelDirtyPages) -> None:
        """Protect all pages again; frequently written pages become hot again soon."""
        kernel.collect(self._image.size)
        self._private |= self._hot_pages
        self._set_hot([])

    def close(self) -> None:
        """End the tracking. Call before the memory is freed."""
        self._copies = []
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None
        with suppress(BufferError):
            self._view.release()


def _count(ranges: list[PageRange]) -> int:
    return sum(stop - start for start, stop in ranges)


def _join(pages: list[int], gap: int) -> list[PageRange]:
    """Return the ranges of ascending pages, joined over gaps of at most ``gap`` pages."""
    ranges: list[PageRange] = []
    for page in pages:
        if ranges and page - ranges[-1][1] <= gap:
            ranges[-1] = ranges[-1][0], page + 1
        else:
            ranges.append((page, page + 1))
    return ranges

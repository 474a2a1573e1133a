"""Tracking of dirty pages: pages written since the last query, found by the kernel or by
comparison.

The kernel may report a page whose bytes have not changed; the caller compares the bytes.
"""

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import NamedTuple, Protocol

from journal.errors import EngineError, OptionError

PAGE_SIZE = 1 << 12
_CHUNK_SIZE = 1 << 16
assert _CHUNK_SIZE % PAGE_SIZE == 0

PageRange = tuple[int, int]
"""A range of pages: first page, and page after the last."""


class DirtyPageTracking(Enum):
    """Methods of finding dirty pages."""

    AUTO = "auto"
    """By the kernel if supported, else by comparison."""
    KERNEL = "kernel"
    COMPARE = "compare"


class DirtyPages(Protocol):
    """Tracker of the pages of a memory that were written since its creation or the last query.

    The memory must not be written during a query, stays at its address and may have grown.
    """

    def collect(self, size: int) -> list[PageRange]:
        """Return the written page ranges of a memory of ``size`` bytes, in order."""

    def close(self) -> None:
        """Release the memory. Call before the memory is freed."""


def track_dirty_pages(
    address: int, size: int, mirror: int, tracking: DirtyPageTracking = DirtyPageTracking.AUTO
) -> DirtyPages:
    """Start tracking writes to the memory at ``address``.

    ``mirror`` is the address of a copy of the memory. The caller must update the copy after each
    query; the copy has zeros where the memory has not grown yet. Raises EngineError if kernel
    tracking is required and not supported.
    """
    if size % PAGE_SIZE or address % PAGE_SIZE:
        raise OptionError(
            f"memory must consist of whole pages of {PAGE_SIZE} bytes, "
            f"got {size} bytes at {address:#x}"
        )
    if tracking is not DirtyPageTracking.COMPARE:
        try:
            return KernelDirtyPages(address, size)
        except OSError as error:
            if tracking is DirtyPageTracking.KERNEL:
                reason = f"the kernel cannot track dirty pages: {error}"
                raise EngineError(reason) from error
    return ComparedDirtyPages(address, mirror)


# -- the kernel: userfaultfd(2) with asynchronous write protection, and PAGEMAP_SCAN, Linux 6.7 --

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1  # Requires no privilege.
_API = 0xAA
_MODE_WP = 2
_FEATURES = 1 << 12 | 1 << 13 | 1 << 15  # Shared memory, missing pages, asynchronous.

_FEATURES_AND_API = struct.Struct("<QQQ")
_RANGE_TO_REGISTER = struct.Struct("<QQQQ")
_RANGE_TO_PROTECT = struct.Struct("<QQQ")
_SCAN = struct.Struct("<12Q")
_WALK_END_AT = 32
_WRITTEN, _PRESENT, _SWAPPED, _ZERO = 1 << 1, 1 << 3, 1 << 4, 1 << 5
_PROTECT_MATCHING, _CHECK_ASYNCHRONOUS = 1, 2
_RANGES_MAX = 1 << 13
"""Ranges that the kernel returns per call."""


def _ioctl_code(direction: int, kind: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | kind << 8 | number


_UFFDIO_API = _ioctl_code(3, _API, 0x3F, _FEATURES_AND_API.size)
_UFFDIO_REGISTER = _ioctl_code(3, _API, 0, _RANGE_TO_REGISTER.size)
_UFFDIO_WRITEPROTECT = _ioctl_code(3, _API, 6, _RANGE_TO_PROTECT.size)
_PAGEMAP_SCAN = _ioctl_code(3, ord("f"), 16, _SCAN.size)


class _PageCategories(NamedTuple):
    """Selection of pages: all categories of ``all_of`` and any of ``any_of``, some inverted."""

    all_of: int
    any_of: int = 0
    inverted: int = 0


class KernelDirtyPages:
    """Tracking by the kernel. The first write to a page takes about a microsecond longer."""

    def __init__(self, address: int, size: int) -> None:
        self._address, self._size = address, 0
        self._faults, self._pagemap = _open_userfaultfd(), -1
        self._buffer = (ctypes.c_uint64 * (3 * _RANGES_MAX))()
        try:
            self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
            self._register(size)
            self._protect(0, size)
            self._size = size
            self.collect(size)  # Check that the kernel supports the scan.
        except BaseException:
            self.close()
            raise

    def collect(self, size: int) -> list[PageRange]:
        """Return the written page ranges."""
        begin = self._address
        flags = _PROTECT_MATCHING | _CHECK_ASYNCHRONOUS
        ranges = self._scan(begin, begin + self._size, flags, _PageCategories(_WRITTEN))
        if size <= self._size and len(ranges) < _RANGES_MAX:
            return ranges  # The kernel merges the ranges of one call.
        if size > self._size:
            # A new page is unwritten if it is missing or the zero page.
            present = _PageCategories(_ZERO, _PRESENT | _SWAPPED, _ZERO)
            ranges += self._scan(begin + self._size, begin + size, 0, present)
            self._register(size)
            self._protect(self._size, size)
            self._size = size
        return list(_merge_adjacent(ranges))

    def find(self) -> list[PageRange]:
        """Return the page ranges written since they were last protected; leave them unprotected.

        The memory is taken to have its size at the last ``collect``.
        """
        begin = self._address
        return self._scan(begin, begin + self._size, _CHECK_ASYNCHRONOUS, _PageCategories(_WRITTEN))

    def protect(self, pages: PageRange) -> None:
        """Protect pages again, so that the next write to each is found."""
        self._protect(pages[0] * PAGE_SIZE, pages[1] * PAGE_SIZE)

    def close(self) -> None:
        """Release the descriptors; the kernel ends the tracking."""
        for descriptor in (self._faults, self._pagemap):
            if descriptor >= 0:
                os.close(descriptor)
        self._faults = self._pagemap = -1

    def _register(self, size: int) -> None:
        start = self._address + self._size
        if size > self._size:
            argument = _RANGE_TO_REGISTER.pack(start, size - self._size, _MODE_WP, 0)
            fcntl.ioctl(self._faults, _UFFDIO_REGISTER, bytearray(argument))

    def _protect(self, start: int, end: int) -> None:
        argument = _RANGE_TO_PROTECT.pack(self._address + start, end - start, 1)
        if end > start:
            fcntl.ioctl(self._faults, _UFFDIO_WRITEPROTECT, bytearray(argument))

    def _scan(self, start: int, end: int, flags: int, pages: "_PageCategories") -> list[PageRange]:
        buffer, base, ranges = self._buffer, self._address, list[PageRange]()
        while start < end:
            argument = bytearray(
                _SCAN.pack(
                    _SCAN.size,
                    flags,
                    start,
                    end,
                    0,
                    ctypes.addressof(buffer),
                    _RANGES_MAX,
                    0,
                    pages.inverted,
                    pages.all_of,
                    pages.any_of,
                    pages.all_of | pages.any_of,
                )
            )
            count = fcntl.ioctl(self._pagemap, _PAGEMAP_SCAN, argument)
            firsts, stops = buffer[0 : 3 * count : 3], buffer[1 : 3 * count : 3]
            ranges += [
                ((first - base) // PAGE_SIZE, (stop - base) // PAGE_SIZE)
                for first, stop in zip(firsts, stops, strict=True)
            ]
            start = int.from_bytes(argument[_WALK_END_AT : _WALK_END_AT + 8], "little")
        return ranges


def _open_userfaultfd() -> int:
    number = _SYS_USERFAULTFD.get(os.uname().machine)
    if number is None:
        raise OSError(f"the userfaultfd system call number is unknown for {os.uname().machine}")
    descriptor: int = _libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"userfaultfd: {os.strerror(error)}")
    try:
        argument = bytearray(_FEATURES_AND_API.pack(_API, _FEATURES, 0))
        fcntl.ioctl(descriptor, _UFFDIO_API, argument)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _merge_adjacent(ranges: Iterable[PageRange]) -> Iterator[PageRange]:
    """Merge adjacent ranges of an ordered sequence."""
    pending: PageRange | None = None
    for start, stop in ranges:
        if pending is not None and pending[1] == start:
            pending = pending[0], stop
            continue
        if pending is not None:
            yield pending
        pending = start, stop
    if pending is not None:
        yield pending


# -- comparison, for older kernels ---------------------------------------------------------------

_memcmp = _libc.memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


class ComparedDirtyPages:
    """Tracking by comparison with the copy: exact, in a tenth of a second per GiB.

    > Why not hashes? A guest may be hostile, and the hashes that are fast enough can be forged.
    """

    def __init__(self, address: int, mirror: int) -> None:
        self._address, self._mirror = address, mirror

    def collect(self, size: int) -> list[PageRange]:
        """Return the page ranges that differ from the copy."""
        return list(_merge_adjacent(self._iter_differences(size)))

    def close(self) -> None:
        """Do nothing."""

    def _iter_differences(self, size: int) -> Iterator[PageRange]:
        memory, mirror = self._address, self._mirror
        for chunk in range(0, size, _CHUNK_SIZE):
            length = min(_CHUNK_SIZE, size - chunk)
            if not _memcmp(memory + chunk, mirror + chunk, length):
                continue
            for offset in range(chunk, chunk + length, PAGE_SIZE):
                if _memcmp(memory + offset, mirror + offset, PAGE_SIZE):
                    yield offset // PAGE_SIZE, offset // PAGE_SIZE + 1

"""Which pages of a memory were written since the last look: told by the kernel, or by comparing.

The kernel may name a page whose bytes are what they were: who keeps pages compares them.
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
"""Pages from the first to before the second."""


class DirtyPageTracking(Enum):
    """How written pages are found."""

    AUTO = "auto"
    """By the kernel where it can, else by comparing."""
    KERNEL = "kernel"
    COMPARE = "compare"


class DirtyPages(Protocol):
    """Knows which pages of a memory were written since it was made, or asked last.

    The memory stands still while it is asked, stays at its address and may have grown.
    """

    def collect(self, size: int) -> list[PageRange]:
        """Give the runs of pages, of the ``size`` bytes that the memory has now, in order."""

    def close(self) -> None:
        """Let go of the memory, before it goes away."""


def track_dirty_pages(
    address: int, size: int, mirror: int, tracking: DirtyPageTracking = DirtyPageTracking.AUTO
) -> DirtyPages:
    """Begin to note what is written to the memory at ``address``.

    ``mirror`` is the address of a copy that whoever asks keeps up with what it is told, and that
    has zeros where the memory has not grown to. Raises EngineError where the kernel is asked for
    and cannot.
    """
    if size % PAGE_SIZE or address % PAGE_SIZE:
        raise OptionError(f"a memory of whole pages is watched, not {size} bytes at {address:#x}")
    if tracking is not DirtyPageTracking.COMPARE:
        try:
            return KernelDirtyPages(address, size)
        except OSError as error:
            if tracking is DirtyPageTracking.KERNEL:
                reason = f"the kernel cannot tell which pages are written: {error}"
                raise EngineError(reason) from error
    return ComparedDirtyPages(address, mirror)


# -- the kernel: userfaultfd(2) with asynchronous write protection, and PAGEMAP_SCAN, Linux 6.7 --

_libc = ctypes.CDLL(None, use_errno=True)
_SYS_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1  # what needs no privilege
_API = 0xAA
_MODE_WP = 2
_FEATURES = 1 << 12 | 1 << 13 | 1 << 15  # shared memory, pages not there yet, asynchronous

_FEATURES_AND_API = struct.Struct("<QQQ")
_RANGE_TO_REGISTER = struct.Struct("<QQQQ")
_RANGE_TO_PROTECT = struct.Struct("<QQQ")
_SCAN = struct.Struct("<12Q")
_WALK_END_AT = 32
_WRITTEN, _PRESENT, _SWAPPED, _ZERO = 1 << 1, 1 << 3, 1 << 4, 1 << 5
_PROTECT_MATCHING, _CHECK_ASYNCHRONOUS = 1, 2
_RUNS_MAX = 1 << 13
"""Runs that the kernel gives at once."""


def _ioctl_code(direction: int, kind: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | kind << 8 | number


_UFFDIO_API = _ioctl_code(3, _API, 0x3F, _FEATURES_AND_API.size)
_UFFDIO_REGISTER = _ioctl_code(3, _API, 0, _RANGE_TO_REGISTER.size)
_UFFDIO_WRITEPROTECT = _ioctl_code(3, _API, 6, _RANGE_TO_PROTECT.size)
_PAGEMAP_SCAN = _ioctl_code(3, ord("f"), 16, _SCAN.size)


class _PageCategories(NamedTuple):
    """Which pages are asked for: of all of these kinds, and any of those; some inverted."""

    all_of: int
    any_of: int = 0
    inverted: int = 0


class KernelDirtyPages:
    """The kernel marks a page at its first write, in a microsecond, and lists the marked ones."""

    def __init__(self, address: int, size: int) -> None:
        self._address, self._size = address, 0
        self._faults, self._pagemap = _open_userfaultfd(), -1
        self._runs = (ctypes.c_uint64 * (3 * _RUNS_MAX))()
        try:
            self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
            self._register(size)
            self._protect(0, size)
            self._size = size
            self.collect(size)  # whether it can be asked
        except BaseException:
            self.close()
            raise

    def collect(self, size: int) -> list[PageRange]:
        """Give what was written."""
        begin = self._address
        flags = _PROTECT_MATCHING | _CHECK_ASYNCHRONOUS
        found = self._scan(begin, begin + self._size, flags, _PageCategories(_WRITTEN))
        if size <= self._size and len(found) < _RUNS_MAX:
            return found  # what it gives at once it has joined
        if size > self._size:
            # what is new was never written where no page is there, or that of zeros
            there = _PageCategories(_ZERO, _PRESENT | _SWAPPED, _ZERO)
            found += self._scan(begin + self._size, begin + size, 0, there)
            self._register(size)
            self._protect(self._size, size)
            self._size = size
        return list(_merge_adjacent(found))

    def close(self) -> None:
        """Let go; the kernel forgets."""
        for descriptor in (self._faults, self._pagemap):
            if descriptor >= 0:
                os.close(descriptor)
        self._faults = self._pagemap = -1

    def _register(self, size: int) -> None:
        start = self._address + self._size
        if size > self._size:
            wanted = _RANGE_TO_REGISTER.pack(start, size - self._size, _MODE_WP, 0)
            fcntl.ioctl(self._faults, _UFFDIO_REGISTER, bytearray(wanted))

    def _protect(self, start: int, end: int) -> None:
        wanted = _RANGE_TO_PROTECT.pack(self._address + start, end - start, 1)
        if end > start:
            fcntl.ioctl(self._faults, _UFFDIO_WRITEPROTECT, bytearray(wanted))

    def _scan(self, start: int, end: int, flags: int, pages: "_PageCategories") -> list[PageRange]:
        runs, base, found = self._runs, self._address, list[PageRange]()
        while start < end:
            asked = bytearray(
                _SCAN.pack(
                    _SCAN.size,
                    flags,
                    start,
                    end,
                    0,
                    ctypes.addressof(runs),
                    _RUNS_MAX,
                    0,
                    pages.inverted,
                    pages.all_of,
                    pages.any_of,
                    pages.all_of | pages.any_of,
                )
            )
            count = fcntl.ioctl(self._pagemap, _PAGEMAP_SCAN, asked)
            firsts, stops = runs[0 : 3 * count : 3], runs[1 : 3 * count : 3]
            found += [
                ((first - base) // PAGE_SIZE, (stop - base) // PAGE_SIZE)
                for first, stop in zip(firsts, stops, strict=True)
            ]
            start = int.from_bytes(asked[_WALK_END_AT : _WALK_END_AT + 8], "little")
        return found


def _open_userfaultfd() -> int:
    number = _SYS_USERFAULTFD.get(os.uname().machine)
    if number is None:
        raise OSError(f"userfaultfd is not known on {os.uname().machine}")
    descriptor: int = _libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"userfaultfd: {os.strerror(error)}")
    try:
        asked = bytearray(_FEATURES_AND_API.pack(_API, _FEATURES, 0))
        fcntl.ioctl(descriptor, _UFFDIO_API, asked)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _merge_adjacent(runs: Iterable[PageRange]) -> Iterator[PageRange]:
    """Join runs that touch; they come in order."""
    held: PageRange | None = None
    for start, stop in runs:
        if held is not None and held[1] == start:
            held = held[0], stop
            continue
        if held is not None:
            yield held
        held = start, stop
    if held is not None:
        yield held


# -- comparing, where the kernel is older --------------------------------------------------------

_memcmp = _libc.memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


class ComparedDirtyPages:
    """Compares with the copy: exact, in a tenth of a second a GiB.

    > Why not hashes? A guest may be hostile, and the hashes that are fast enough can be forged.
    """

    def __init__(self, address: int, mirror: int) -> None:
        self._address, self._mirror = address, mirror

    def collect(self, size: int) -> list[PageRange]:
        """Give what differs from the copy."""
        return list(_merge_adjacent(self._compared(size)))

    def close(self) -> None:
        """There is nothing to let go of."""

    def _compared(self, size: int) -> Iterator[PageRange]:
        memory, mirror = self._address, self._mirror
        for chunk in range(0, size, _CHUNK_SIZE):
            length = min(_CHUNK_SIZE, size - chunk)
            if not _memcmp(memory + chunk, mirror + chunk, length):
                continue
            for at in range(chunk, chunk + length, PAGE_SIZE):
                if _memcmp(memory + at, mirror + at, PAGE_SIZE):
                    yield at // PAGE_SIZE, at // PAGE_SIZE + 1

"""Bounds-checked reads of a file that may grow, shrink or fail during a read."""

import errno
import os
from threading import Lock

from journal.errors import CorruptBlock
from journal.fs.byte_search import contains

WINDOW_SIZE = 1 << 12
"""Bytes fetched at once for small reads, so that the headers of many small blocks cost one call."""
_CHUNK_SIZE = 1 << 20
_seek_lock = Lock()


class ByteSource:
    """The first ``size`` bytes of an open file, sliced and searched like ``bytes``.

    A slice is shorter than requested if the file has shrunk. A range that the disk cannot read
    raises CorruptBlock, or reads as zeros if ``zero_unreadable`` is set.

    > Why not a mapping? A read of a mapping beyond the new end of a file, or of a failing disk,
    kills the process. A system call costs less than the page faults of a mapping.
    """

    __slots__ = (
        "_chunk",
        "_chunk_at",
        "_descriptor",
        "_size",
        "_window",
        "_window_at",
        "_zero_unreadable",
        "name",
    )

    def __init__(
        self, descriptor: int, size: int, name: str = "", *, zero_unreadable: bool = False
    ) -> None:
        self._descriptor = descriptor
        self._size = size
        self._zero_unreadable = zero_unreadable
        self._window = b""
        self._window_at = 0
        self._chunk = b""
        self._chunk_at = 0
        self.name = name

    def __len__(self) -> int:
        return self._size

    @property
    def descriptor(self) -> int:
        """Descriptor of the file."""
        return self._descriptor

    def __getitem__(self, at: slice) -> bytes:
        start, stop = at.start, min(at.stop, self._size)
        base = start - self._window_at
        if base >= 0 and stop - self._window_at <= len(self._window):
            return self._window[base : stop - self._window_at]
        if stop <= start:
            return b""
        if stop - start > WINDOW_SIZE >> 1 or not -WINDOW_SIZE <= base <= 4 * WINDOW_SIZE:
            self._window_at, self._window = start, b""
            return self._read(start, stop - start)
        self._window_at = start
        self._window = self._read(start, min(WINDOW_SIZE, self._size - start))
        return self._window[: stop - start]

    def invalidate(self) -> None:
        """Drop all buffered bytes, so that the next slice reads the file again."""
        self._window = self._chunk = b""

    def find(self, needle: bytes, start: int, stop: int) -> int:
        """Return the first offset of ``needle`` in the range, or -1, as ``bytes.find`` does."""
        stop = min(stop, self._size)
        overlap = len(needle) - 1
        while stop - start > overlap:
            base = start - self._chunk_at
            if not 0 <= base < len(self._chunk) - overlap:
                self._chunk_at, base = start, 0
                self._chunk = self._read(start, min(_CHUNK_SIZE, self._size - start))
                if len(self._chunk) <= overlap:
                    return -1
                if not contains(self._chunk, needle):  # Far faster than ``find``.
                    self._chunk, start = b"", start + len(self._chunk) - overlap
                    continue
            index = self._chunk.find(needle, base, stop - self._chunk_at)
            if index >= 0:
                return self._chunk_at + index
            start = self._chunk_at + len(self._chunk) - overlap
        return -1

    def _read(self, start: int, size: int) -> bytes:
        return _read_range(self._descriptor, start, size, self._zero_unreadable)


def seek_and_read(descriptor: int, size: int, offset: int, /) -> bytes:
    """Read as ``os.pread`` does, on a system without it.

    Duplicated descriptors share one position, so one lock serves all of them.
    """
    with _seek_lock:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)


def _read_range(descriptor: int, start: int, size: int, zero_unreadable: bool) -> bytes:
    """Read a range of a file, in as many calls as the system needs; less at the end of file."""
    read_at = getattr(os, "pread", seek_and_read)  # Windows has no pread.
    try:
        data: bytes = read_at(descriptor, size, start)
        while data and len(data) < size:
            # A short read means end of file or an interrupting signal. Read again to tell which.
            rest = read_at(descriptor, size - len(data), start + len(data))
            if not rest:
                break
            data += rest
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        if not zero_unreadable:
            raise CorruptBlock(f"the disk cannot read {size} bytes", start) from error
    else:
        return data
    # Bisect the range around the unreadable windows, which read as zeros.
    if size <= WINDOW_SIZE:
        return bytes(size)
    half = max(WINDOW_SIZE, (size >> 1) & -WINDOW_SIZE)
    return _read_range(descriptor, start, half, zero_unreadable) + _read_range(
        descriptor, start + half, size - half, zero_unreadable
    )


Bytes = bytes | ByteSource

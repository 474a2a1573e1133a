"""The bytes of a file that may be growing, shrinking or failing while it is read."""

import errno
import os

from journal.errors import CorruptBlock
from journal.fs.byte_search import contains

WINDOW_SIZE = 1 << 12
"""Bytes fetched at once for small reads, so that headers of small blocks cost one call in many."""
_CHUNK_SIZE = 1 << 20


class ByteSource:
    """The first ``size`` bytes of an open file, sliced and searched like ``bytes``.

    What the file no longer has is missing from the end of a slice. Where the disk cannot read,
    CorruptBlock is raised, or zeros are given if ``zero_unreadable``.

    > Why not a mapping? Reading a mapping behind a file's new end, or where the disk fails, kills
    the process. A call of its own costs less than the faults of a mapping do.
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
        """Let the next slice see what the file holds then."""
        self._window = self._chunk = b""

    def find(self, needle: bytes, start: int, stop: int) -> int:
        """Find ``needle`` as ``bytes.find`` does; -1 when it is not there."""
        stop = min(stop, self._size)
        overlap = len(needle) - 1
        while stop - start > overlap:
            base = start - self._chunk_at
            if not 0 <= base < len(self._chunk) - overlap:
                self._chunk_at, base = start, 0
                self._chunk = self._read(start, min(_CHUNK_SIZE, self._size - start))
                if len(self._chunk) <= overlap:
                    return -1
                if not contains(self._chunk, needle):  # far faster than asking where
                    self._chunk, start = b"", start + len(self._chunk) - overlap
                    continue
            found = self._chunk.find(needle, base, stop - self._chunk_at)
            if found >= 0:
                return self._chunk_at + found
            start = self._chunk_at + len(self._chunk) - overlap
        return -1

    def _read(self, start: int, size: int) -> bytes:
        return _read_range(self._descriptor, start, size, self._zero_unreadable)


def _read_range(descriptor: int, start: int, size: int, zero_unreadable: bool) -> bytes:
    """Read what is there of a range, in as many pieces as the system makes of it."""
    try:
        data = os.pread(descriptor, size, start)
        while data and len(data) < size:
            # short, for a file that ends here now or for a signal: one more look tells
            rest = os.pread(descriptor, size - len(data), start + len(data))
            if not rest:
                break
            data += rest
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        if not zero_unreadable:
            raise CorruptBlock("the disk cannot read what stands", start) from error
    else:
        return data
    # around what cannot be read, halving: zeros stand for it
    if size <= WINDOW_SIZE:
        return bytes(size)
    half = max(WINDOW_SIZE, (size >> 1) & -WINDOW_SIZE)
    return _read_range(descriptor, start, half, zero_unreadable) + _read_range(
        descriptor, start + half, size - half, zero_unreadable
    )


Bytes = bytes | ByteSource

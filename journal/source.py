"""The bytes of a file that may be growing, shrinking or failing while it is read."""

import errno
import os

from journal.errors import CorruptBlock
from journal.magic import holds

WINDOW_SIZE = 1 << 12
"""Bytes fetched at once for small reads, so that headers of small blocks cost one call in many."""
_CHUNK_SIZE = 1 << 20


class Source:
    """The first ``size`` bytes of an open file, sliced and searched like ``bytes``.

    What the file no longer has is missing from the end of a slice. Where the disk cannot read,
    CorruptBlock is raised, or zeros are given if ``patient``.

    > Why not a mapping? Reading a mapping behind a file's new end, or where the disk fails, kills
    the process. A call of its own costs less than the faults of a mapping do.
    """

    __slots__ = (
        "_chunk",
        "_chunk_at",
        "_descriptor",
        "_patient",
        "_size",
        "_window",
        "_window_at",
        "name",
    )

    def __init__(
        self, descriptor: int, size: int, name: str = "", *, patient: bool = False
    ) -> None:
        self._descriptor = descriptor
        self._size = size
        self._patient = patient
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

    def forget(self) -> None:
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
                if not holds(self._chunk, needle):  # far faster than asking where
                    self._chunk, start = b"", start + len(self._chunk) - overlap
                    continue
            found = self._chunk.find(needle, base, stop - self._chunk_at)
            if found >= 0:
                return self._chunk_at + found
            start = self._chunk_at + len(self._chunk) - overlap
        return -1

    def _read(self, start: int, size: int) -> bytes:
        try:
            data = os.pread(self._descriptor, size, start)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return self._around(start, size, error)
        if len(data) == size or not data:
            return data
        # short, for a file that ends here now or for a signal: one more look tells
        rest = self._read(start + len(data), size - len(data))
        return data + rest

    def _around(self, start: int, size: int, error: OSError) -> bytes:
        """Read what can be read of a range in which the disk fails."""
        if not self._patient:
            raise CorruptBlock("the disk cannot read what stands", start) from error
        if size <= WINDOW_SIZE:
            return bytes(size)
        half = (size >> 1) & -WINDOW_SIZE
        return self._read(start, half) + self._read(start + half, size - half)


Bytes = bytes | Source

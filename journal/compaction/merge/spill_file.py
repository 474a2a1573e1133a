"""Array of pages in bounded memory, which spills to a file without a name."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from journal.events.memory import PAGE_SIZE
from journal.fs import atomic_file
from journal.pages.encoding import ZERO_PAGE, split_into_pages

BUFFERED_COUNT_MAX = 1 << 14
"""Pages buffered in memory, 64 MiB of them, before all are written to the file."""
_WRITE_COUNT_MAX = 1 << 8
"""Pages written at a time."""


class SpillFile:
    """Array of pages. A page that was never set is all zeros.

    The file is created in ``folder`` at the first spill.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._buffer: dict[int, bytes] = {}
        self._file = -1

    def close(self) -> None:
        """Discard the pages."""
        self._buffer = {}
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def clear(self) -> None:
        """Set all pages to zeros."""
        self._buffer.clear()
        if self._file >= 0:
            os.ftruncate(self._file, 0)

    def put(self, indices: Iterable[int], pages: Iterable[bytes]) -> None:
        """Set the pages at ``indices``, one for each."""
        self._buffer.update(zip(indices, pages, strict=True))
        if len(self._buffer) > BUFFERED_COUNT_MAX:
            self._spill()

    def page(self, index: int) -> bytes:
        """Return the page at ``index``."""
        return self.pages(range(index, index + 1))[0]

    def pages(self, indices: range) -> Sequence[bytes]:
        """Return the pages of a range of indices."""
        buffer = self._buffer
        if self._file < 0:
            return [buffer.get(index, ZERO_PAGE) for index in indices]
        return list(map(buffer.get, indices, self._read(indices)))

    def _read(self, indices: range) -> list[bytes]:
        size = len(indices) * PAGE_SIZE
        data = os.pread(self._file, size, indices.start * PAGE_SIZE)
        return split_into_pages(data.ljust(size, b"\0"))

    def _spill(self) -> None:
        if self._file < 0:
            path = atomic_file.make_temporary_path(self._folder / "pages")
            self._file = atomic_file.create_private(path)
            path.unlink()
        for start, pages in _consecutive_pages(self._buffer):
            data, at = memoryview(b"".join(pages)), start * PAGE_SIZE
            while data:  # A full disk shortens one write, and fails only the next.
                count = os.pwrite(self._file, data, at)
                data, at = data[count:], at + count
        self._buffer.clear()


def _consecutive_pages(pages: dict[int, bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Yield runs of pages with consecutive indices, each with its first index."""
    start, pages_run = 0, list[bytes]()
    for index in sorted(pages):
        if index != start + len(pages_run) or len(pages_run) == _WRITE_COUNT_MAX:
            if pages_run:
                yield start, pages_run
            start, pages_run = index, []
        pages_run.append(pages[index])
    if pages_run:
        yield start, pages_run

"""Pages in bounded memory: when there are more, they stand in a file that has no name."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from journal.events.memory import PAGE_SIZE
from journal.fs import atomic_file
from journal.pages.encoding import ZERO_PAGE, split_into_pages

BUFFERED_COUNT_MAX = 1 << 14
"""Pages that a plane holds in memory, 64 MiB of them, before all go into its file."""
_WRITE_COUNT_MAX = 1 << 8
"""Pages that are written at once."""


class SpillFile:
    """Pages, each in its index; those that were never put are zeros.

    Its file stands in ``folder`` and is there as soon as there was too much to hold.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._buffered: dict[int, bytes] = {}
        self._file = -1

    def close(self) -> None:
        """Let go of the pages."""
        self._buffered = {}
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def clear(self) -> None:
        """All is zeros again."""
        self._buffered.clear()
        if self._file >= 0:
            os.ftruncate(self._file, 0)

    def put(self, indices: Iterable[int], pages: Iterable[bytes]) -> None:
        """Put pages in their indices, one in each."""
        self._buffered.update(zip(indices, pages, strict=True))
        if len(self._buffered) > BUFFERED_COUNT_MAX:
            self._spill()

    def page(self, index: int) -> bytes:
        """The page in a index."""
        return self.pages(range(index, index + 1))[0]

    def pages(self, indices: range) -> Sequence[bytes]:
        """The pages in indices one behind the other."""
        buffered = self._buffered
        if self._file < 0:
            return [buffered.get(index, ZERO_PAGE) for index in indices]
        return list(map(buffered.get, indices, self._read(indices)))

    def _read(self, indices: range) -> list[bytes]:
        size = len(indices) * PAGE_SIZE
        found = os.pread(self._file, size, indices.start * PAGE_SIZE)
        return split_into_pages(found.ljust(size, b"\0"))

    def _spill(self) -> None:
        if self._file < 0:
            path = atomic_file.make_temporary_path(self._folder / "pages")
            self._file = atomic_file.create_private(path)
            path.unlink()
        for start, pages in _consecutive_pages(self._buffered):
            data, at = memoryview(b"".join(pages)), start * PAGE_SIZE
            while data:  # what fills a disk is cut short, and only the next one is refused
                count = os.pwrite(self._file, data, at)
                data, at = data[count:], at + count
        self._buffered.clear()


def _consecutive_pages(pages: dict[int, bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Give pages whose indices are one behind the other, with the first of these."""
    start, run = 0, list[bytes]()
    for index in sorted(pages):
        if index != start + len(run) or len(run) == _WRITE_COUNT_MAX:
            if run:
                yield start, run
            start, run = index, []
        run.append(pages[index])
    if run:
        yield start, run

"""Pages in bounded memory: when there are more, they stand in a file that has no name."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from journal.events.memory import PAGE_SIZE
from journal.fs import atomic_file as durable
from journal.pages.encoding import ZERO_PAGE, split_into_pages

HELD_COUNT_MAX = 1 << 14
"""Pages that a plane holds in memory, 64 MiB of them, before all go into its file."""
_RUN_COUNT_MAX = 1 << 8
"""Pages that are written at once."""


class Plane:
    """Pages, each in its place; those that were never put are zeros.

    Its file stands in ``folder`` and is there as soon as there was too much to hold.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[int, bytes] = {}
        self._file = -1

    def close(self) -> None:
        """Let go of the pages."""
        self._held = {}
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def clear(self) -> None:
        """All is zeros again."""
        self._held.clear()
        if self._file >= 0:
            os.ftruncate(self._file, 0)

    def put(self, places: Iterable[int], pages: Iterable[bytes]) -> None:
        """Put pages in their places, one in each."""
        self._held.update(zip(places, pages, strict=True))
        if len(self._held) > HELD_COUNT_MAX:
            self._spill()

    def page(self, place: int) -> bytes:
        """The page in a place."""
        return self.pages(range(place, place + 1))[0]

    def pages(self, places: range) -> Sequence[bytes]:
        """The pages in places one behind the other."""
        held = self._held
        if self._file < 0:
            return [held.get(place, ZERO_PAGE) for place in places]
        return list(map(held.get, places, self._read(places)))

    def _read(self, places: range) -> list[bytes]:
        size = len(places) * PAGE_SIZE
        found = os.pread(self._file, size, places.start * PAGE_SIZE)
        return split_into_pages(found.ljust(size, b"\0"))

    def _spill(self) -> None:
        if self._file < 0:
            path = durable.make_temporary_path(self._folder / "pages")
            self._file = durable.create_private(path)
            path.unlink()
        for start, pages in _runs(self._held):
            data, at = memoryview(b"".join(pages)), start * PAGE_SIZE
            while data:  # what fills a disk is cut short, and only the next one is refused
                count = os.pwrite(self._file, data, at)
                data, at = data[count:], at + count
        self._held.clear()


def _runs(pages: dict[int, bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Give pages whose places are one behind the other, with the first of these."""
    start, run = 0, list[bytes]()
    for place in sorted(pages):
        if place != start + len(run) or len(run) == _RUN_COUNT_MAX:
            if run:
                yield start, run
            start, run = place, []
        run.append(pages[place])
    if run:
        yield start, run

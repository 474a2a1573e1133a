"""Memories as a journal stores them, to be compared with those of a guest, byte by byte.

The digest of a snapshot detects accidents. Somebody who changes a journal can choose pages with
the digest of other pages, so a verification does not rely on it.
"""

import os
from collections.abc import Sequence
from typing import Self

from journal.engine.snapshot.capture import TrackedMemory
from journal.engine.snapshot.memory_image import ImageWriter
from journal.engine.snapshot.restore import base_snapshots, iter_pages
from journal.errors import MalformedEvent, NotResumable
from journal.events import codec
from journal.events.memory import MemoryPages
from journal.log.reader import Reader
from journal.snapshots.catalog import SnapshotInfo

PageLocations = set[tuple[int, int]]
"""Memory index and number of pages."""


class RecordedMemory:
    """Memories at one snapshot after the other, in memory of their own; a context manager.

    ``advance_to`` and ``find_difference`` are called for snapshots in ascending order.
    """

    def __init__(self, reader: Reader, infos: Sequence[SnapshotInfo]) -> None:
        self._reader, self._infos = reader, infos
        # A file on a disk would keep contents of a journal that may be sealed.
        self._file = os.fdopen(os.memfd_create("recorded"), "w+b")
        self._writer = ImageWriter(self._file.fileno())
        self._seq = -1
        self._unequal: PageLocations = set()  # Or not yet compared.

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory."""
        self._file.close()

    def advance_to(self, info: SnapshotInfo) -> None:
        """Apply the pages of the snapshots up to ``info``.

        Raises NotResumable if the pages are invalid or some of them are missing.
        """
        if info.seq <= self._seq:
            return
        bases = base_snapshots(self._infos, info)
        if self._seq < bases[0].seq:
            self._clear()
        else:
            bases = [base for base in bases if base.seq > self._seq]
        self._seq = -1  # After an error, all pages are read again.
        for frame in iter_pages(self._reader, bases):
            try:
                event = codec.decode(frame.tag, frame.payload, frame.offset)
                assert isinstance(event, MemoryPages)
                self._writer.apply(event)
            except MalformedEvent as error:
                raise NotResumable(f"event {frame.seq} has invalid pages: {error}") from error
            self._unequal.update((event.memory, number) for number in event.numbers)
        self._seq = info.seq

    def _clear(self) -> None:
        """Begin with empty memories. Pages that are written no more are compared with zeros."""
        self._unequal.update(self._writer.written_locations())
        os.ftruncate(self._file.fileno(), 0)
        self._writer = ImageWriter(self._file.fileno())

    def find_difference(self, memories: Sequence[TrackedMemory], changed: PageLocations) -> str:
        """Return how the memories of a guest differ from the recorded ones; empty if they do not.

        ``changed`` are the pages that the guest has changed since its last comparison, or since it
        was restored from a snapshot of the journal. The mirrors have the guest's pages.
        """
        mirrors = {tracked.index: tracked.mirror for tracked in memories}
        self._unequal = {
            (memory, number)
            for memory, number in self._unequal | changed
            if memory in mirrors
            and mirrors[memory].read(number) != self._writer.read_page(memory, number)
        }
        sizes = {tracked.index: tracked.memory.size for tracked in memories}
        return "its memory differs" if self._unequal or sizes != self._writer.sizes else ""

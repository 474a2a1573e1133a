"""Page index of one journal, kept up to date while the journal is recorded."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from xxhash import xxh3_64_intdigest

from journal._platform import require_linux
from journal.errors import JournalError, OptionError
from journal.events import codec
from journal.events.memory import MemoryPages
from journal.fs.open_resources import OPEN_RESOURCES, HomeProcess, close_unclosed
from journal.fs.user_key import UserKey, load_key
from journal.log.reader import Reader
from journal.pages.deduplication import iterate_whole_pages, replace_with_references
from journal.pages.index_store import (
    DigestFunction,
    PageIndexStore,
    PageLocation,
    Watermark,
    get_index_path,
)
from journal.pages.resolver import PageResolver

RECENT_SIZE_MAX = 16 << 20
"""Maximum size in bytes of the recent events that are kept in memory."""
CATCH_UP_SIZE_MAX = 1 << 30
"""Size in bytes of the journal's end that is read to complete an index before a run resumes."""

_TAGS = frozenset((MemoryPages.tag,))
_SAVE_ENTRIES_MIN = 1 << 16
"""Minimum number of new entries for which the index is saved before the journal is closed."""


class IndexCheck(NamedTuple):
    """Result of comparing an index with its journal.

    ``wrong`` of the ``entries`` lead to no page with their hash. ``missing`` pages up to the
    watermark have no entry.
    """

    entries: int
    wrong: int
    missing: int


class PageIndex:
    """Index from page hashes to locations in one journal; a context manager.

    The index is saved beside the journal when it is closed. A damaged index raises no error: it
    finds fewer pages. In a forked child each call raises WrongProcess, and ``close`` does nothing.
    """

    def __init__(
        self,
        journal: str | os.PathLike[str],
        *,
        key: UserKey | None = None,
        digest: DigestFunction = xxh3_64_intdigest,
    ) -> None:
        require_linux("keeping a page index")
        self.path = get_index_path(journal)
        self.last_seq = -1
        self._journal = Path(journal)
        self._key = key or load_key()
        self._entries = PageIndexStore(self.path.parent, digest)
        self._recent = PageResolver.without_source(RECENT_SIZE_MAX)
        self._reader: Reader | None = None
        self._resolver: PageResolver | None = None
        self._inode: tuple[int, int] | None = None
        self._snapshot_start = self._saved_count = 0
        self._home = HomeProcess()
        OPEN_RESOURCES.release_in_children(self)
        OPEN_RESOURCES.close_at_exit(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def count(self) -> int:
        """Number of entries."""
        return self._entries.count

    @property
    def failure(self) -> str:
        """Reason why the index takes no more entries; empty if the index takes entries."""
        return self._entries.failure

    # -- load -------------------------------------------------------------------------------------

    def open(self, *, size_max: int = CATCH_UP_SIZE_MAX) -> bool:
        """Load the index file and complete it. Return whether the file was usable.

        Index the pages after its watermark, within about the last ``size_max`` bytes of the
        journal, or no pages if ``size_max`` is 0.
        """
        self._home.check(self._journal)
        self._reset()
        try:
            reader = self._open_reader()
            watermark = self._entries.load(self.path, self._key)
            is_known = watermark is not None and watermark.matches(reader)
            if watermark is not None and is_known:
                self.last_seq = watermark.seq
            else:
                self._entries.clear()
            self._saved_count = self._entries.count
            if size_max:
                self._catch_up(reader, size_max)
            return is_known
        except (JournalError, OSError):
            self._reset()
            return False

    def rebuild(self) -> None:
        """Index the whole journal, and ignore the index file.

        Raises the errors of reading the journal.
        """
        self._home.check(self._journal)
        self._reset()
        try:
            self._catch_up(self._open_reader(), None)
        except BaseException:
            self._reset()
            raise

    def _open_reader(self) -> Reader:
        status = self._journal.stat()
        self._inode = (status.st_dev, status.st_ino)
        reader = Reader(self._journal)
        if reader.is_sealed:
            reader.close()
            raise OptionError(
                f"{self._journal} is sealed, so it has no page index, which would hash its pages"
            )
        self._reader, self._resolver = reader, PageResolver.from_reader(reader)
        return reader

    def _catch_up(self, reader: Reader, size_max: int | None) -> None:
        """Index the pages after the watermark."""
        start = self.last_seq + 1
        if size_max is not None:
            start = max(start, _find_recent_seq(reader, size_max))
        for seq, _, payload in reader.rows(start, tags=_TAGS):
            self.last_seq = seq
            for page_hash, index in self._hash_whole_pages(payload):
                self._entries.put(page_hash, seq, index)
        self._snapshot_start = self.last_seq + 1

    def _hash_whole_pages(self, payload: bytes) -> Iterator[tuple[int, int]]:
        """Yield the hash and the index of each whole page of an event."""
        event = codec.decode(MemoryPages.tag, payload)
        assert isinstance(event, MemoryPages)
        for index, page in iterate_whole_pages(event):
            yield self._entries.digest(page), index

    # -- record -----------------------------------------------------------------------------------

    def set_path(self, journal: str | os.PathLike[str]) -> None:
        """Set the new path of the journal after a rename. The index file is saved beside it."""
        self._home.check(self._journal)
        self._journal, self.path = Path(journal), get_index_path(journal)

    def begin_snapshot(self, seq: int) -> None:
        """Begin a snapshot at event ``seq``. All earlier events are in the file."""
        self._home.check(self._journal)
        self._snapshot_start = seq
        try:
            status = self._journal.stat()
            if self._inode is None or self._reader is None:
                self._open_reader()
            elif self._inode != (status.st_dev, status.st_ino):
                self.open()  # Another journal has replaced this one.
                self._snapshot_start = seq
        except (JournalError, OSError):
            self._reset()

    def deduplicate(self, seq: int, event: MemoryPages) -> MemoryPages:
        """Return event ``seq`` with references in place of its pages that the journal already
        stores.
        """
        self._home.check(self._journal)
        self._recent.cache(seq, event)
        candidates = self._entries.add_pages(seq, iterate_whole_pages(event))
        if not candidates:
            return event
        pages = dict(iterate_whole_pages(event))
        # Comparing bytes is faster than comparing memory views, which go byte by byte.
        matches = [
            (index, location)
            for index, location in candidates
            if self._has_page(location, bytes(pages[index]))
        ]
        return replace_with_references(seq, event, matches)

    def end_snapshot(self, seq: int) -> None:
        """End the snapshot, which is durable. Its last MemoryPages event is ``seq``."""
        self._home.check(self._journal)
        self.last_seq = seq
        if self.count - self._saved_count > max(_SAVE_ENTRIES_MIN, self._saved_count):
            self.save()

    def _has_page(self, location: PageLocation, page: bytes) -> bool:
        """Return whether these bytes are stored at a location, in a recent event or in the file."""
        stored = self._recent.find_page(*location) if location.seq in self._recent else None
        if stored is None and location.seq < self._snapshot_start and self._resolver is not None:
            try:
                stored = self._resolver.find_page(*location)
            except (JournalError, OSError):
                return False
        return stored == page

    # -- index file ------------------------------------------------------------------------------

    def save(self) -> bool:
        """Write the index file beside the journal. Return whether this succeeded."""
        self._home.check(self._journal)
        try:
            if self._reader is None:
                self._open_reader()
            assert self._reader is not None
            watermark = Watermark.from_reader(self._reader, self.last_seq)
        except (JournalError, OSError):
            return False
        self._saved_count = self.count
        return self._entries.save(self.path, self._key, watermark)

    def check(self) -> IndexCheck:
        """Compare each entry with the page that it leads to. Raises the errors of reading the
        journal.
        """
        self._home.check(self._journal)
        if self._reader is None:
            self._open_reader()
        assert self._reader is not None
        correct = missing = 0
        for seq, _, payload in self._reader.rows(tags=_TAGS, stop=self.last_seq + 1):
            for key, index in self._hash_whole_pages(payload):
                location = self._entries.find(key)
                correct += location == (seq, index)
                missing += location is None
        return IndexCheck(self.count, self.count - correct, missing)

    def close(self) -> None:
        """Save the index if it has new entries, and close it."""
        if self._home.is_left:
            return
        if self.count > self._saved_count:
            self.save()
        self._reset()

    def __del__(self) -> None:
        if getattr(self, "_reader", None) is not None and not self._home.is_left:
            close_unclosed(self, f"the page index of {self._journal}")

    def _abandon(self, owner: int) -> None:
        self._home.leave(owner)
        self._entries.abandon()
        if self._reader is not None:
            self._reader.close()

    def _reset(self) -> None:
        self._entries.clear()
        self._recent = PageResolver.without_source(RECENT_SIZE_MAX)
        self.last_seq = -1
        self._saved_count = 0
        if self._reader is not None:
            self._reader.close()
        self._reader = self._resolver = None


def _find_recent_seq(reader: Reader, size: int) -> int:
    """Return the sequence number of an event about ``size`` bytes before the end of the journal."""
    summary = reader.summary()
    if summary.size <= size:
        return 0
    return summary.last_seq - (summary.last_seq - summary.first_seq + 1) * size // summary.size

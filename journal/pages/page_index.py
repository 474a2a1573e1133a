"""The page index of one journal, which is being written, or looked at."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from xxhash import xxh3_64_intdigest

from journal.errors import JournalError
from journal.events import codec
from journal.events.memory import MemoryPages
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
from journal.pages.user_key import UserKey, load_key

RECENT_SIZE_MAX = 16 << 20
"""Bytes of events whose pages are kept in memory."""
CATCH_UP_SIZE_MAX = 1 << 30
"""Bytes of journal that are looked through before a run goes on; of a larger one, the end is."""

_TAGS = frozenset((MemoryPages.tag,))
_SAVE_ENTRIES_MIN = 1 << 16
"""So many more entries are worth being put beside the journal before it is closed."""


class IndexCheck(NamedTuple):
    """What came of comparing an index with its journal.

    Of ``entries``, those that are ``wrong`` lead to no page with their hash; ``missing`` are pages
    up to the watermark that have none.
    """

    entries: int
    wrong: int
    missing: int


class PageIndex:
    """Where the pages of a journal stand, by the hashes of their bytes; a context manager.

    It gets its place beside the journal when it is closed. Nothing raises for what is wrong with
    it: less is found then.
    """

    def __init__(
        self,
        journal: str | os.PathLike[str],
        *,
        key: UserKey | None = None,
        digest: DigestFunction = xxh3_64_intdigest,
    ) -> None:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def count(self) -> int:
        """How many entries there are."""
        return self._entries.count

    @property
    def failure(self) -> str:
        """Why nothing more is noted; empty while it is."""
        return self._entries.failure

    # -- what stands already -----------------------------------------------------------------------

    def open(self, *, size_max: int = CATCH_UP_SIZE_MAX) -> bool:
        """Be what the journal is now; whether what stood beside it was of use.

        Pages that it did not know are looked at, in about the last ``size_max`` bytes of the
        journal; of 0 bytes there are none.
        """
        self._reset()
        try:
            reader = self._open_reader()
            mark = self._entries.load(self.path, self._key)
            is_known = mark is not None and mark.matches(reader)
            if mark is not None and is_known:
                self.last_seq = mark.seq
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
        """Be what the whole journal is now, whatever stood beside it; raises as reading it does."""
        self._reset()
        try:
            self._catch_up(self._open_reader(), None)
        except BaseException:
            self._reset()
            raise

    def _open_reader(self) -> Reader:
        found = self._journal.stat()
        self._inode = (found.st_dev, found.st_ino)
        self._reader = Reader(self._journal)
        self._resolver = PageResolver.from_reader(self._reader)
        return self._reader

    def _catch_up(self, reader: Reader, size_max: int | None) -> None:
        """Take note of the pages behind the watermark."""
        start = self.last_seq + 1
        if size_max is not None:
            start = max(start, _find_recent_seq(reader, size_max))
        for seq, _, payload in reader.rows(start, tags=_TAGS):
            self.last_seq = seq
            for hashed, place in self._hash_whole_pages(payload):
                self._entries.put(hashed, seq, place)
        self._snapshot_start = self.last_seq + 1

    def _hash_whole_pages(self, payload: bytes) -> Iterator[tuple[int, int]]:
        """Give the hashes of the pages that an event has whole, and their indices."""
        event = codec.decode(MemoryPages.tag, payload)
        assert isinstance(event, MemoryPages)
        for place, page in iterate_whole_pages(event):
            yield self._entries.digest(page), place

    # -- while a journal is written ----------------------------------------------------------------

    def set_path(self, journal: str | os.PathLike[str]) -> None:
        """The journal has another name, and the index will stand beside that."""
        self._journal, self.path = Path(journal), get_index_path(journal)

    def begin_snapshot(self, seq: int) -> None:
        """A snapshot is written, from event ``seq`` on; all in front of it is in the file."""
        self._snapshot_start = seq
        try:
            found = self._journal.stat()
            if self._inode is None or self._reader is None:
                self._open_reader()
            elif self._inode != (found.st_dev, found.st_ino):
                self.open()  # another journal has taken its place
                self._snapshot_start = seq
        except (JournalError, OSError):
            self._reset()

    def deduplicate(self, seq: int, event: MemoryPages) -> MemoryPages:
        """Give what is to be event number ``seq``: its pages named that stand in front of it."""
        self._recent.cache(seq, event)
        known = self._entries.add_pages(seq, iterate_whole_pages(event))
        if not known:
            return event
        pages = dict(iterate_whole_pages(event))
        # views are compared byte by byte, and not at once
        matches = [(at, stood) for at, stood in known if self._has_page(stood, bytes(pages[at]))]
        return replace_with_references(seq, event, matches)

    def end_snapshot(self, seq: int) -> None:
        """The snapshot is closed and durable, with its last event of memory at ``seq``."""
        self.last_seq = seq
        if self.count - self._saved_count > max(_SAVE_ENTRIES_MIN, self._saved_count):
            self.save()

    def _has_page(self, location: PageLocation, page: bytes) -> bool:
        """Whether these bytes stand there: among what is recent, this event too, or before."""
        found = self._recent.find_page(*location) if location.seq in self._recent else None
        if found is None and location.seq < self._snapshot_start and self._resolver is not None:
            try:
                found = self._resolver.find_page(*location)
            except (JournalError, OSError):
                return False
        return found == page

    # -- beside the journal ------------------------------------------------------------------------

    def save(self) -> bool:
        """Put it beside the journal; whether that went well."""
        try:
            if self._reader is None:
                self._open_reader()
            assert self._reader is not None
            mark = Watermark.from_reader(self._reader, self.last_seq)
        except (JournalError, OSError):
            return False
        self._saved_count = self.count
        return self._entries.save(self.path, self._key, mark)

    def check(self) -> IndexCheck:
        """Compare each entry with the bytes that it leads to; raises what reading raises."""
        if self._reader is None:
            self._open_reader()
        assert self._reader is not None
        right = missing = 0
        for seq, _, payload in self._reader.rows(tags=_TAGS, stop=self.last_seq + 1):
            for key, place in self._hash_whole_pages(payload):
                stood = self._entries.find(key)
                right += stood == (seq, place)
                missing += stood is None
        return IndexCheck(self.count, self.count - right, missing)

    def close(self) -> None:
        """Put it beside the journal, where it has something to tell, and let go."""
        if self.count > self._saved_count:
            self.save()
        self._reset()

    def _reset(self) -> None:
        self._entries.clear()
        self._recent = PageResolver.without_source(RECENT_SIZE_MAX)
        self.last_seq = -1
        self._saved_count = 0
        if self._reader is not None:
            self._reader.close()
        self._reader = self._resolver = None


def _find_recent_seq(reader: Reader, size: int) -> int:
    """The number of an event with about so many bytes of journal behind it."""
    found = reader.summary()
    if found.size <= size:
        return 0
    return found.last_seq - (found.last_seq - found.first_seq + 1) * size // found.size

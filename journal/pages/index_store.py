"""Which pages stand in a journal already: hashes of their bytes, and where these are.

The index is derived from the journal, and never the truth: each match is confirmed by the bytes.
What stands beside the journal is an LMDB file with a seal behind it. It is never opened where it
is: it is copied into a file that has no name, so that whatever becomes of it meanwhile meets
nobody, and believed only if the seal is this user's, as LMDB follows whatever a file says. Where
anything goes wrong with it, the index goes on without, and forgets.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from glob import escape
from hmac import compare_digest
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple, Self

import lmdb
from xxhash import xxh3_64_intdigest

from journal.errors import JournalError
from journal.events.memory import MemoryPages
from journal.fs import atomic_file
from journal.log.reader import Reader
from journal.pages.user_key import UserKey

SUFFIX = ".pages"
MAP_SIZE_MIN = 1 << 24
MAP_SIZE_MAX = 1 << 36
"""Bytes of an index, at most: it is doubled up to that."""
LOAD_SIZE_MAX = 1 << 30
"""Bytes of one that is read when a run goes on: a larger one is made anew, of the journal's end."""
PENDING_MAX = 1 << 14
"""PageIndexStore that are put in at once: sorted, they cost the least. A crash forgets them."""
FILTER_SIZE = 1 << 22
"""Bytes of a filter that tells most hashes that are not there without a look."""

_SLOTS = FILTER_SIZE - 1
_LOCATION = Struct("<QH")
_SEAL = Struct("<16s16sQQQ32s")
_MAGIC = b"wasm-pages\0\0\0\0\0\1"
_COPY_SIZE = 1 << 20
_STALE_AGE_SECONDS = 3600
"""What was begun before that, nobody writes any more."""
_PAGES_TAG = frozenset((MemoryPages.tag,))

Bytes = bytes | memoryview
DigestFunction = Callable[[Bytes], int]


class PageLocation(NamedTuple):
    """Where a page stands: the number of the event, and the index in it."""

    seq: int
    index_in_event: int


class Watermark(NamedTuple):
    """Up to what an index is true: the journal, and its last event of memory; -1 for none.

    ``hash`` is that of the header of the block that this is in, which holds those of all in front
    of it together.
    """

    journal_id: bytes
    seq: int
    hash: int

    @classmethod
    def from_reader(cls, reader: Reader, seq: int) -> Self:
        """The watermark of a journal at event ``seq``; raises JournalError where there is none."""
        return cls(reader.journal_id, seq, _read_block_hash(reader, seq) if seq >= 0 else 0)

    def matches(self, reader: Reader) -> bool:
        """Whether a journal has that event, and all in front of it."""
        try:
            return self == Watermark.from_reader(reader, self.seq)
        except JournalError:
            return False


def _read_block_hash(reader: Reader, seq: int) -> int:
    for block in reader.blocks(seq, _PAGES_TAG, stop=seq + 1):
        if block.index(seq) is not None:
            return block.header.hash
    return 0


def get_index_path(journal: str | os.PathLike[str]) -> Path:
    """Where a journal's index stands: beside it."""
    path = Path(journal)
    return path.with_name(path.name + SUFFIX)


class PageIndexStore:
    """Hashes of pages and where they stand, in a file without a name; a context manager.

    ``digest`` gives 64 bits. Nothing here raises for what LMDB or the disk does: from then on
    nothing is found, and ``failure`` says why.
    """

    def __init__(self, folder: Path, digest: DigestFunction = xxh3_64_intdigest) -> None:
        self.digest = digest
        self.failure = ""
        self._pending: dict[int, bytes] = {}
        self._filter = bytearray(FILTER_SIZE)
        self._folder = folder
        self._env: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it: it is gone."""
        self._pending = {}
        if self._env is not None:
            self._env.close()
            self._env = None

    @property
    def count(self) -> int:
        """How many there are."""
        stored: int = self._env.stat()["entries"] if self._env is not None else 0
        return stored + len(self._pending)

    def find(self, page_hash: int) -> PageLocation | None:
        """Where a page with that hash stands, if any does."""
        found = self._pending.get(page_hash)
        if found is None and self._env is not None:
            try:
                with self._env.begin() as transaction:
                    found = transaction.get(page_hash.to_bytes(8, "big"))
            except lmdb.Error as problem:
                self._fail(problem)
        return None if found is None else PageLocation(*_LOCATION.unpack(found))

    def put(self, page_hash: int, seq: int, index_in_event: int) -> None:
        """Let a page be found there, unless another one with that hash is."""
        self._filter[page_hash & _SLOTS] = 1
        self._pending.setdefault(page_hash, _LOCATION.pack(seq, index_in_event))
        if len(self._pending) >= PENDING_MAX:
            self.flush()

    def add_pages(
        self, seq: int, pages: Iterable[tuple[int, Bytes]]
    ) -> list[tuple[int, PageLocation]]:
        """Put the pages of an event, with their indices; gives those that may stand elsewhere.

        > Why all at once? It is done for each page that is recorded.
        """
        digest, slots, pending = self.digest, self._filter, self._pending
        front = seq.to_bytes(8, "little")
        known: list[tuple[int, PageLocation]] = []
        for place, page in pages:
            hashed = digest(page)
            slot = hashed & _SLOTS
            if slots[slot]:
                stood = self.find(hashed)
                if stood is not None:
                    known.append((place, stood))
                    continue
            slots[slot] = 1
            pending[hashed] = front + place.to_bytes(2, "little")
        if len(pending) >= PENDING_MAX:
            self.flush()
        return known

    def flush(self) -> None:
        """Move what is kept in memory to the file."""
        pending, self._pending = self._pending, {}
        if not pending or self.failure:
            return
        items = [(hashed.to_bytes(8, "big"), pending[hashed]) for hashed in sorted(pending)]
        try:
            self._ensure_open()
            self._put(items)
        except (lmdb.Error, OSError) as problem:
            self._fail(problem)

    def _put(self, items: list[tuple[bytes, bytes]]) -> None:
        while True:
            try:
                with self._env.begin(write=True) as transaction, transaction.cursor() as cursor:
                    cursor.putmulti(items, overwrite=False)
                return
            except lmdb.MapFullError:
                size = 2 * self._env.info()["map_size"]
                if size > MAP_SIZE_MAX:
                    raise
                self._env.set_mapsize(size)

    def iterate(self) -> Iterator[tuple[int, PageLocation]]:
        """Give all, by their hashes."""
        self.flush()
        if self._env is None:
            return
        with self._env.begin() as transaction, transaction.cursor() as cursor:
            for key, found in cursor:
                yield int.from_bytes(key, "big"), PageLocation(*_LOCATION.unpack(found))

    # -- beside the journal ------------------------------------------------------------------------

    def load(self, path: Path, key: UserKey) -> Watermark | None:
        """Take the entries that stand at ``path``; None where they are none of this user's."""
        try:
            temporary = atomic_file.make_temporary_path(self._folder / path.name)
            descriptor = atomic_file.create_private(temporary)
            try:
                mark = _copy_authenticated(path, descriptor, key)
                if mark is not None:
                    self._open(temporary)
                    for hashed, _ in self.iterate():
                        self._filter[hashed & _SLOTS] = 1
                return mark
            finally:
                os.close(descriptor)
                with suppress(OSError):
                    temporary.unlink()
        except (lmdb.Error, OSError):
            self.clear()
            return None

    def save(self, path: Path, key: UserKey, mark: Watermark) -> bool:
        """Put the entries, which are true up to ``mark``, to ``path``; whether that went well."""
        self.flush()
        if self._env is None or self.failure:
            return False
        beside = atomic_file.make_temporary_path(path)
        try:
            _remove_stale_files(path)
            descriptor = atomic_file.create_private(beside)
            try:
                self._env.copyfd(descriptor, compact=True)
                _write_seal(descriptor, key, mark)
            finally:
                os.close(descriptor)
            beside.replace(path)  # never synced: what a power cut leaves of it is not believed
            return True
        except (lmdb.Error, OSError):
            with suppress(OSError):
                beside.unlink()
            return False

    def clear(self) -> None:
        """Have none."""
        self.close()
        self.failure = ""
        self._filter = bytearray(FILTER_SIZE)

    def _ensure_open(self) -> None:
        if self._env is not None:
            return
        temporary = atomic_file.make_temporary_path(self._folder / "pages")
        os.close(atomic_file.create_private(temporary))
        try:
            self._open(temporary)
        finally:
            temporary.unlink()

    def _open(self, path: Path) -> None:
        size = MAP_SIZE_MIN
        while size < 2 * path.stat().st_size:
            size *= 2
        self._env = lmdb.open(
            str(path),
            subdir=False,
            map_size=size,
            mode=0o600,
            sync=False,
            metasync=False,
            readahead=False,
            meminit=False,
            lock=False,
        )

    def _fail(self, problem: Exception) -> None:
        self.close()
        self.failure = str(problem) or type(problem).__name__


def _remove_stale_files(path: Path) -> None:
    """Remove what a crash has left of an index that was being put beside its journal."""
    for left in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        if left.stat().st_mtime < time.time() - _STALE_AGE_SECONDS:
            left.unlink(missing_ok=True)


def _copy_authenticated(path: Path, descriptor: int, key: UserKey) -> Watermark | None:
    """Copy an LMDB file without its seal; None where the seal is not its own, and this user's."""
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        size = os.fstat(source).st_size - _SEAL.size
        seal = os.pread(source, _SEAL.size, size) if 0 < size <= LOAD_SIZE_MAX else b""
        if len(seal) < _SEAL.size:
            return None
        magic, journal_id, seq, chain, length, digest = _SEAL.unpack(seal)
        if magic != _MAGIC or length != size:
            return None
        hashed, at = key.new_hash(), 0
        while at < size:
            part = os.pread(source, min(_COPY_SIZE, size - at), at)
            if not part:
                return None
            hashed.update(part)
            os.pwrite(descriptor, part, at)
            at += len(part)
        hashed.update(seal[: -len(digest)])
        if not compare_digest(digest, hashed.digest()):
            return None
        return Watermark(journal_id, seq - 1, chain)
    finally:
        os.close(source)


def _write_seal(descriptor: int, key: UserKey, mark: Watermark) -> None:
    """Write the seal behind an LMDB file."""
    size, at, hashed = os.fstat(descriptor).st_size, 0, key.new_hash()
    while at < size:
        part = os.pread(descriptor, _COPY_SIZE, at)
        hashed.update(part)
        at += len(part)
    head = _SEAL.pack(_MAGIC, mark.journal_id, mark.seq + 1, mark.hash, size, bytes(32))[:-32]
    hashed.update(head)
    os.pwrite(descriptor, head + hashed.digest(), size)

"""LMDB store of page hashes and the locations of these pages in a journal.

The index is derived from the journal and never authoritative: the bytes of each match are compared.
The file beside the journal is an LMDB file followed by a seal. LMDB trusts the contents of its
file, so the file is never opened in place. The index is copied to an unlinked temporary file, which
no later change can reach, and used only if the seal authenticates this user. After any failure the
index drops its entries and the recording continues without it.
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
from journal.fs.user_key import UserKey
from journal.log.reader import Reader

SUFFIX = ".pages"
MAP_SIZE_MIN = 1 << 24
MAP_SIZE_MAX = 1 << 36
"""Maximum size of an index in bytes. The LMDB map is doubled up to this size."""
LOAD_SIZE_MAX = 1 << 30
"""Maximum size in bytes of an index file that a resume loads. A larger index is rebuilt from the
end of the journal.
"""
PENDING_MAX = 1 << 14
"""Number of entries that are inserted together, sorted, which costs the least. A crash loses them.
"""
FILTER_SIZE = 1 << 22
"""Size in bytes of a filter that rejects most unknown hashes without a look-up."""

_SLOTS = FILTER_SIZE - 1
_LOCATION = Struct("<QH")
_SEAL = Struct("<16s16sQQQ32s")
_MAGIC = b"wasm-pages\0\0\0\0\0\1"
_COPY_SIZE = 1 << 20
_STALE_AGE_SECONDS = 3600
"""Age of a temporary file that no process still writes."""
_PAGES_TAG = frozenset((MemoryPages.tag,))

Bytes = bytes | memoryview
DigestFunction = Callable[[Bytes], int]


class PageLocation(NamedTuple):
    """Location of a page: the sequence number of its event, and its index in the event."""

    seq: int
    index_in_event: int


class Watermark(NamedTuple):
    """Journal and last MemoryPages event (-1 for none) up to which an index is valid.

    ``hash`` is the header hash of the block with this event. The hash covers all earlier blocks.
    """

    journal_id: bytes
    seq: int
    hash: int

    @classmethod
    def from_reader(cls, reader: Reader, seq: int) -> Self:
        """Return the watermark of a journal at event ``seq``. Raises JournalError if it has no such
        event.
        """
        return cls(reader.journal_id, seq, _read_block_hash(reader, seq) if seq >= 0 else 0)

    def matches(self, reader: Reader) -> bool:
        """Return whether a journal has this event and the same history before it."""
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
    """Return the path of a journal's index, beside the journal."""
    path = Path(journal)
    return path.with_name(path.name + SUFFIX)


class PageIndexStore:
    """Page hashes and locations in an unlinked temporary file; a context manager.

    ``digest`` returns 64 bits. No method raises an LMDB or disk error: after a failure the store
    finds nothing, and ``failure`` is the reason.
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
        """Close the store, and lose its entries."""
        self._pending = {}
        if self._env is not None:
            self._env.close()
            self._env = None

    def abandon(self) -> None:
        """Forget the entries in a forked child. The binding of LMDB closes its file without use."""
        self._pending, self._env = {}, None

    @property
    def count(self) -> int:
        """Number of entries."""
        stored: int = self._env.stat()["entries"] if self._env is not None else 0
        return stored + len(self._pending)

    def find(self, page_hash: int) -> PageLocation | None:
        """Return the location of a page with this hash, or None."""
        value = self._pending.get(page_hash)
        if value is None and self._env is not None:
            try:
                with self._env.begin() as transaction:
                    value = transaction.get(page_hash.to_bytes(8, "big"))
            except lmdb.Error as error:
                self._fail(error)
        return None if value is None else PageLocation(*_LOCATION.unpack(value))

    def put(self, page_hash: int, seq: int, index_in_event: int) -> None:
        """Add the location of a page, unless the hash has an entry."""
        self._filter[page_hash & _SLOTS] = 1
        self._pending.setdefault(page_hash, _LOCATION.pack(seq, index_in_event))
        if len(self._pending) >= PENDING_MAX:
            self.flush()

    def add_pages(
        self, seq: int, pages: Iterable[tuple[int, Bytes]]
    ) -> list[tuple[int, PageLocation]]:
        """Add the pages of an event, by index and bytes. Return the index and the known location of
        each page whose hash already has an entry.

        > Why all at once? This function runs for every recorded page.
        """
        digest, slots, pending = self.digest, self._filter, self._pending
        packed_seq = seq.to_bytes(8, "little")
        matches: list[tuple[int, PageLocation]] = []
        for index, page in pages:
            page_hash = digest(page)
            slot = page_hash & _SLOTS
            if slots[slot]:
                location = self.find(page_hash)
                if location is not None:
                    matches.append((index, location))
                    continue
            slots[slot] = 1
            pending[page_hash] = packed_seq + index.to_bytes(2, "little")
        if len(pending) >= PENDING_MAX:
            self.flush()
        return matches

    def flush(self) -> None:
        """Insert the pending entries into the file."""
        pending, self._pending = self._pending, {}
        if not pending or self.failure:
            return
        items = [
            (page_hash.to_bytes(8, "big"), pending[page_hash]) for page_hash in sorted(pending)
        ]
        try:
            self._ensure_open()
            self._put(items)
        except (lmdb.Error, OSError) as error:
            self._fail(error)

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
        """Yield all entries, sorted by hash."""
        self.flush()
        if self._env is None:
            return
        with self._env.begin() as transaction, transaction.cursor() as cursor:
            for key, value in cursor:
                yield int.from_bytes(key, "big"), PageLocation(*_LOCATION.unpack(value))

    # -- index file ------------------------------------------------------------------------------

    def load(self, path: Path, key: UserKey) -> Watermark | None:
        """Replace the entries by those of the index file ``path``. Return its watermark, or None if
        the file is missing or not authentic.
        """
        try:
            temporary = atomic_file.make_temporary_path(self._folder / path.name)
            descriptor = atomic_file.create_private(temporary)
            try:
                watermark = _copy_if_authentic(path, descriptor, key)
                if watermark is not None:
                    self._open(temporary)
                    for page_hash, _ in self.iterate():
                        self._filter[page_hash & _SLOTS] = 1
                return watermark
            finally:
                os.close(descriptor)
                with suppress(OSError):
                    temporary.unlink()
        except (lmdb.Error, OSError):
            self.clear()
            return None

    def save(self, path: Path, key: UserKey, watermark: Watermark) -> bool:
        """Write the entries, valid up to ``watermark``, to the index file ``path``.

        Returns whether this succeeded.
        """
        self.flush()
        if self._env is None or self.failure:
            return False
        temporary = atomic_file.make_temporary_path(path)
        try:
            atomic_file.check_replaceable(path)
            _remove_stale_files(path)
            descriptor = atomic_file.create_private(temporary)
            try:
                self._env.copyfd(descriptor, compact=True)
                _write_seal(descriptor, key, watermark)
            finally:
                os.close(descriptor)
            # The file is never synced: its seal does not match after a power cut.
            temporary.replace(path)
            return True
        except (lmdb.Error, OSError):
            with suppress(OSError):
                temporary.unlink()
            return False

    def clear(self) -> None:
        """Remove all entries, and reset ``failure``."""
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

    def _fail(self, error: Exception) -> None:
        self.close()
        self.failure = str(error) or type(error).__name__


def _remove_stale_files(path: Path) -> None:
    """Remove temporary files that a crash left while an index was saved."""
    for stale in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        if stale.stat().st_mtime < time.time() - _STALE_AGE_SECONDS:
            stale.unlink(missing_ok=True)


def _copy_if_authentic(path: Path, descriptor: int, key: UserKey) -> Watermark | None:
    """Copy the LMDB part of an index file. Return None if the seal does not match its bytes and
    key.
    """
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        size = os.fstat(source).st_size - _SEAL.size
        seal = os.pread(source, _SEAL.size, size) if 0 < size <= LOAD_SIZE_MAX else b""
        if len(seal) < _SEAL.size:
            return None
        magic, journal_id, seq, chain, length, digest = _SEAL.unpack(seal)
        if magic != _MAGIC or length != size:
            return None
        hasher, offset = key.new_mac("page index"), 0
        while offset < size:
            part = os.pread(source, min(_COPY_SIZE, size - offset), offset)
            if not part:
                return None
            hasher.update(part)
            os.pwrite(descriptor, part, offset)
            offset += len(part)
        hasher.update(seal[: -len(digest)])
        if not compare_digest(digest, hasher.digest()):
            return None
        return Watermark(journal_id, seq - 1, chain)
    finally:
        os.close(source)


def _write_seal(descriptor: int, key: UserKey, watermark: Watermark) -> None:
    """Append the seal to an LMDB file."""
    size, offset, hasher = os.fstat(descriptor).st_size, 0, key.new_mac("page index")
    while offset < size:
        part = os.pread(descriptor, _COPY_SIZE, offset)
        hasher.update(part)
        offset += len(part)
    head = _SEAL.pack(
        _MAGIC, watermark.journal_id, watermark.seq + 1, watermark.hash, size, bytes(32)
    )[:-32]
    hasher.update(head)
    os.pwrite(descriptor, head + hasher.digest(), size)

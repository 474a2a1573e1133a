"""Page deduplication in the output, which stores each page once and refers to it afterwards.

A reference of the source is first resolved in the source, because the referenced page may be
dropped or get another sequence number.
"""

import os
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Self

from xxhash import xxh3_64_intdigest

from journal.compaction.output import OutputRow
from journal.errors import MalformedEvent
from journal.events import codec
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.format.block import Block
from journal.fs import atomic_file
from journal.log.segment_writer import is_disk_full
from journal.pages import PageResolver
from journal.pages.deduplication import iterate_whole_pages, replace_with_references

POOL_COUNT_MAX = 1 << 18
"""Number of newest pages in the pool. Merged pages are stored in a file of at most 1 GiB."""
_TAG = MemoryPages.tag


class PagePool:
    """Pages written so far, by the hashes of their bytes.

    ``read`` returns the bytes of a page stored in the source. Other pages are stored in a
    file without a name; without space for that file, no more of them are added.
    """

    def __init__(
        self,
        folder: Path,
        read: Callable[[int, int], bytes | None],
        digest: Callable[[bytes], int] | None = None,
    ) -> None:
        self._folder = folder
        self._read_source = read
        self._digest = digest or xxh3_64_intdigest
        self._file = -1
        self._is_full = False
        self._slots: dict[int, int] = {}
        self._hashes, self._seqs, self._indices = array("Q"), array("Q"), array("H")
        self._is_in_file = bytearray()
        self._next = 0

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def find(self, at: tuple[int, int], page: bytes, *, is_stored: bool) -> tuple[int, int] | None:
        """Return the sequence number and index of an equal page written before, or None.

        If there is none, add the page as written ``at`` this sequence number and index.
        ``is_stored`` says that the source stores the same bytes at the same position.
        """
        page_hash = self._digest(page)
        slot = self._slots.get(page_hash)
        if slot is None:
            self._put(page_hash, at, page, is_stored=is_stored)
            return None
        if self._read(slot) != page:
            return None
        return self._seqs[slot], self._indices[slot]

    def _put(self, page_hash: int, at: tuple[int, int], page: bytes, *, is_stored: bool) -> None:
        slot = self._next
        if not is_stored and not self._save(slot, page):
            return
        if slot < len(self._hashes):
            old = self._hashes[slot]
            if self._slots.get(old) == slot:
                del self._slots[old]
            self._hashes[slot], self._is_in_file[slot] = page_hash, not is_stored
            self._seqs[slot], self._indices[slot] = at
        else:
            self._hashes.append(page_hash)
            self._is_in_file.append(not is_stored)
            self._seqs.append(at[0])
            self._indices.append(at[1])
        self._slots[page_hash] = slot
        self._next = (slot + 1) % POOL_COUNT_MAX

    def _save(self, slot: int, page: bytes) -> bool:
        """Save the bytes of a page to the file, and return whether there was space."""
        if self._is_full:
            return False
        try:
            if self._file < 0:
                path = atomic_file.make_temporary_path(self._folder / "pool")
                self._file = atomic_file.create_private(path)
                path.unlink()
            self._is_full = os.pwrite(self._file, page, slot * PAGE_SIZE) < PAGE_SIZE
        except OSError as error:
            if not is_disk_full(error):
                raise
            self._is_full = True
        return not self._is_full

    def _read(self, slot: int) -> bytes | None:
        if self._is_in_file[slot]:
            return os.pread(self._file, PAGE_SIZE, slot * PAGE_SIZE)
        return self._read_source(self._seqs[slot], self._indices[slot])


class PageDeduplicator:
    """Rewriter of memory events to their output form, in sequence order; a context manager.

    ``resolver`` resolves the references of the source; the temporary file is created in ``folder``.
    """

    def __init__(self, resolver: PageResolver, folder: Path) -> None:
        self._resolver = resolver
        self._pool = PagePool(folder, resolver.find_page)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def rewrite_block(self, block: Block) -> dict[int, bytes]:
        """Return the new payloads of the events of a block that change, by index."""
        payloads: dict[int, bytes] = {}
        if _TAG in block.tags:
            for index in block.select({_TAG}):
                before = block.payload(index)
                payload = self.rewrite_payload(block.seq(index), before)
                if payload is not before:
                    payloads[index] = payload
        return payloads

    def rewrite_row(self, row: OutputRow, *, is_merged: bool = False) -> OutputRow:
        """Return an event in its output form; ``is_merged`` if it differs from the source."""
        if row.tag != _TAG:
            return row
        return row._replace(payload=self.rewrite_payload(row.seq, row.payload, is_merged=is_merged))

    def rewrite_payload(self, seq: int, payload: bytes, *, is_merged: bool = False) -> bytes:
        """Return the output payload of the MemoryPages event ``seq``.

        A payload with references that cannot be resolved is returned unchanged.
        """
        try:
            event = codec.decode(_TAG, payload)
            assert isinstance(event, MemoryPages)
            whole = self._resolver.resolve_event(seq, event)
            if PageKind.WHOLE not in whole.kinds:
                return payload
            pages = [(index, bytes(page)) for index, page in iterate_whole_pages(whole)]
        except MalformedEvent:
            return payload
        matches = []
        for index, page in pages:
            is_stored = not is_merged and event.kinds[index] == PageKind.WHOLE
            previous = self._pool.find((seq, index), page, is_stored=is_stored)
            if previous is not None:
                matches.append((index, previous))
        if whole is event and not matches:
            return payload
        after = codec.encode(replace_with_references(seq, whole, matches))
        return payload if after == payload else after

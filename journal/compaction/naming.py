"""Pages that a compacted journal has already: each is given once, and named from then on.

What the source named is looked up there first: what it led to may go, or get another number.
"""

import os
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Self

from xxhash import xxh3_64_intdigest

from journal import codec, durable
from journal.block import Block
from journal.compaction.writing import Row
from journal.errors import MalformedEvent
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.pages import Resolver
from journal.pages.sharing import named, whole_in

POOL_COUNT_MAX = 1 << 18
"""Pages whose bytes are kept in a file, to be compared: the last of them, 1 GiB."""
_WRITTEN_COUNT = 64
_TAG = MemoryPages.tag


class Pool:
    """Pages that were written, by the hashes of their bytes, which stand in a file without a name.

    Where there is no room for that, no more are kept.
    """

    def __init__(self, folder: Path, digest: Callable[[bytes], int] = xxh3_64_intdigest) -> None:
        self._folder = folder
        self._digest = digest
        self._file = -1
        self._is_full = False
        self._slots: dict[int, int] = {}
        self._hashes, self._seqs, self._places = array("Q"), array("Q"), array("H")
        self._next = 0
        self._waiting: list[bytes] = []

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def find(self, seq: int, place: int, page: bytes) -> tuple[int, int] | None:
        """Where these bytes were written; if nowhere, they are now, at this event and index."""
        hashed = self._digest(page)
        slot = self._slots.get(hashed)
        if slot is None:
            if not self._is_full:
                self._put(hashed, seq, place, page)
            return None
        if self._read(slot) != page:
            return None
        return self._seqs[slot], self._places[slot]

    def _put(self, hashed: int, seq: int, place: int, page: bytes) -> None:
        slot = self._next
        if slot < len(self._hashes):
            old = self._hashes[slot]
            if self._slots.get(old) == slot:
                del self._slots[old]
            self._hashes[slot], self._seqs[slot], self._places[slot] = hashed, seq, place
        else:
            self._hashes.append(hashed)
            self._seqs.append(seq)
            self._places.append(place)
        self._slots[hashed] = slot
        self._waiting.append(page)
        self._next = slot + 1
        if len(self._waiting) >= _WRITTEN_COUNT or self._next == POOL_COUNT_MAX:
            self._write()
            self._next %= POOL_COUNT_MAX

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            if self._file < 0:
                path = durable.temporary_beside(self._folder / "pool")
                self._file = durable.create(path)
                path.unlink()
            data, at = b"".join(waiting), (self._next - len(waiting)) * PAGE_SIZE
            if os.pwrite(self._file, data, at) < len(data):
                raise OSError("cut short")
        except OSError:
            self._is_full = True
            self._slots = {}

    def _read(self, slot: int) -> bytes:
        behind = self._next - slot
        if 0 < behind <= len(self._waiting):
            return self._waiting[-behind]
        return os.pread(self._file, PAGE_SIZE, slot * PAGE_SIZE)


class Naming:
    """Gives events of memory as they are to be written, in the order of their numbers.

    A context manager. ``resolver`` looks up what events of the source name.
    """

    def __init__(self, resolver: Resolver, pool: Pool) -> None:
        self._resolver = resolver
        self._pool = pool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def changed(self, block: Block) -> dict[int, bytes]:
        """The payloads of a block's events that are not written as they are, by index."""
        found: dict[int, bytes] = {}
        if _TAG in block.tags:
            for index in block.select({_TAG}):
                before = block.payload(index)
                payload = self.payload(block.seq(index), before)
                if payload is not before:
                    found[index] = payload
        return found

    def row(self, row: Row) -> Row:
        """An event as it is written."""
        if row.tag != _TAG:
            return row
        return row._replace(payload=self.payload(row.seq, row.payload))

    def payload(self, seq: int, payload: bytes) -> bytes:
        """The payload that event number ``seq``, one of memory, is written with.

        What nobody could look up, nobody can: it stays.
        """
        try:
            event = codec.decode(_TAG, payload)
            assert isinstance(event, MemoryPages)
            whole = self._resolver.event(seq, event)
            if PageKind.WHOLE not in whole.kinds:
                return payload
            pages = [(place, bytes(page)) for place, page in whole_in(whole)]
        except MalformedEvent:
            return payload
        matches = []
        for place, page in pages:
            stood = self._pool.find(seq, place, page)
            if stood is not None:
                matches.append((place, stood))
        if whole is event and not matches:
            return payload
        after = codec.encode(named(seq, whole, matches))
        return payload if after == payload else after

"""Input of the log benchmarks: events of 60 bytes, and memory pages."""

from __future__ import annotations

import random
import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from operator import add

from journal.events.codec import encode
from journal.events.descriptors import FileDescriptorWrite

EVENT_SIZE = 60
PAGE_SIZE = 4096
KINDS = 7
SELECTED_TAG = 3
"""Tag that the selective read returns, one of seven."""

_ONE_KIND = FileDescriptorWrite.tag
_PREFIXES = [bytes((tag,)) for tag in range(256)]
_HEAP = 0x0011_0000
_WORDS = (
    b"the log never loses a byte that it has said to be safe and says so in one sentence ".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Encoded payloads with their tags; ``keys`` are their sequence numbers as keys of a store.

    The keys are computed in advance, which favours the peers: a program would compute them while it
    runs. Events of one kind need no tag.
    """

    keys: list[bytes]
    tags: list[int]
    payloads: list[bytes]
    one_kind: bool

    @property
    def count(self) -> int:
        """Return the number of events."""
        return len(self.payloads)

    @property
    def size(self) -> int:
        """Return the bytes of all payloads."""
        return sum(map(len, self.payloads))

    def values(self, start: int = 0, stop: int | None = None) -> Iterable[bytes]:
        """Yield the values for a key-value store: each payload, after its tag unless one_kind."""
        payloads = self.payloads[start:stop]
        if self.one_kind:
            return payloads
        return map(add, map(_PREFIXES.__getitem__, self.tags[start:stop]), payloads)


def _make_events(payloads: list[bytes], *, one_kind: bool) -> Events:
    count = len(payloads)
    tags = [_ONE_KIND] * count if one_kind else [1 + n % KINDS for n in range(count)]
    keys = [n.to_bytes(8, "big") for n in range(count)]
    return Events(keys=keys, tags=tags, payloads=payloads, one_kind=one_kind)


def make_small_events(count: int) -> Events:
    """Return events of 60 bytes and seven kinds, with typical repetition."""
    payloads = [
        struct.pack("<QQI", n * 1000, n * 7919 % 100003, n % 50)
        + (b"clock_time_get mono 0x%08x" % (n % 5000)).ljust(40, b".")
        for n in range(count)
    ]
    assert all(len(payload) == EVENT_SIZE for payload in payloads[:1])
    return _make_events(payloads, one_kind=False)


Fields = tuple[int, int, bool, bytes]
"""Fields of a file write: descriptor, offset, whether the offset was given in 64 bits, data."""


def make_writes(count: int) -> tuple[list[Fields], Events]:
    """Return file writes, as fields and as encoded events."""
    spare = EVENT_SIZE - len(encode(FileDescriptorWrite(fd=4, offset=0, data=b"")))
    fields = [
        (4, n * spare, False, (b"round %09d record %d " % (n, n % 977)).ljust(spare, b"x"))
        for n in range(count)
    ]
    payloads = [
        encode(FileDescriptorWrite(fd=fd, offset=at, is_64bit=is_64bit, data=data))
        for fd, at, is_64bit, data in fields
    ]
    assert {len(payload) for payload in payloads} == {EVENT_SIZE}
    return fields, _make_events(payloads, one_kind=True)


def make_pages(count: int) -> Events:
    """Return pages like those of a guest's memory: zeros, pointers, words, numbers and noise."""
    generator = random.Random(1)
    pool = [_make_page(generator) for _ in range(1024)]
    return _make_events([pool[n * 17 % len(pool)] for n in range(count)], one_kind=True)


def _make_page(generator: random.Random) -> bytes:
    kind = generator.random()
    if kind < 0.3:
        return bytes(PAGE_SIZE)
    if kind < 0.55:
        pointers = [_HEAP + 8 * generator.randrange(1 << 16) for _ in range(PAGE_SIZE // 16)]
        rows = ((at + 32, at, generator.randrange(64), 0) for at in pointers)
        return array("I", [word for row in rows for word in row]).tobytes()
    if kind < 0.75:
        text = b" ".join(generator.choice(_WORDS) for _ in range(PAGE_SIZE // 2))
        return text[:PAGE_SIZE]
    if kind < 0.9:
        values = (round(generator.gauss(100, 20), 2) for _ in range(PAGE_SIZE // 8))
        return array("d", values).tobytes()
    return generator.randbytes(PAGE_SIZE)

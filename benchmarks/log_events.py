"""What the benchmarks of the log append: events of 60 bytes, and pages of memory."""

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
KEPT = 3
"""The tag that a reader keeps of the seven."""

_ONE_KIND = FileDescriptorWrite.tag
_PREFIXES = [bytes((tag,)) for tag in range(256)]
_HEAP = 0x0011_0000
_WORDS = (
    b"the log never loses a byte that it has said to be safe and says so in one sentence ".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Encoded payloads with their tags; ``keys`` are their numbers as stores of pairs want them.

    The keys are a gift: a program would make them as it goes. Events of one kind need no tag.
    """

    keys: list[bytes]
    tags: list[int]
    payloads: list[bytes]
    one_kind: bool

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.payloads)

    @property
    def size(self) -> int:
        """Bytes of all payloads."""
        return sum(map(len, self.payloads))

    def values(self, start: int = 0, stop: int | None = None) -> Iterable[bytes]:
        """What a store of pairs keeps: the payload, behind its tag where there are several."""
        payloads = self.payloads[start:stop]
        if self.one_kind:
            return payloads
        return map(add, map(_PREFIXES.__getitem__, self.tags[start:stop]), payloads)


def _events(payloads: list[bytes], *, one_kind: bool) -> Events:
    count = len(payloads)
    tags = [_ONE_KIND] * count if one_kind else [1 + n % KINDS for n in range(count)]
    keys = [n.to_bytes(8, "big") for n in range(count)]
    return Events(keys=keys, tags=tags, payloads=payloads, one_kind=one_kind)


def small(count: int) -> Events:
    """Events of 60 bytes and seven kinds, which repeat themselves as most do."""
    payloads = [
        struct.pack("<QQI", n * 1000, n * 7919 % 100003, n % 50)
        + (b"clock_time_get mono 0x%08x" % (n % 5000)).ljust(40, b".")
        for n in range(count)
    ]
    assert all(len(payload) == EVENT_SIZE for payload in payloads[:1])
    return _events(payloads, one_kind=False)


Fields = tuple[int, int, bool, bytes]
"""Of a write to a file: descriptor, offset, whether the offset was given in 64 bits, data."""


def written(count: int) -> tuple[list[Fields], Events]:
    """Writes to a file: their fields, and the same encoded."""
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
    return fields, _events(payloads, one_kind=True)


def pages(count: int) -> Events:
    """Pages as a guest's memory has them: zeros, pointers, words, numbers and noise."""
    chance = random.Random(1)
    pool = [_page(chance) for _ in range(1024)]
    return _events([pool[n * 17 % len(pool)] for n in range(count)], one_kind=True)


def _page(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.3:
        return bytes(PAGE_SIZE)
    if kind < 0.55:
        pointers = [_HEAP + 8 * chance.randrange(1 << 16) for _ in range(PAGE_SIZE // 16)]
        rows = ((at + 32, at, chance.randrange(64), 0) for at in pointers)
        return array("I", [word for row in rows for word in row]).tobytes()
    if kind < 0.75:
        text = b" ".join(chance.choice(_WORDS) for _ in range(PAGE_SIZE // 2))
        return text[:PAGE_SIZE]
    if kind < 0.9:
        values = (round(chance.gauss(100, 20), 2) for _ in range(PAGE_SIZE // 8))
        return array("d", values).tobytes()
    return chance.randbytes(PAGE_SIZE)

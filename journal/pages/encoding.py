"""Pages of memory as events carry them: whole, all zeros, patched where they differ from before, or
named where their bytes stand in the journal already.

> Why patches, and not an exclusive or? A patch may be applied twice, and two of them join by laying
> one over the other.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import repeat
from operator import lt
from typing import NamedTuple

import xxhash

from journal.errors import MalformedEvent
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind

ZERO_PAGE = bytes(PAGE_SIZE)
EVENT_PAGES_MAX = 16
"""Pages in one event: what a block holds, so that one flipped bit costs few pages."""
PATCH_SIZE_MAX = PAGE_SIZE // 2
"""A page whose patches would be larger is given whole."""
TABLE_CHUNK_COUNT = 1 << 14
"""Elements of a table in one event, if it has more behind them."""
SIZE_MAX = 1 << 32
"""Bytes of a memory, at most."""

_COUNT = struct.Struct("<H")
_PATCH = struct.Struct("<HH")
_REFERENCE = struct.Struct("<QHQ")
_HASHES = 1 << 128
_COARSE, _MIDDLE, _FINE = 256, 64, 16
"""Where pages differ is looked up in steps of the first size, then of the second, and the third."""
_COARSE_MAX = PATCH_SIZE_MAX // _COARSE


def _split_range(start: int, size: int, step: int) -> tuple[slice, ...]:
    return tuple(slice(at, at + step) for at in range(start, start + size, step))


_COARSE_STEPS = _split_range(0, PAGE_SIZE, _COARSE)
_MIDDLE_STEPS = [_split_range(at, _COARSE, _MIDDLE) for at in range(0, PAGE_SIZE, _COARSE)]
_FINE_STEPS = [_split_range(at, _MIDDLE, _FINE) for at in range(0, PAGE_SIZE, _MIDDLE)]


class ChangedPage(NamedTuple):
    """A page to be recorded: its number, what it has now, and what it had before."""

    number: int
    now: bytes
    before: bytes


def make_patch(page: ChangedPage) -> bytes | None:
    """What turns ``before`` into ``now``, if that is much smaller than a page.

    Patches begin and end at whole steps of 16 bytes. There are none where nothing is different.
    """
    _, now, before = page
    coarse = [step for step in _COARSE_STEPS if now[step] != before[step]]
    if len(coarse) > _COARSE_MAX:
        return None
    spans: list[list[int]] = []
    for large in coarse:
        for middle in _MIDDLE_STEPS[large.start // _COARSE]:
            if now[middle] == before[middle]:
                continue
            for fine in _FINE_STEPS[middle.start // _MIDDLE]:
                if now[fine] == before[fine]:
                    continue
                if spans and spans[-1][1] == fine.start:
                    spans[-1][1] = fine.stop
                else:
                    spans.append([fine.start, fine.stop])
    if not spans:
        return None
    heads = b"".join([_PATCH.pack(start, stop - start) for start, stop in spans])
    data = b"".join([now[start:stop] for start, stop in spans])
    patch = _COUNT.pack(len(spans)) + heads + data
    return patch if len(patch) <= PATCH_SIZE_MAX else None


def encode_pages(memory: int, size: int, pages: list[ChangedPage]) -> Iterator[MemoryPages]:
    """Give the events of what changed in a memory; ``pages`` by number, each different."""
    for start in range(0, max(len(pages), 1), EVENT_PAGES_MAX):
        part = pages[start : start + EVENT_PAGES_MAX]
        kinds, bodies = bytearray(), []
        for page in part:
            kind, body = _encode_page(page)
            kinds.append(kind)
            bodies.append(body)
        yield MemoryPages(
            memory=memory,
            size=size,
            numbers=tuple(page.number for page in part),
            kinds=bytes(kinds),
            data=b"".join(bodies),
        )


def _encode_page(page: ChangedPage) -> tuple[PageKind, bytes]:
    if page.now == ZERO_PAGE:
        return PageKind.ZERO, b""
    patch = None if page.before == ZERO_PAGE else make_patch(page)
    return (PageKind.WHOLE, page.now) if patch is None else (PageKind.PATCHED, patch)


class EncodedPage(NamedTuple):
    """What an event says of a page; ``data`` is empty, 4096 bytes, a patch, or a reference."""

    number: int
    kind: PageKind
    data: bytes


class PageReference(NamedTuple):
    """Where the bytes of a page stand already, and their hash.

    ``back`` is by how much the number of that event is smaller, 0 for the same one; ``place`` is
    the index of the page in it, which is whole and stands in front of this one.
    """

    back: int
    index_in_event: int
    hash: int

    def pack(self) -> bytes:
        """What stands in an event."""
        return _REFERENCE.pack(*self)


REFERENCE_SIZE = _REFERENCE.size
REFERENCE_INDEX_MAX = (1 << 16) - 1
REFERENCE_BACK_MAX = (1 << 64) - 1


def parse_reference(data: bytes) -> PageReference:
    """Give the reference that an event has as ``data`` of a page."""
    return PageReference(*_REFERENCE.unpack(data))


def hash_page_content(page: bytes) -> int:
    """Give the hash of a page's bytes that a reference has."""
    found: int = xxhash.xxh3_64_intdigest(page)
    return found


def decode_resolved_pages(event: MemoryPages) -> Iterator[EncodedPage]:
    """Give what ``event`` says, page by page; raises MalformedEvent where that makes no sense.

    Patches are cut out, and looked into when they are applied. A reference is refused: who can
    look it up gets the bytes from :class:`journal.pages.PageResolver` first.
    """
    for given in decode_pages(event):
        if given.kind is PageKind.SAME:
            raise MalformedEvent(
                f"page {given.number} stands in another event, which was not looked up"
            )
        yield given


def get_whole_pages(event: MemoryPages) -> list[bytes] | None:
    """The pages of an event that gives all of them whole, in order; None for any other.

    What makes no sense is any other, too: ``decode_resolved_pages`` says why.
    """
    numbers, count = event.numbers, event.size // PAGE_SIZE
    is_whole = (
        event.kinds == _WHOLE * len(numbers)
        and len(event.data) == PAGE_SIZE * len(numbers)
        and event.size <= SIZE_MAX
        and not event.size % PAGE_SIZE
        and all(map(lt, (-1, *numbers), (*numbers, count)))
    )
    return split_into_pages(event.data) if is_whole else None


def split_into_pages(data: bytes) -> list[bytes]:
    """Cut bytes into pages."""
    return list(map(BytesIO(data).read, repeat(PAGE_SIZE, len(data) // PAGE_SIZE)))


def decode_pages(event: MemoryPages) -> Iterator[EncodedPage]:
    """Yield the pages of an event, references included; raise as ``decode_resolved_pages``."""
    if len(event.kinds) != len(event.numbers):
        raise MalformedEvent(f"{len(event.numbers)} pages have {len(event.kinds)} kinds")
    if event.size > SIZE_MAX or event.size % PAGE_SIZE:
        raise MalformedEvent(f"no memory has {event.size} bytes")
    at, last, count = 0, -1, event.size // PAGE_SIZE
    for number, kind in zip(event.numbers, event.kinds, strict=True):
        if number <= last:
            raise MalformedEvent(f"page {number} follows page {last}")
        if number >= count:
            raise MalformedEvent(f"a memory of {count} pages has no page {number}")
        if kind > PageKind.SAME:
            raise MalformedEvent(f"page {number} is of the unknown kind {kind}")
        size = _patch_size_at(event.data, at) if kind == PageKind.PATCHED else _SIZES[kind]
        data = event.data[at : at + size]
        if len(data) < size:
            raise MalformedEvent(f"page {number} is cut short: {len(data)} of {size} bytes")
        yield EncodedPage(number, _KINDS[kind], data)
        at, last = at + size, number
    if at != len(event.data):
        raise MalformedEvent(f"{len(event.data) - at} bytes stand behind the last page")


_KINDS = tuple(PageKind)
assert list(_KINDS) == list(range(len(_KINDS)))
_WHOLE = bytes((PageKind.WHOLE,))
_SIZES = {0: 0, 1: PAGE_SIZE, 3: REFERENCE_SIZE}
"""Bytes of ``data`` of a page, where its kind tells."""


def _patch_size_at(data: bytes, at: int) -> int:
    """Give the size of the patches at ``at``."""
    if at + _COUNT.size > len(data):
        return _COUNT.size
    count = int.from_bytes(data[at : at + _COUNT.size], "little")
    heads = data[at + _COUNT.size : at + _COUNT.size + count * _PATCH.size]
    usable = heads[: len(heads) - len(heads) % _PATCH.size]
    sizes: int = sum(size for _, size in _PATCH.iter_unpack(usable))
    return _COUNT.size + count * _PATCH.size + sizes


def apply_patch(before: bytes, patch: bytes) -> bytes:
    """Give the page that ``patch`` makes of ``before``; raises MalformedEvent."""
    if _patch_size_at(patch, 0) != len(patch):
        raise MalformedEvent(f"patches of {len(patch)} bytes are not as many as they say")
    (count,) = _COUNT.unpack_from(patch)
    page = bytearray(before)
    at, end = _COUNT.size + count * _PATCH.size, 0
    if not count:
        raise MalformedEvent("a page is patched nowhere")
    for start, size in _PATCH.iter_unpack(patch[_COUNT.size : at]):
        if start < end or not size or start + size > PAGE_SIZE:
            raise MalformedEvent(
                f"a patch of {size} bytes at {start} follows one that ends at {end}"
            )
        end = start + size
        page[start:end] = patch[at : at + size]
        at += size
    return bytes(page)


def hash_page(memory: int, number: int, page: bytes | memoryview) -> int:
    """Give what a page adds to its memory's sum; a page of zeros adds nothing."""
    found: int = xxhash.xxh3_128_intdigest(page, memory << 32 | number)
    return found


def update_hash_sum(total: int, added: int, removed: int) -> int:
    """Give the sum of a memory's page hashes after one page has changed: all modulo 2**128."""
    return (total + added - removed) % _HASHES


def encode_table(table: int, functions: Sequence[int]) -> Iterator[bytes]:
    """Give what a table adds to a digest: the payloads of TableSets that have all its elements."""
    for start in range(0, max(len(functions), 1), TABLE_CHUNK_COUNT):
        part = functions[start : start + TABLE_CHUNK_COUNT]
        yield struct.pack(f"<3I{len(part)}I", table, start, len(part), *part)


def compute_state_digest(
    memories: Iterable[tuple[int, int, int]], payloads: Iterable[bytes]
) -> bytes:
    """Give the digest of a whole state, 16 bytes.

    ``memories`` are index, size in bytes and sum of the page hashes of each, by index; ``payloads``
    those of the events that say the rest, in the order in which they stand in front of a Snapshot,
    with ``encode_table`` for each table, whatever part of it they have.
    """
    digest = xxhash.xxh3_128()
    for index, size, total in memories:
        digest.update(struct.pack("<IQ", index, size) + total.to_bytes(16, "little"))
    for payload in payloads:
        digest.update(len(payload).to_bytes(8, "little") + payload)
    return digest.digest()

"""Encoding of memory pages: whole, zero, patched, or a reference to an equal page; and their
hashes.

> Why patches, and not an exclusive or? A patch may be applied twice, and two patches combine by
applying one after the other.
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
"""Maximum number of pages in one event: a full block, so that one flipped bit costs few pages."""
PATCH_SIZE_MAX = PAGE_SIZE // 2
"""Maximum size of a patch in bytes. A page with a larger patch is stored whole."""
TABLE_CHUNK_COUNT = 1 << 14
"""Number of table elements in one event, except the last."""
SIZE_MAX = 1 << 32
"""Maximum size of a memory in bytes."""

_COUNT = struct.Struct("<H")
_PATCH = struct.Struct("<HH")
_REFERENCE = struct.Struct("<QHQ")
_HASHES = 1 << 128
_COARSE, _MIDDLE, _FINE = 256, 64, 16
"""Step sizes in bytes of a page comparison: coarse steps first, finer ones where they differ."""
_COARSE_MAX = PATCH_SIZE_MAX // _COARSE


def _split_range(start: int, size: int, step: int) -> tuple[slice, ...]:
    return tuple(slice(offset, offset + step) for offset in range(start, start + size, step))


_COARSE_STEPS = _split_range(0, PAGE_SIZE, _COARSE)
_MIDDLE_STEPS = [_split_range(at, _COARSE, _MIDDLE) for at in range(0, PAGE_SIZE, _COARSE)]
_FINE_STEPS = [_split_range(at, _MIDDLE, _FINE) for at in range(0, PAGE_SIZE, _MIDDLE)]


class ChangedPage(NamedTuple):
    """Page to record: its number, its bytes now, and its bytes at the previous snapshot."""

    number: int
    now: bytes
    before: bytes


def make_patch(page: ChangedPage) -> bytes | None:
    """Return the patch that turns ``before`` into ``now``, or None if it is empty or too large.

    Each changed range starts and ends at a multiple of 16 bytes.
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
    """Yield the MemoryPages events for the changed pages of a memory.

    ``pages`` are sorted by number, and each differs from its previous content. Without pages, yield
    one event that records the size.
    """
    for start in range(0, max(len(pages), 1), EVENT_PAGES_MAX):
        chunk = pages[start : start + EVENT_PAGES_MAX]
        kinds, bodies = bytearray(), []
        for page in chunk:
            kind, body = _encode_page(page)
            kinds.append(kind)
            bodies.append(body)
        yield MemoryPages(
            memory=memory,
            size=size,
            numbers=tuple(page.number for page in chunk),
            kinds=bytes(kinds),
            data=b"".join(bodies),
        )


def _encode_page(page: ChangedPage) -> tuple[PageKind, bytes]:
    if page.now == ZERO_PAGE:
        return PageKind.ZERO, b""
    patch = None if page.before == ZERO_PAGE else make_patch(page)
    return (PageKind.WHOLE, page.now) if patch is None else (PageKind.PATCHED, patch)


class EncodedPage(NamedTuple):
    """Page as stored in an event; ``data`` is empty, 4096 bytes, a patch, or a reference."""

    number: int
    kind: PageKind
    data: bytes


class PageReference(NamedTuple):
    """Location of an equal page, and the hash of its bytes.

    ``back`` is the distance in sequence numbers to the event that stores the page, 0 for the same
    event. ``index_in_event`` is the index of the page in that event. The page is whole, and is
    stored earlier.
    """

    back: int
    index_in_event: int
    hash: int

    def pack(self) -> bytes:
        """Return the reference as stored in an event."""
        return _REFERENCE.pack(*self)


REFERENCE_SIZE = _REFERENCE.size
REFERENCE_INDEX_MAX = (1 << 16) - 1
REFERENCE_BACK_MAX = (1 << 64) - 1


def parse_reference(data: bytes) -> PageReference:
    """Return the reference that an event stores as ``data`` of a page."""
    return PageReference(*_REFERENCE.unpack(data))


def hash_page_content(page: bytes) -> int:
    """Return the 64-bit hash of a page's bytes, as stored in a reference."""
    digest: int = xxhash.xxh3_64_intdigest(page)
    return digest


def decode_resolved_pages(event: MemoryPages) -> Iterator[EncodedPage]:
    """Yield the pages of an event without references. Raises MalformedEvent if the event is
    malformed.

    Patches are split off, but not validated before they are applied. Raises MalformedEvent for a
    reference: resolve the event with :class:`journal.pages.PageResolver` first.
    """
    for page in decode_pages(event):
        if page.kind is PageKind.SAME:
            raise MalformedEvent(
                f"page {page.number} is a reference to another event; resolve the event first"
            )
        yield page


def get_whole_pages(event: MemoryPages) -> list[bytes] | None:
    """Return the bytes of all pages of an event if every page is whole, else None.

    Return None for a malformed event, too. ``decode_resolved_pages`` raises its error.
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
    """Return the bytes split into pages."""
    return list(map(BytesIO(data).read, repeat(PAGE_SIZE, len(data) // PAGE_SIZE)))


def decode_pages(event: MemoryPages) -> Iterator[EncodedPage]:
    """Yield the pages of an event, references included. Raises MalformedEvent if the event is
    malformed.
    """
    if len(event.kinds) != len(event.numbers):
        raise MalformedEvent(
            f"event has {len(event.numbers)} page numbers and {len(event.kinds)} page kinds"
        )
    if event.size > SIZE_MAX or event.size % PAGE_SIZE:
        raise MalformedEvent(
            f"memory size must be a multiple of {PAGE_SIZE} up to {SIZE_MAX}, got {event.size}"
        )
    offset, last, count = 0, -1, event.size // PAGE_SIZE
    for number, kind in zip(event.numbers, event.kinds, strict=True):
        if number <= last:
            raise MalformedEvent(f"page numbers must increase: page {number} follows page {last}")
        if number >= count:
            raise MalformedEvent(f"page {number} is outside a memory of {count} pages")
        if kind > PageKind.SAME:
            raise MalformedEvent(f"page {number} has the unknown kind {kind}")
        size = _patch_size_at(event.data, offset) if kind == PageKind.PATCHED else _SIZES[kind]
        data = event.data[offset : offset + size]
        if len(data) < size:
            raise MalformedEvent(f"page {number} is cut short: {len(data)} of {size} bytes")
        yield EncodedPage(number, _KINDS[kind], data)
        offset, last = offset + size, number
    if offset != len(event.data):
        raise MalformedEvent(f"{len(event.data) - offset} bytes follow the last page")


_KINDS = tuple(PageKind)
assert list(_KINDS) == list(range(len(_KINDS)))
_WHOLE = bytes((PageKind.WHOLE,))
_SIZES = {0: 0, 1: PAGE_SIZE, 3: REFERENCE_SIZE}
"""Size in bytes of a page's ``data`` by kind. The size of a patch is stored in its header."""


def _patch_size_at(data: bytes, start: int) -> int:
    """Return the size in bytes of the patch at offset ``start``."""
    if start + _COUNT.size > len(data):
        return _COUNT.size
    count = int.from_bytes(data[start : start + _COUNT.size], "little")
    heads = data[start + _COUNT.size : start + _COUNT.size + count * _PATCH.size]
    usable = heads[: len(heads) - len(heads) % _PATCH.size]
    sizes: int = sum(size for _, size in _PATCH.iter_unpack(usable))
    return _COUNT.size + count * _PATCH.size + sizes


def apply_patch(before: bytes, patch: bytes) -> bytes:
    """Return the page that results from applying ``patch`` to ``before``. Raises MalformedEvent."""
    if _patch_size_at(patch, 0) != len(patch):
        raise MalformedEvent(
            f"patch has {len(patch)} bytes, its header says {_patch_size_at(patch, 0)}"
        )
    (count,) = _COUNT.unpack_from(patch)
    page = bytearray(before)
    offset, end = _COUNT.size + count * _PATCH.size, 0
    if not count:
        raise MalformedEvent("patch has no ranges")
    for start, size in _PATCH.iter_unpack(patch[_COUNT.size : offset]):
        if start < end or not size or start + size > PAGE_SIZE:
            raise MalformedEvent(
                f"patch range of {size} bytes at offset {start} must start at {end} or later, "
                f"not be empty, and end at {PAGE_SIZE} or earlier"
            )
        end = start + size
        page[start:end] = patch[offset : offset + size]
        offset += size
    return bytes(page)


def hash_page(memory: int, number: int, page: bytes | memoryview) -> int:
    """Return the 128-bit hash that a page adds to its memory's sum. A zero page adds nothing.

    The hash is fast, and pages with the same hash can be constructed.
    """
    digest: int = xxhash.xxh3_128_intdigest(page, memory << 32 | number)
    return digest


def update_hash_sum(total: int, added: int, removed: int) -> int:
    """Return the sum of a memory's page hashes modulo 2**128 after one page has changed."""
    return (total + added - removed) % _HASHES


def hash_memory(memory: int, view: memoryview) -> int:
    """Return the sum of the hashes of all pages of a memory modulo 2**128."""
    total = 0
    for start in range(0, len(view), PAGE_SIZE):
        page = view[start : start + PAGE_SIZE].tobytes()
        if page != ZERO_PAGE:
            total += hash_page(memory, start // PAGE_SIZE, page)
    return total % _HASHES


def encode_table(table: int, functions: Sequence[int]) -> Iterator[bytes]:
    """Yield the TableSet payloads with all elements of a table, as hashed into a state digest."""
    for start in range(0, max(len(functions), 1), TABLE_CHUNK_COUNT):
        chunk = functions[start : start + TABLE_CHUNK_COUNT]
        yield struct.pack(f"<3I{len(chunk)}I", table, start, len(chunk), *chunk)


def compute_state_digest(
    memories: Iterable[tuple[int, int, int]], payloads: Iterable[bytes]
) -> bytes:
    """Return the 16-byte digest of a complete state. It detects accidents, not intent.

    ``memories`` are the index, size in bytes and page hash sum of each memory, sorted by index.
    ``payloads`` are those of the other events of the snapshot, in the order in which they precede
    the Snapshot event. Tables are hashed whole (``encode_table``), even if the snapshot stores a
    part.
    """
    digest = xxhash.xxh3_128()
    for index, size, total in memories:
        digest.update(struct.pack("<IQ", index, size) + total.to_bytes(16, "little"))
    for payload in payloads:
        digest.update(len(payload).to_bytes(8, "little") + payload)
    return digest.digest()

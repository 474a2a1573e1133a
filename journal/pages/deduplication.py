"""Replacement of repeated pages by references to pages that the journal already stores."""

from collections.abc import Iterator, Sequence

from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.pages.encoding import (
    REFERENCE_INDEX_MAX,
    PageReference,
    decode_pages,
    hash_page_content,
)

_PLAIN = bytes((PageKind.ZERO, PageKind.WHOLE))
_WHOLE = int(PageKind.WHOLE)


def locate_whole_pages(event: MemoryPages) -> Iterator[tuple[int, int]]:
    """Yield the index of each whole page that a reference can address, and the offset of its bytes
    in the event's data.
    """
    offset = 0
    if event.kinds.translate(None, _PLAIN):
        for index, (_, kind, data) in enumerate(decode_pages(event)):
            if kind is PageKind.WHOLE and index <= REFERENCE_INDEX_MAX:
                yield index, offset
            offset += len(data)
        return
    for index, code in enumerate(event.kinds[: REFERENCE_INDEX_MAX + 1]):
        if code == _WHOLE:
            yield index, offset
            offset += PAGE_SIZE


def iterate_whole_pages(event: MemoryPages) -> Iterator[tuple[int, memoryview]]:
    """Yield each whole page that a reference can address: its index in the event and its bytes."""
    view = memoryview(event.data)
    for index, offset in locate_whole_pages(event):
        yield index, view[offset : offset + PAGE_SIZE]


def replace_with_references(
    seq: int, event: MemoryPages, matches: Sequence[tuple[int, tuple[int, int]]]
) -> MemoryPages:
    """Return event ``seq`` with pages replaced by references.

    Each match is the index of a page in this event and the location (sequence number, index) of an
    equal page that is stored earlier.
    """
    if not matches:
        return event
    kinds, parts, end, whole = bytearray(event.kinds), [], 0, dict(locate_whole_pages(event))
    for index, (target, target_index) in matches:
        assert (target, target_index) < (seq, index), "a reference points to an earlier page"
        start = whole[index]
        page = event.data[start : start + PAGE_SIZE]
        kinds[index] = PageKind.SAME
        parts.append(event.data[end:start])
        parts.append(PageReference(seq - target, target_index, hash_page_content(page)).pack())
        end = start + PAGE_SIZE
    parts.append(event.data[end:])
    return MemoryPages(
        memory=event.memory,
        size=event.size,
        numbers=event.numbers,
        kinds=bytes(kinds),
        data=b"".join(parts),
    )

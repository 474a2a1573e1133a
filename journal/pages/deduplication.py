"""Naming pages that stand already, instead of giving them again."""

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
    """Give the indices of the pages of an event that are whole and can be named, and where their
    bytes begin in its data.
    """
    at = 0
    if event.kinds.translate(None, _PLAIN):
        for place, (_, kind, data) in enumerate(decode_pages(event)):
            if kind is PageKind.WHOLE and place <= REFERENCE_INDEX_MAX:
                yield place, at
            at += len(data)
        return
    for place, code in enumerate(event.kinds[: REFERENCE_INDEX_MAX + 1]):
        if code == _WHOLE:
            yield place, at
            at += PAGE_SIZE


def iterate_whole_pages(event: MemoryPages) -> Iterator[tuple[int, memoryview]]:
    """Give the pages of an event that are whole and can be named, with their indices."""
    view = memoryview(event.data)
    for place, at in locate_whole_pages(event):
        yield place, view[at : at + PAGE_SIZE]


def replace_with_references(
    seq: int, event: MemoryPages, matches: Sequence[tuple[int, tuple[int, int]]]
) -> MemoryPages:
    """Give event number ``seq`` with the pages at these indices named, by event and index."""
    if not matches:
        return event
    kinds, parts, end, whole = bytearray(event.kinds), [], 0, dict(locate_whole_pages(event))
    for place, (target, index) in matches:
        assert (target, index) < (seq, place), "what is named stands in front"
        start = whole[place]
        page = event.data[start : start + PAGE_SIZE]
        kinds[place] = PageKind.SAME
        parts.append(event.data[end:start])
        parts.append(PageReference(seq - target, index, hash_page_content(page)).pack())
        end = start + PAGE_SIZE
    parts.append(event.data[end:])
    return MemoryPages(
        memory=event.memory,
        size=event.size,
        numbers=event.numbers,
        kinds=bytes(kinds),
        data=b"".join(parts),
    )

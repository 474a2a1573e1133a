"""Encoding of memory pages in events, and the hash sums and digests of pages."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journal.errors import MalformedEvent
from journal.events import codec
from journal.events.definition import field_dict
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.events.threads import TableSet
from journal.pages.encoding import (
    EVENT_PAGES_MAX,
    PATCH_SIZE_MAX,
    SIZE_MAX,
    ZERO_PAGE,
    ChangedPage,
    apply_patch,
    compute_state_digest,
    decode_resolved_pages,
    encode_pages,
    encode_table,
    get_whole_pages,
    hash_page,
    make_patch,
    update_hash_sum,
)
from tests.support.page_histories import plain_digest

COUNT = 40
SIZE = COUNT * PAGE_SIZE
Memory = dict[int, bytes]

fills = st.sampled_from([ZERO_PAGE, b"\1" * PAGE_SIZE, bytes(range(256)) * 16])


@st.composite
def change_page(draw: st.DrawFn, before: bytes) -> bytes:
    """Return a page that differs from ``before`` in a few bytes, in many, in all, or in none."""
    page = bytearray(draw(fills) if draw(st.integers(0, 4)) == 0 else before)
    for _ in range(draw(st.sampled_from([0, 1, 2, 5, 40]))):
        at = draw(st.integers(0, PAGE_SIZE - 1))
        data = draw(st.binary(max_size=64))[: PAGE_SIZE - at]
        page[at : at + len(data)] = data
    return bytes(page)


@st.composite
def changes(draw: st.DrawFn) -> list[ChangedPage]:
    """Return changed pages in the order of their numbers."""
    found = []
    for number in sorted(draw(st.sets(st.integers(0, COUNT - 1), max_size=COUNT))):
        before = draw(fills)
        now = draw(change_page(before))
        if now != before:
            found.append(ChangedPage(number, now, before))
    return found


def apply_event(memory: Memory, event: MemoryPages) -> Memory:
    """Return the memory after an event; zero pages are left out."""
    after = dict(memory)
    for number, kind, data in decode_resolved_pages(event):
        if kind is PageKind.PATCHED:
            after[number] = apply_patch(memory.get(number, ZERO_PAGE), data)
        else:
            after[number] = data or ZERO_PAGE
    return {number: page for number, page in after.items() if page != ZERO_PAGE}


# -- events -------------------------------------------------------------------------------------


@given(changes())
def test_encoded_pages_decode_to_the_same_pages(pages: list[ChangedPage]) -> None:
    memory = {page.number: page.before for page in pages if page.before != ZERO_PAGE}
    events = list(encode_pages(3, SIZE, pages))
    assert {event.memory for event in events} == {3}
    assert {event.size for event in events} == {SIZE}
    assert [n for event in events for n in event.numbers] == [page.number for page in pages]
    for event in events:
        assert len(event.numbers) <= EVENT_PAGES_MAX
        read = codec.decode(event.tag, codec.encode(event))
        assert isinstance(read, MemoryPages)
        memory = apply_event(memory, read)
    assert memory == {page.number: page.now for page in pages if page.now != ZERO_PAGE}


@given(changes())
def test_patches_are_small_and_may_be_applied_twice(pages: list[ChangedPage]) -> None:
    for page in pages:
        patch = make_patch(page)
        if patch is not None:
            assert len(patch) <= PATCH_SIZE_MAX
            assert apply_patch(page.before, patch) == page.now
            assert apply_patch(page.now, patch) == page.now


@pytest.mark.parametrize(("at", "size"), [(0, 1), (255, 1), (255, 2), (4095, 1), (100, 300)])
def test_a_patch_is_little_larger_than_the_changed_bytes(at: int, size: int) -> None:
    before = bytes(range(256)) * 16
    now = before[:at] + bytes(255 - each for each in before[at : at + size]) + before[at + size :]
    (event,) = encode_pages(0, SIZE, [ChangedPage(0, now, before)])
    assert event.kinds == bytes([PageKind.PATCHED])
    assert len(event.data) <= 2 + 4 + size + 2 * 15


def test_zero_pages_and_wholly_new_pages_are_stored_as_such() -> None:
    full = b"\1" * PAGE_SIZE
    pages = [
        ChangedPage(0, ZERO_PAGE, full),
        ChangedPage(1, full, ZERO_PAGE),
        ChangedPage(2, b"\2" * PAGE_SIZE, full),
    ]
    (event,) = encode_pages(0, SIZE, pages)
    assert event.kinds == bytes([PageKind.ZERO, PageKind.WHOLE, PageKind.WHOLE])
    assert event.data == full + b"\2" * PAGE_SIZE
    (same,) = encode_pages(0, SIZE, [ChangedPage(0, full, full)])
    assert [page.data for page in decode_resolved_pages(same)] == [full], (
        "an unchanged page is stored whole"
    )


def test_an_event_of_an_unchanged_memory_has_its_size() -> None:
    for size in (0, SIZE, SIZE_MAX):
        (event,) = encode_pages(1, size, [])
        assert (event.memory, event.size, event.numbers) == (1, size, ())
        assert list(decode_resolved_pages(event)) == []


def test_the_last_page_of_4_gib_is_a_page() -> None:
    last = SIZE_MAX // PAGE_SIZE - 1
    (event,) = encode_pages(0, SIZE_MAX, [ChangedPage(last, b"\1" * PAGE_SIZE, ZERO_PAGE)])
    assert [page.number for page in decode_resolved_pages(event)] == [last]


# -- forged events --------------------------------------------------------------------------------


def make_event(**forged: object) -> MemoryPages:
    """Return a valid event with some fields replaced."""
    patch = struct.pack("<HHHHH", 2, 0, 1, 16, 2) + b"abc"
    fields = {
        "memory": 0,
        "size": SIZE,
        "numbers": (1, 2, 7),
        "kinds": bytes([PageKind.ZERO, PageKind.WHOLE, PageKind.PATCHED]),
        "data": b"x" * PAGE_SIZE + patch,
    }
    return MemoryPages(**fields | forged)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        ({"kinds": b""}, "3 page numbers and 0 page kinds"),
        ({"kinds": bytes(4)}, "3 page numbers and 4 page kinds"),
        ({"numbers": (1, 2)}, "2 page numbers and 3 page kinds"),
        ({"kinds": b"\0\1\4"}, "unknown kind 4"),
        ({"numbers": (1, 1, 2)}, "page 1 follows page 1"),
        ({"numbers": (2, 1, 3)}, "page 1 follows page 2"),
        ({"numbers": (1, 2, COUNT)}, f"page {COUNT} is outside a memory of {COUNT} pages"),
        ({"size": 0}, "page 1 is outside a memory of 0 pages"),
        ({"size": SIZE + 1}, f"memory size must be .* got {SIZE + 1}"),
        ({"size": SIZE_MAX + PAGE_SIZE}, "memory size must be a multiple of"),
        ({"data": b""}, "cut short: 0 of 4096 bytes"),
        ({"data": make_event().data[:-1]}, "cut short: 12 of 13 bytes"),
        ({"data": make_event().data[:-4]}, "cut short: 9 of 11 bytes"),
        ({"data": make_event().data[: PAGE_SIZE + 5]}, "cut short"),
        ({"data": make_event().data[: PAGE_SIZE + 1]}, "cut short: 1 of 2 bytes"),
        ({"data": make_event().data + b"\0"}, "1 bytes follow the last page"),
        ({"kinds": b"\0\0\0"}, "bytes follow the last page"),
    ],
)
def test_a_forged_event_is_malformed(forged: dict[str, object], message: str) -> None:
    with pytest.raises(MalformedEvent, match=message):
        list(decode_resolved_pages(make_event(**forged)))


@pytest.mark.parametrize(
    ("heads", "data", "message"),
    [
        ([], b"", "patch has no ranges"),
        ([(0, 0)], b"", "patch range of 0 bytes"),
        ([(4095, 2)], b"ab", "patch range of 2 bytes at offset 4095"),
        ([(65535, 1)], b"a", "at offset 65535"),
        ([(0, 2), (1, 1)], b"abc", "at offset 1 must start at 2 or later"),
        ([(8, 1), (0, 1)], b"ab", "at offset 0 must start at 9 or later"),
        ([(0, 2)], b"a", "its header says"),
        ([(0, 2)], b"abc", "its header says"),
    ],
)
def test_a_forged_patch_is_malformed(
    heads: list[tuple[int, int]], data: bytes, message: str
) -> None:
    patch = b"".join([struct.pack("<H", len(heads)), *(struct.pack("<HH", *h) for h in heads)])
    with pytest.raises(MalformedEvent, match=message):
        apply_patch(ZERO_PAGE, patch + data)


@given(st.binary(max_size=64) | st.binary(max_size=24).map(lambda rest: b"\1\0" + rest))
def test_any_bytes_are_a_patch_or_are_malformed(patch: bytes) -> None:
    with suppress(MalformedEvent):
        page = apply_patch(ZERO_PAGE, patch)
        assert len(page) == PAGE_SIZE
        (count,) = struct.unpack_from("<H", patch)
        assert page.replace(b"\0", b"") == patch[2 + 4 * count :].replace(b"\0", b"")


@given(
    st.integers(0, 2**32 - 1) | st.just(0),
    st.integers(0, 2**64 - 1) | st.sampled_from([SIZE, SIZE_MAX]),
    st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 8), max_size=5).map(tuple),
    st.binary(max_size=6) | st.lists(st.integers(0, 3), max_size=5).map(bytes),
    st.binary(max_size=40) | st.sampled_from([ZERO_PAGE, b"\xff" * 300_000]),
)
def test_an_event_with_any_fields_is_decoded_or_malformed(
    memory: int, size: int, numbers: tuple[int, ...], kinds: bytes, data: bytes
) -> None:
    event = MemoryPages(memory=memory, size=size, numbers=numbers, kinds=kinds, data=data)
    with suppress(MalformedEvent):
        assert sum(len(page.data) for page in decode_resolved_pages(event)) == len(data)
        apply_event({}, event)


@example(SIZE, [1, 1], b"\1", 0)
@example(SIZE, [3, 2], b"\1", 0)
@example(4 * PAGE_SIZE, [2, 4], b"\1", 0)
@given(
    st.sampled_from([SIZE, SIZE + 1, 4 * PAGE_SIZE, SIZE_MAX, SIZE_MAX + PAGE_SIZE]),
    st.lists(st.integers(0, 5), max_size=4) | st.sets(st.integers(0, 5), max_size=4).map(sorted),
    st.sampled_from([b"", b"\0", b"\2", b"\1"]),
    st.sampled_from([0, 0, 0, 1, -1]),
)
def test_get_whole_pages_returns_pages_only_if_all_are_whole(
    size: int, numbers: list[int], kind: bytes, excess: int
) -> None:
    kinds = (b"\1" * len(numbers))[: -len(kind) or None] + kind
    data = bytes(range(1, 256)) * 80
    event = MemoryPages(
        memory=0,
        size=size,
        numbers=tuple(numbers),
        kinds=kinds,
        data=data[: len(numbers) * PAGE_SIZE + excess],
    )
    expected = None
    with suppress(MalformedEvent):
        pages = list(decode_resolved_pages(event))
        if all(page.kind is PageKind.WHOLE for page in pages):
            expected = [page.data for page in pages]
    assert get_whole_pages(event) == expected


@given(st.data())
def test_an_event_with_changed_bytes_is_decoded_or_malformed(data: st.DataObject) -> None:
    payload = bytearray(codec.encode(make_event()))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with suppress(MalformedEvent):
        event = codec.decode(MemoryPages.tag, bytes(payload))
        assert isinstance(event, MemoryPages)
        apply_event({}, event)


def test_claimed_sizes_allocate_no_memory() -> None:
    claims = struct.pack("<H", 0xFFFF) + struct.pack("<HH", 0, 0xFFFF) * 0xFFFF
    event = make_event(numbers=(0,), kinds=b"\2", data=claims, size=SIZE_MAX)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedEvent, match="page 0 is cut short"):
            list(decode_resolved_pages(event))
        with pytest.raises(MalformedEvent):
            apply_patch(ZERO_PAGE, claims)
        assert tracemalloc.get_traced_memory()[1] < 4 * len(claims)
    finally:
        tracemalloc.stop()


# -- sums and digests ---------------------------------------------------------------------------


def compute_sum(memory: int, pages: Memory) -> int:
    """Compute the hash sum of a whole memory."""
    total = 0
    for number, page in pages.items():
        if page != ZERO_PAGE:
            total = update_hash_sum(total, hash_page(memory, number, page), 0)
    return total


@given(st.lists(changes(), max_size=4), st.randoms())
def test_an_updated_sum_equals_the_recomputed_sum_in_any_order(
    rounds: list[list[ChangedPage]], source: Random
) -> None:
    memory: Memory = {}
    total = 0
    for pages in rounds:
        for number, now, _ in pages:
            before = memory.get(number, ZERO_PAGE)
            removed = 0 if before == ZERO_PAGE else hash_page(2, number, before)
            added = 0 if now == ZERO_PAGE else hash_page(2, number, now)
            total = update_hash_sum(total, added, removed)
            memory[number] = now
    order = list(memory.items())
    source.shuffle(order)
    assert total == compute_sum(2, dict(order))
    assert 0 <= total < 1 << 128


def test_a_page_hash_depends_on_the_memory_and_the_page_number() -> None:
    page = b"\1" * PAGE_SIZE
    assert len({hash_page(memory, number, page) for memory in (0, 1) for number in (0, 1)}) == 4
    assert hash_page(0, 0, memoryview(page)) == hash_page(0, 0, page)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20).map(tuple), st.integers(0, 2**32 - 1))
def test_a_small_table_is_digested_as_one_event(functions: tuple[int, ...], table: int) -> None:
    whole = TableSet(table=table, start=0, functions=functions)
    assert list(encode_table(table, functions)) == [codec.encode(whole)]


@pytest.mark.parametrize("count", [16384, 16385, 70_000])
def test_a_large_table_is_digested_as_several_events(count: int) -> None:
    parts = [
        TableSet(table=3, start=start, functions=tuple(range(start, min(start + 16384, count))))
        for start in range(0, count, 16384)
    ]
    assert list(encode_table(3, range(count))) == [codec.encode(part) for part in parts]


@given(
    st.lists(st.lists(fills | change_page(ZERO_PAGE), max_size=6), max_size=3),
    st.lists(st.binary(max_size=20), max_size=4),
)
def test_a_digest_follows_the_spec(memories: list[list[bytes]], payloads: list[bytes]) -> None:
    message = [
        (index, len(pages) * PAGE_SIZE, compute_sum(index, dict(enumerate(pages))))
        for index, pages in enumerate(memories)
    ]
    flat = [(index, b"".join(pages)) for index, pages in enumerate(memories)]
    assert compute_state_digest(message, payloads) == plain_digest(flat, payloads)


def test_a_digest_depends_on_the_boundaries_of_payloads() -> None:
    digests = {
        compute_state_digest([], payloads)
        for payloads in ([], [b""], [b"", b""], [b"ab"], [b"a", b"b"])
    }
    assert len(digests) == 5


def test_a_valid_event_decodes() -> None:
    event = make_event()
    assert [(n, k.name, len(d)) for n, k, d in decode_resolved_pages(event)] == [
        (1, "ZERO", 0),
        (2, "WHOLE", PAGE_SIZE),
        (7, "PATCHED", 13),
    ]
    assert apply_event({}, event)[7][:18] == b"a" + bytes(15) + b"bc"
    assert set(field_dict(event)) == {"memory", "size", "numbers", "kinds", "data"}

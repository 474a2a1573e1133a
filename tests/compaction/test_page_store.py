"""Merged state: equal to the state with all pages kept, with any buffer size."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from journal.compaction.liveness.dependency_graph import DependsOnDroppedSnapshot
from journal.compaction.merge import spill_file
from journal.compaction.merge.page_store import MergedState
from journal.compaction.merge.spill_file import SpillFile
from journal.events import codec
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.format.frame import Frame
from journal.pages import PageResolver
from journal.pages.encoding import (
    ZERO_PAGE,
    ChangedPage,
    PageReference,
    hash_page_content,
    make_patch,
)

PLACES = 12
CONTENTS = [bytes((number,)) * PAGE_SIZE for number in range(1, 6)]
rooms = pytest.mark.parametrize("buffered_max", [1, 5, 1 << 14])

# -- spill file -----------------------------------------------------------------------------------

deeds = st.lists(
    st.none() | st.dictionaries(st.integers(0, PLACES - 1), st.sampled_from(CONTENTS)), max_size=20
)


@rooms
@given(deeds)
def test_each_place_has_the_page_that_was_put_there_last(
    buffered_max: int, told: list[dict[int, bytes] | None]
) -> None:
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill_file, "BUFFERED_COUNT_MAX", buffered_max)
        plane, plain = SpillFile(Path(name)), dict[int, bytes]()
        for pages in told:
            if pages is None:
                plane.clear()
                plain = {}
            else:
                plane.put(pages, pages.values())
                plain |= pages
            wanted = [plain.get(place, ZERO_PAGE) for place in range(PLACES + 1)]
            assert plane.pages(range(PLACES + 1)) == wanted
            assert [plane.page(place) for place in range(PLACES + 1)] == wanted
        plane.close()


def test_rows_beyond_the_buffer_are_held_in_an_unnamed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill_file, "BUFFERED_COUNT_MAX", 8)
    written: list[tuple[int, int]] = []

    def only_half(file: int, data: bytes, at: int) -> int:
        written.append((at, len(data)))
        return pwrite(file, data[: max(1, len(data) // 2)], at)

    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", only_half)
    plane = SpillFile(tmp_path)
    plane.put(range(8), CONTENTS[:1] * 8)
    assert not written, "there was room for them"
    plane.put([9], CONTENTS[1:2])
    assert list(tmp_path.iterdir()) == []
    assert written[0] == (0, 8 * PAGE_SIZE), "pages in a row are written at once"
    calls = len(written)
    plane.put([8], CONTENTS[2:3])
    assert len(written) == calls, "there is room again"
    assert plane.pages(range(10)) == [*CONTENTS[:1] * 8, CONTENTS[2], CONTENTS[1]]
    plane.close()


# -- merged state ---------------------------------------------------------------------------------


class SnapshotStory(NamedTuple):
    """Snapshot: for each of its events a memory, its growth in pages, and its page changes.

    A change is a page number, an encoding, and a content.
    """

    whole: bool
    kept: bool
    events: list[tuple[int, int, list[tuple[int, PageKind, bytes]]]]


changes = st.lists(
    st.tuples(st.integers(0, PLACES - 1), st.sampled_from([*PageKind]), st.sampled_from(CONTENTS)),
    max_size=PLACES,
    unique_by=lambda change: change[0],
)
histories = st.lists(
    st.builds(
        SnapshotStory,
        whole=st.sampled_from([False, False, False, True]),
        kept=st.booleans(),
        events=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6), changes), max_size=4),
    ),
    max_size=8,
)


class Machine:
    """Simple model of memories, and generator of the events that make them."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.pages: dict[tuple[int, int], bytes] = {}
        self.frames: dict[int, Frame] = {}
        self._fresh: set[tuple[int, int]] = set()
        self._whole: dict[bytes, tuple[int, int]] = {}

    def begin(self, *, whole: bool) -> None:
        """Begin a snapshot."""
        self._fresh = set()
        if whole:
            self.sizes, self.pages = {}, {}

    def event(
        self, memory: int, growth: int, told: list[tuple[int, PageKind, bytes]]
    ) -> tuple[int, MemoryPages]:
        """Change pages of a memory. Return the event and its sequence number."""
        seq = len(self.frames)
        count = self.sizes.get(memory, 0) // PAGE_SIZE + growth
        self.sizes[memory] = count * PAGE_SIZE
        numbers, kinds, data = list[int](), bytearray(), b""
        for number, kind, content in sorted(told):
            if number >= count:
                continue
            at, place = (memory, number), (seq, len(numbers))
            kind, said, page = self._said(at, place, kind, content)
            numbers.append(number)
            kinds.append(kind)
            data += said
            self.pages[at] = page
            self._fresh.add(at)
        event = MemoryPages(
            memory=memory,
            size=count * PAGE_SIZE,
            numbers=tuple(numbers),
            kinds=bytes(kinds),
            data=data,
        )
        self.frames[seq] = Frame(seq, event.tag, codec.encode(event), 0, 0)
        return seq, event

    def _said(
        self, at: tuple[int, int], place: tuple[int, int], kind: PageKind, content: bytes
    ) -> tuple[PageKind, bytes, bytes]:
        """Return encoding, data and content of a page; use the given encoding if possible."""
        before = self.pages.get(at, ZERO_PAGE)
        if kind is PageKind.ZERO:
            return kind, b"", ZERO_PAGE
        if kind is PageKind.PATCHED and at not in self._fresh:
            now = before[:512] + content[:16] + before[528:]
            patch = make_patch(ChangedPage(at[1], now, before))
            if patch is not None:
                return kind, patch, now
        if kind is PageKind.SAME and content in self._whole:
            seq, index = self._whole[content]
            return (
                kind,
                PageReference(place[0] - seq, index, hash_page_content(content)).pack(),
                content,
            )
        self._whole[content] = place
        return PageKind.WHOLE, content, content

    def differences(self, memory: int, pages: dict[tuple[int, int], bytes]) -> list[ChangedPage]:
        """Return the pages of a memory that differ from earlier ``pages``."""
        found = []
        for number in range(self.sizes[memory] // PAGE_SIZE):
            now = self.pages.get((memory, number), ZERO_PAGE)
            before = pages.get((memory, number), ZERO_PAGE)
            if now != before:
                found.append(ChangedPage(number, now, before))
        return found


def _of_one_page(*contents: bytes) -> list[tuple[int, int, list[tuple[int, PageKind, bytes]]]]:
    return [(0, 3, [(1, PageKind.WHOLE, content) for content in contents])]


@rooms
@example(  # The base is cleared, and two whole snapshots follow.
    [
        SnapshotStory(whole=True, kept=True, events=_of_one_page(CONTENTS[0])),
        SnapshotStory(whole=True, kept=False, events=_of_one_page()),
        SnapshotStory(whole=True, kept=True, events=_of_one_page()),
    ]
)
@given(histories)
def test_a_kept_snapshot_says_what_is_different_from_the_one_before(
    buffered_max: int, told: list[SnapshotStory]
) -> None:
    machine, sizes, pages = Machine(), dict[int, int](), dict[tuple[int, int], bytes]()
    with (
        TemporaryDirectory() as name,
        pytest.MonkeyPatch.context() as patch,
        MergedState(Path(name)) as store,
    ):
        patch.setattr(spill_file, "BUFFERED_COUNT_MAX", buffered_max)
        resolver = PageResolver(machine.frames.__getitem__)
        for snapshot in told:
            machine.begin(whole=snapshot.whole)
            store.begin_snapshot(whole=snapshot.whole)
            for memory, growth, changed in snapshot.events:
                store.put_pages(resolver.resolve_event(*machine.event(memory, growth, changed)))
            assert store.sizes == dict(sorted(machine.sizes.items()))
            if not snapshot.kept:
                continue
            has_shrunk = any(machine.sizes.get(memory, -1) < size for memory, size in sizes.items())
            assert store.has_shrunk == has_shrunk
            if has_shrunk:
                store.clear_base()
                pages = {}
            for memory in machine.sizes:
                wanted = machine.differences(memory, pages)
                numbers = store.changed_pages(memory)
                assert list(numbers) == [page.number for page in wanted]
                assert list(store.pages(memory, numbers)) == wanted
            store.set_base()
            sizes, pages = dict(machine.sizes), dict(machine.pages)


def test_a_page_that_is_patched_behind_itself_is_not_merged(tmp_path: Path) -> None:
    patch = make_patch(ChangedPage(3, b"\1" + ZERO_PAGE[1:], ZERO_PAGE))
    assert patch is not None
    event = MemoryPages(
        memory=0, size=1 << 16, numbers=(3,), kinds=bytes((PageKind.PATCHED,)), data=patch
    )
    with MergedState(tmp_path) as store:
        for _ in range(2):
            store.begin_snapshot(whole=False)
            store.put_pages(event)
        with pytest.raises(DependsOnDroppedSnapshot):
            store.put_pages(event)


def test_a_memory_that_shrinks_is_not_merged(tmp_path: Path) -> None:
    def event(size: int) -> MemoryPages:
        return MemoryPages(memory=0, size=size, numbers=(), kinds=b"", data=b"")

    with MergedState(tmp_path) as store:
        store.begin_snapshot(whole=True)
        store.put_pages(event(1 << 16))
        with pytest.raises(DependsOnDroppedSnapshot):
            store.put_pages(event(1 << 15))
        store.begin_snapshot(whole=True)
        store.put_pages(event(1 << 15))

"""Histories of memory, written with all pages inline or with references to earlier pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xxhash
from hypothesis import strategies as st

import journal
from journal.events import codec
from journal.events.definition import Event
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.events.snapshots import DescriptorPositions, SafePoint, Snapshot, Trigger
from journal.events.threads import GlobalsSet
from journal.format.frame import Frame
from journal.fs.user_key import UserKey
from journal.pages import PageResolver
from journal.pages.encoding import ZERO_PAGE, ChangedPage, encode_pages
from journal.pages.page_index import PageIndex
from journal.replay import ModelHost, play

KEY = UserKey(b"k" * 32)
SIZE = 1 << 17
PAGES = SIZE // PAGE_SIZE

Memories = dict[int, dict[int, bytes]]
History = list[list[tuple[int, int, int, int]]]
"""Changes of each snapshot: memory, page, content, and the offset of a changed byte or -1."""


def content(number: int) -> bytes:
    """Return the bytes of a page: zeros for 0, otherwise distinct contents."""
    if not number:
        return ZERO_PAGE
    return bytes((number * 31 + at * at) % 251 for at in range(64)) * (PAGE_SIZE // 64)


def histories(snapshots: int = 6) -> st.SearchStrategy[History]:
    """Return a strategy of histories that change a few pages to a few contents."""
    change = st.tuples(
        st.integers(0, 1), st.integers(0, PAGES - 1), st.integers(0, 5), st.integers(-3, 40)
    )
    return st.lists(st.lists(change, max_size=24), min_size=1, max_size=snapshots)


def states(history: History) -> list[Memories]:
    """Return the nonzero pages of the memories at each snapshot."""
    found: list[Memories] = []
    now: Memories = {0: {}, 1: {}}
    for changes in history:
        now = {memory: dict(pages) for memory, pages in now.items()}
        for memory, number, which, at in changes:
            page = content(which)
            if at >= 0:
                page = page[:at] + bytes([page[at] ^ 0x55]) + page[at + 1 :]
            now[memory][number] = page
        found.append(
            {
                memory: {number: page for number, page in pages.items() if page != ZERO_PAGE}
                for memory, pages in now.items()
            }
        )
    return found


def events(history: History) -> list[list[Event]]:
    """Return the events of each snapshot. The first snapshot has all pages."""
    found: list[list[Event]] = []
    before: Memories = {0: {}, 1: {}}
    for now in states(history):
        point = SafePoint(
            calls=len(found) + 1,
            monotonic=0,
            code=bytes(32),
            whole=not found,
            entry="",
            function="",
        )
        parts: list[Event] = [point]
        for memory in (0, 1):
            pages = [
                ChangedPage(number, now[memory].get(number, ZERO_PAGE), was.get(number, ZERO_PAGE))
                for was in [before[memory]]
                for number in sorted(now[memory].keys() | was.keys())
                if now[memory].get(number, ZERO_PAGE) != was.get(number, ZERO_PAGE)
            ]
            parts += encode_pages(memory, SIZE, pages)
        parts += [GlobalsSet(globals=()), DescriptorPositions(positions=(), free=())]
        found.append([*parts, Snapshot(when=0, trigger=Trigger.EXPLICIT)])
        before = now
    return found


def write(
    path: Path,
    groups: Sequence[Sequence[Event]],
    index: PageIndex | None = None,
    *,
    first: Sequence[Event] = (),
) -> list[int]:
    """Write and sync each group of events. Return the last sequence number of each."""
    with journal.Writer(path) as writer:
        for event in first:
            writer.append(event)
        return [extend(writer, group, index) for group in groups]


def extend(writer: journal.Writer, group: Sequence[Event], index: PageIndex | None = None) -> int:
    """Append a group of events as a snapshot. Return the last sequence number."""
    last = -1
    if index is not None:
        index.begin_snapshot(writer.next_seq)
    for event in group:
        if index is not None and isinstance(event, MemoryPages):
            last = writer.append(index.deduplicate(writer.next_seq, event))
        else:
            writer.append(event)
    writer.sync()
    if index is not None and last >= 0:
        index.end_snapshot(last)
    return writer.next_seq - 1


def write_with_index(path: Path, history: History, *, first: Sequence[Event] = ()) -> list[int]:
    """Write a history to a journal with a page index."""
    with PageIndex(path, key=KEY) as index:
        return write(path, events(history), index, first=first)


def played(path: Path, upto: int | None = None, *, recent: bool = False) -> Memories:
    """Return the memories after event ``upto``."""
    host = ModelHost()
    with journal.Reader(path) as reader:
        pages = None if recent else PageResolver.from_reader(reader)
        play(reader.frames(), host, upto=None if upto is None else upto + 1, pages=pages)
    return {memory: host.machine.pages_of(memory) for memory in (0, 1)}


def pages_in(path: Path) -> list[tuple[Frame, MemoryPages]]:
    """Return the MemoryPages events of a journal, with their frames."""
    found = []
    with journal.Reader(path) as reader:
        for frame in reader.frames(tags={MemoryPages.tag}):
            event = codec.decode(frame.tag, frame.payload)
            assert isinstance(event, MemoryPages)
            found.append((frame, event))
    return found


def count_named_pages(path: Path) -> int:
    """Return the number of pages that a journal references."""
    return sum(event.kinds.count(PageKind.SAME) for _, event in pages_in(path))


def plain_digest(memories: Sequence[tuple[int, bytes]], payloads: Sequence[bytes]) -> bytes:
    """Return the state digest by spec/format.md, computed without code of journal."""
    whole = b""
    for index, content in memories:
        total = 0
        for number in range(len(content) // 4096):
            page = content[4096 * number : 4096 * number + 4096]
            if any(page):
                hashed = xxhash.xxh3_128(page, seed=index * 2**32 + number).digest()
                total += int.from_bytes(hashed, "big")
        whole += index.to_bytes(4, "little")
        whole += len(content).to_bytes(8, "little")
        whole += (total % 2**128).to_bytes(16, "little")
    for payload in payloads:
        whole += len(payload).to_bytes(8, "little")
        whole += payload
    return xxhash.xxh3_128(whole, seed=0).digest()


#: Three snapshots. The later ones repeat many pages of earlier ones.
STORY: History = [
    [(0, number, 1 + number % 3, -1) for number in range(20)] + [(1, 3, 2, -1)],
    [(0, number, 1 + (number + 1) % 3, -1) for number in range(20, 32)] + [(1, 5, 4, -1)],
    [(1, number, 4, -1) for number in range(8, 12)] + [(0, 2, 5, 7)],
]

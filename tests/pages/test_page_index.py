"""References to pages that are already stored: readers get the page bytes or an error.

The tests write a history of memory twice, once with references and once with all pages stored
inline. Both journals must give the same states.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import journal
from journal.compaction import RetentionPolicy, compact
from journal.compaction.merge import page_deduplication
from journal.errors import MalformedEvent
from journal.events import codec
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.events.snapshots import SafePoint
from journal.events.threads import GlobalsSet
from journal.export import Secret, export_lines, import_lines
from journal.format.frame import PAYLOAD_SIZE_MAX, Frame
from journal.fs.user_key import UserKey
from journal.operations.extract import extract_memory
from journal.operations.fork import fork
from journal.operations.split import cut, split
from journal.pages import PageResolver, encoding
from journal.pages import index_store as indexing
from journal.pages import resolver as resolving
from journal.pages.encoding import (
    PageReference,
    decode_pages,
    decode_resolved_pages,
    hash_page_content,
)
from journal.pages.index_store import SUFFIX, Watermark, get_index_path
from journal.pages.page_index import PageIndex
from journal.query.selection import Query
from journal.replay import ModelHost, play
from journal.replay.limits import ReplayError
from tests.support.page_histories import (
    KEY,
    STORY,
    History,
    content,
    count_named_pages,
    events,
    extend,
    histories,
    pages_in,
    played,
    states,
    write,
    write_with_index,
)
from tests.support.sample_events import process_start


def make_event(*pages: bytes | PageReference, size: int = 1 << 20) -> MemoryPages:
    """Return an event with whole pages, references and zero pages."""
    kinds, data = bytearray(), b""
    for page in pages:
        if isinstance(page, PageReference):
            kinds.append(PageKind.SAME)
            data += page.pack()
        else:
            kinds.append(PageKind.WHOLE if page else PageKind.ZERO)
            data += page
    return MemoryPages(
        memory=0, size=size, numbers=tuple(range(len(pages))), kinds=bytes(kinds), data=data
    )


def make_frames(*events_in_order: object) -> dict[int, Frame]:
    return {
        seq: Frame(seq, event.tag, codec.encode(event), 0, 0)  # type: ignore[attr-defined,arg-type]
        for seq, event in enumerate(events_in_order)
    }


def resolve_last(*events_in_order: MemoryPages | GlobalsSet) -> MemoryPages:
    """Return the last of these events with every reference resolved."""
    frames = make_frames(*events_in_order)
    last = events_in_order[-1]
    assert isinstance(last, MemoryPages)
    return PageResolver(frames.__getitem__).resolve_event(len(events_in_order) - 1, last)


ONE, TWO = content(1), content(2)


def test_a_reference_resolves_to_the_bytes_of_the_stored_page() -> None:
    first = make_event(ONE, b"", TWO)
    second = make_event(
        PageReference(1, 2, hash_page_content(TWO)),
        b"",
        PageReference(1, 0, hash_page_content(ONE)),
    )
    event = resolve_last(first, second)
    assert [page.data for page in decode_resolved_pages(event)] == [TWO, b"", ONE]
    assert event.numbers == second.numbers


def test_an_event_may_refer_to_one_of_its_own_earlier_pages() -> None:
    event = resolve_last(make_event(ONE, PageReference(0, 0, hash_page_content(ONE))))
    assert [page.data for page in decode_resolved_pages(event)] == [ONE, ONE]


HOSTILE: dict[str, tuple[PageReference, str]] = {
    "itself": (PageReference(0, 3, hash_page_content(ONE)), "which is not an earlier page"),
    "one behind it in its event": (
        PageReference(0, 4, hash_page_content(ONE)),
        "which is not an earlier page",
    ),
    "an event in front of the first": (
        PageReference(3, 0, hash_page_content(ONE)),
        "which is not an earlier page",
    ),
    "an event that comes later": (
        PageReference(2**64 - 1, 0, hash_page_content(ONE)),
        "which is not an earlier page",
    ),
    "a page of zeros": (PageReference(2, 1, hash_page_content(ONE)), "which is not a whole page"),
    "a page that is patched": (
        PageReference(2, 3, hash_page_content(ONE)),
        "which is not a whole page",
    ),
    "a page that is named": (
        PageReference(2, 2, hash_page_content(ONE)),
        "which is not a whole page",
    ),
    "a page that is named in its event": (
        PageReference(0, 2, hash_page_content(ONE)),
        "which is not a whole page",
    ),
    "a page that the event has not": (PageReference(2, 4, hash_page_content(ONE)), "which has 4"),
    "the last index": (PageReference(2, 65535, hash_page_content(ONE)), "which has 4"),
    "an event of another kind": (
        PageReference(1, 0, hash_page_content(ONE)),
        "which stores no pages",
    ),
    "another page": (PageReference(2, 0, hash_page_content(TWO)), "where the page hash differs"),
    "no hash": (PageReference(2, 0, 0), "where the page hash differs"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_reference_is_refused_if_it_leads_to(case: str) -> None:
    reference, message = HOSTILE[case]
    patch = encoding.make_patch(encoding.ChangedPage(3, b"x" + ONE[1:], ONE))
    assert patch is not None
    whole = make_event(ONE, b"", PageReference(0, 0, hash_page_content(ONE)))
    first = MemoryPages(
        memory=0, size=whole.size, numbers=(0, 1, 2, 3),
        kinds=whole.kinds + bytes([PageKind.PATCHED]), data=whole.data + patch,
    )  # fmt: skip
    inner_reference = PageReference(0, 0, hash_page_content(ONE))
    last = make_event(ONE, b"", inner_reference, reference, ONE)
    with pytest.raises(MalformedEvent, match=message) as caught:
        resolve_last(first, GlobalsSet(globals=()), last)
    assert "page 3 " in str(caught.value)


def test_two_events_that_refer_to_each_other_are_refused() -> None:
    one = make_event(PageReference(1, 0, hash_page_content(ONE)))
    with pytest.raises(MalformedEvent, match="which is not a whole page"):
        resolve_last(one, one)


def test_a_reference_to_a_missing_event_is_refused() -> None:
    referring = make_event(PageReference(1, 0, hash_page_content(ONE)))
    with pytest.raises(MalformedEvent, match="event 6, which the journal does not have"):
        PageResolver(dict[int, Frame]().__getitem__).resolve_event(7, referring)


def test_an_event_that_would_resolve_beyond_the_size_limit_is_refused() -> None:
    count = PAYLOAD_SIZE_MAX // PAGE_SIZE + 1
    reference = PageReference(1, 0, hash_page_content(ONE))
    many = make_event(*[reference] * count, size=count * PAGE_SIZE)
    with pytest.raises(MalformedEvent, match="would exceed"):
        resolve_last(make_event(ONE), many)
    fewer = make_event(*[reference] * (count - 6), size=count * PAGE_SIZE)
    assert len(codec.encode(resolve_last(make_event(ONE), fewer))) <= PAYLOAD_SIZE_MAX


def test_an_unresolved_reference_is_not_decoded_as_bytes() -> None:
    referring = make_event(PageReference(1, 0, hash_page_content(ONE)))
    with pytest.raises(MalformedEvent, match="is a reference to another event"):
        list(decode_resolved_pages(referring))
    (page,) = decode_pages(referring)
    assert (page.kind, len(page.data)) == (PageKind.SAME, encoding.REFERENCE_SIZE)


def test_the_cache_of_resolved_pages_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "CACHE_SIZE_MAX", 8 * PAGE_SIZE)
    count, requests = 64, list[int]()
    frames = make_frames(*[make_event(content(seq + 1)) for seq in range(count)])

    def find(seq: int) -> Frame:
        requests.append(seq)
        return frames[seq]

    resolver = PageResolver(find)
    for _ in range(2):
        for seq in range(count):
            referring = make_event(
                PageReference(count - seq, 0, hash_page_content(content(seq + 1)))
            )
            assert resolver.resolve_event(count, referring).data == content(seq + 1)
    assert resolver.resolve_event(count, referring).data == content(count)
    assert len(requests) == 2 * count, "the cache keeps only the last pages"
    assert resolver._size <= 8 * PAGE_SIZE


# -- histories ------------------------------------------------------------------------------------


@given(histories())
def test_references_and_inline_pages_give_the_same_states(
    tmp_path_factory: pytest.TempPathFactory, history: History
) -> None:
    folder = tmp_path_factory.mktemp("journals")
    ends = write(folder / "inline", events(history))
    assert write_with_index(folder / "references", history) == ends
    for end, state in zip(ends, states(history), strict=True):
        assert played(folder / "references", end) == state == played(folder / "inline", end)
        assert played(folder / "references", end, recent=True) == state
    sizes = [
        sum(len(event.data) for _, event in pages_in(folder / one))
        for one in ("references", "inline")
    ]
    assert sizes[0] <= sizes[1]
    contents = [
        page.data
        for _, event in pages_in(folder / "references")
        for page in decode_pages(event)
        if page.kind is PageKind.WHOLE
    ]
    assert len(contents) == len(set(contents)), "no page is stored inline twice"


@pytest.fixture
def indexed_journal(tmp_path: Path) -> tuple[Path, list[int]]:
    """Return a journal of STORY with references, and the sequence numbers of its snapshots."""
    path = tmp_path / "references"
    ends = write_with_index(path, STORY)
    assert count_named_pages(path) > 20
    return path, ends


def test_cut_and_forked_journals_have_the_same_states(
    tmp_path: Path, indexed_journal: tuple[Path, list[int]]
) -> None:
    path, ends = indexed_journal
    for at, state in zip(ends, states(STORY), strict=True):
        cut(path, tmp_path / f"cut{at}", at=at)
        assert played(tmp_path / f"cut{at}") == state
        fork(path, tmp_path / f"fork{at}", at=at)
        assert played(tmp_path / f"fork{at}") == state


def test_extracted_memory_includes_referenced_pages(
    tmp_path: Path, indexed_journal: tuple[Path, list[int]]
) -> None:
    for memory in (0, 1):
        with (tmp_path / f"{memory}").open("wb") as out:
            extract_memory(indexed_journal[0], out, memory=memory)
        pages = states(STORY)[-1][memory]
        data = (tmp_path / f"{memory}").read_bytes()
        for number in range(len(data) // PAGE_SIZE):
            page = data[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]
            assert page == pages.get(number, encoding.ZERO_PAGE)


def test_joined_journals_keep_their_references_valid(
    tmp_path: Path, indexed_journal: tuple[Path, list[int]]
) -> None:
    path, ends = indexed_journal
    other: History = [[(1, 7, 5, -1), (0, 7, 5, -1)], [(1, 8, 5, -1)]]
    other_ends = write_with_index(tmp_path / "other", other)
    joined = journal.concat([tmp_path / "other", path], tmp_path / "joined")
    plain = tmp_path / "cat"
    plain.write_bytes((tmp_path / "other").read_bytes() + path.read_bytes())
    shift = joined.first_seqs[1]
    assert shift == other_ends[-1] + 1
    for target in (tmp_path / "joined", plain):
        assert played(target, other_ends[-1]) == states(other)[-1]
        for end, state in zip(ends, states(STORY), strict=True):
            assert played(target, end + shift) == state


def test_references_to_dropped_pages_become_inline_pages(
    tmp_path: Path, indexed_journal: tuple[Path, list[int]]
) -> None:
    path, _ = indexed_journal
    (frame, _), *_ = [one for one in pages_in(path) if one[1].memory == 1]
    whole = {seq for frame, _ in pages_in(path) for seq in [frame.seq]}
    for drop in ([frame.seq], sorted(whole)[1:3], [max(whole)], sorted(whole)[:2]):
        target = tmp_path / f"{len(drop)}-{drop[0]}"
        for at, seq in enumerate(drop):
            source = path if not at else tmp_path / f"{target.name}.{at - 1}"
            last = at == len(drop) - 1
            step = target if last else tmp_path / f"{target.name}.{at}"
            query = Query(start=seq, stop=seq + 1)
            journal.filter(source, step, query, keep=False)
        kept_events = {frame.seq: event for frame, event in pages_in(target)}
        assert kept_events.keys() == whole - set(drop)
        with journal.Reader(path) as before, journal.Reader(target) as after:
            old, new = PageResolver.from_reader(before), PageResolver.from_reader(after)
            for one, event in pages_in(path):
                if one.seq in kept_events:
                    assert new.resolve_event(one.seq, kept_events[one.seq]) == old.resolve_event(
                        one.seq, event
                    )
    assert count_named_pages(tmp_path / f"1-{max(whole)}") > 0, (
        "dropping unreferenced pages changes nothing"
    )


def test_self_contained_parts_resolve_alone(
    tmp_path: Path, indexed_journal: tuple[Path, list[int]]
) -> None:
    path, _ = indexed_journal
    split(path, tmp_path / "plain", snapshots=True)
    parts = sorted((tmp_path / "plain").iterdir())
    journal.concat(parts, tmp_path / "again")
    assert [one for one in pages_in(tmp_path / "again")] == [
        (frame._replace(offset=back.offset), event)
        for (frame, event), (back, _) in zip(
            pages_in(path), pages_in(tmp_path / "again"), strict=True
        )
    ]
    host = ModelHost()
    with journal.Reader(parts[1]) as reader, pytest.raises(ReplayError, match="does not have"):
        play(reader.frames(), host, pages=PageResolver.from_reader(reader))
    write_with_index(tmp_path / "started", STORY, first=[process_start()])
    result = split(tmp_path / "started", tmp_path / "alone", snapshots=True, self_contained=True)
    with journal.Reader(tmp_path / "started") as whole:
        for part in result.parts:
            with journal.Reader(part.path) as reader:
                old, new = PageResolver.from_reader(whole), PageResolver.from_reader(reader)
                for frame, event in pages_in(part.path):
                    assert frame.seq >= part.first_seq
                    before = whole.frame(frame.seq)
                    assert new.resolve_event(frame.seq, event) == codec.decode(
                        before.tag, old.resolve_frame(before).payload
                    )


def test_an_exported_and_imported_journal_has_the_same_states(
    tmp_path: Path, indexed_journal: tuple[Path, list[int]]
) -> None:
    path, ends = indexed_journal
    with (tmp_path / "lines").open("wb") as out:
        export_lines(path, out)
    with (tmp_path / "lines").open("rb") as lines:
        import_lines(lines, tmp_path / "again")
    for end, state in zip(ends, states(STORY), strict=True):
        assert played(tmp_path / "again", end) == state


def test_a_redacted_export_has_no_hash_of_a_page(
    tmp_path: Path, indexed_journal: tuple[Path, list[int]]
) -> None:
    out = io.BytesIO()
    export_lines(indexed_journal[0], out, redact=[Secret.MEMORY])
    message = [json.loads(line) for line in out.getvalue().splitlines()]
    data = [one["fields"]["data"] for one in message if one.get("kind") == "MemoryPages"]
    assert all(part.keys() == {"size", "hash"} for parts in data for part in parts)
    sizes = [part["size"] for parts in data for part in parts]
    assert sizes.count(encoding.REFERENCE_SIZE) == count_named_pages(indexed_journal[0])


# -- compaction -----------------------------------------------------------------------------------


@given(histories(), st.integers(1, 4), st.booleans())
def test_a_compacted_journal_has_the_same_states_and_stores_no_page_twice(
    tmp_path_factory: pytest.TempPathFactory, history: History, count: int, has_index: bool
) -> None:
    folder = tmp_path_factory.mktemp("journals")
    if has_index:
        ends = write_with_index(folder / "a", history)
    else:
        ends = write(folder / "a", events(history))
    result = compact(folder / "a", folder / "b", policy=RetentionPolicy(keep_last=count))
    assert list(result.snapshots) == ends[-count:]
    for end, state in list(zip(ends, states(history), strict=True))[-count:]:
        assert played(folder / "b", end) == state
    whole_pages = [
        page.data
        for _, event in pages_in(folder / "b")
        for page in decode_pages(event)
        if page.kind is PageKind.WHOLE
    ]
    assert len(whole_pages) == len(set(whole_pages))
    assert (
        compact(folder / "a", folder / "c", policy=RetentionPolicy(keep_last=count), dry_run=True)
        == result
    )
    again = compact(folder / "b", folder / "c", policy=RetentionPolicy(keep_last=count))
    assert (again.kept_events, again.kept_size) == (again.events, again.size)


def test_a_compaction_stores_inline_the_referenced_pages_of_dropped_events(tmp_path: Path) -> None:
    whole = [(0, number, 1 + number % 5, -1) for number in range(16)]
    history: History = [whole, [(1, number, 1 + number % 5, -1) for number in range(16)]]
    groups = events(history)
    groups[1][0] = SafePoint(
        calls=2, monotonic=0, code=bytes(32), whole=True, entry="", function=""
    )
    with PageIndex(tmp_path / "a", key=KEY) as index:
        ends = write(tmp_path / "a", groups, index)
    last = [frame for frame, event in pages_in(tmp_path / "a") if PageKind.WHOLE in event.kinds][-1]
    assert last.seq < ends[0], "the second snapshot consists of references"
    compact(tmp_path / "a", tmp_path / "b")
    kept_events = [event for _, event in pages_in(tmp_path / "b")]
    assert sum(event.kinds.count(PageKind.WHOLE) for event in kept_events) == 5
    assert played(tmp_path / "b", ends[1])[1] == states(history)[1][1]


@pytest.mark.parametrize("count", [1, 3, 1 << 18])
@pytest.mark.parametrize("bits", [0, 2, 64])
def test_a_compaction_distinguishes_pages_with_equal_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int, count: int
) -> None:
    monkeypatch.setattr(page_deduplication, "POOL_COUNT_MAX", count)
    monkeypatch.setattr(
        page_deduplication, "xxh3_64_intdigest", lambda page: hash_page_content(page) % (1 << bits)
    )
    ends = write(tmp_path / "a", events(STORY))
    compact(tmp_path / "a", tmp_path / "b", policy=RetentionPolicy(keep_last=3))
    for end, state in zip(ends, states(STORY), strict=True):
        assert played(tmp_path / "b", end) == state


def test_a_compaction_without_disk_space_for_deduplication_stores_pages_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a", events(STORY))
    monkeypatch.setattr("journal.compaction.merge.page_deduplication.os.pwrite", _raise_no_space)
    merged = page_deduplication.PagePool(tmp_path, lambda seq, place: None)
    assert merged.find((1, 0), ONE, is_stored=False) is None
    assert merged.find((2, 0), ONE, is_stored=False) is None
    merged.close()
    monkeypatch.undo()
    monkeypatch.setattr(page_deduplication.PagePool, "_save", lambda *_: False)
    compact(tmp_path / "a", tmp_path / "b", policy=RetentionPolicy(keep_last=2))
    assert played(tmp_path / "b") == states(STORY)[-1]


def _raise_no_space(*_: object) -> int:
    raise OSError(28, "No space left on device")


# -- the index ------------------------------------------------------------------------------------


def test_a_reopened_index_knows_the_pages_of_the_journal(tmp_path: Path) -> None:
    path, groups = tmp_path / "a", events(STORY)
    with PageIndex(path, key=KEY) as index:
        write(path, groups[:1], index)
        count = index.count
    assert get_index_path(path).stat().st_mode & 0o777 == 0o600
    for rest in groups[1:]:
        with PageIndex(path, key=KEY) as index:
            assert index.open()
            assert index.count >= count
            with journal.Writer(path) as writer:
                extend(writer, rest, index)
            assert index.check() == (index.count, 0, 0)
    write_with_index(tmp_path / "at once", STORY)
    assert [event for _, event in pages_in(path)] == [
        event for _, event in pages_in(tmp_path / "at once")
    ]


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _add_noise(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(4096, len(data) - 4096, 7):
        data[at] ^= 0x5A
    path.write_bytes(data)


def _replace_with_noise(path: Path) -> None:
    path.write_bytes(bytes(at * at % 253 for at in range(1 << 16)))


def _flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _make_huge(path: Path) -> None:
    os.truncate(path, 1 << 40)


def _clear_seal(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-32] + bytes(32))


def _write_with_another_key(path: Path) -> None:
    """Replace the index with one that is valid except for its user key."""
    with PageIndex(path.with_name(path.name.removesuffix(SUFFIX)), key=UserKey(b"x" * 32)) as index:
        index.rebuild()
        assert index.save()


def _write_for_another_journal(path: Path) -> None:
    write_with_index(path.with_name("another"), STORY[::-1])
    get_index_path(path.with_name("another")).replace(path)


def _replace_with_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replace_with_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _replace_with_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


HARM: list[Callable[[Path], object]] = [
    Path.unlink, _truncate, _empty, _add_noise, _replace_with_noise, _flip_a_bit, _make_huge,
    _clear_seal, _write_with_another_key, _write_for_another_journal, _replace_with_directory,
    _replace_with_pipe, _replace_with_link,
]  # fmt: skip


@pytest.mark.parametrize("harm", HARM)
def test_a_journal_continues_after_any_damage_to_its_index(
    tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    path, groups = tmp_path / "a", events(STORY)
    with PageIndex(path, key=KEY) as index:
        ends = write(path, groups[:1], index)
    harm(get_index_path(path))
    with PageIndex(path, key=KEY) as index, journal.Writer(path) as writer:
        assert not index.open()
        ends += [extend(writer, group, index) for group in groups[1:]]
        assert index.check() == (index.count, 0, 0), "the index was rebuilt"
    for end, state in zip(ends, states(STORY), strict=True):
        assert played(path, end) == state
    assert count_named_pages(path) > 20


@pytest.mark.parametrize("harm", HARM)
def test_an_index_in_use_is_unaffected_by_damage_to_its_file(
    tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    path, groups = tmp_path / "a", events(STORY)
    with PageIndex(path, key=KEY) as index:
        ends = write(path, groups[:1], index)
    with PageIndex(path, key=KEY) as index, journal.Writer(path) as writer:
        assert index.open()
        harm(get_index_path(path))
        ends += [extend(writer, group, index) for group in groups[1:]]
    for end, state in zip(ends, states(STORY), strict=True):
        assert played(path, end) == state
    assert not [*tmp_path.glob(".*")]


@pytest.mark.parametrize("bits", [0, 1, 3])
def test_an_index_distinguishes_pages_with_equal_hashes(tmp_path: Path, bits: int) -> None:
    def weak(page: bytes | memoryview) -> int:
        return hash_page_content(bytes(page)) & ((1 << bits) - 1)

    path = tmp_path / "a"
    with PageIndex(path, key=KEY, digest=weak) as index:
        ends = write(path, events(STORY), index)
    for end, state in zip(ends, states(STORY), strict=True):
        assert played(path, end) == state
    assert count_named_pages(path) > 0


@pytest.mark.parametrize("cut_at", range(3))
def test_an_index_does_not_fit_a_truncated_or_replaced_journal(tmp_path: Path, cut_at: int) -> None:
    path = tmp_path / "a"
    ends = write_with_index(path, STORY)
    cut(path, tmp_path / "b", at=ends[cut_at])
    (tmp_path / "b").replace(path)
    with PageIndex(path, key=KEY) as index:
        assert not index.open(), "the same events in other blocks are another journal"
        assert index.check() == (index.count, 0, 0)


def test_an_index_is_rebuilt_when_the_journal_is_replaced(tmp_path: Path) -> None:
    path, groups = tmp_path / "a", events(STORY)
    with PageIndex(path, key=KEY) as index:
        ends = write(path, groups[:2], index)
        compact(path, tmp_path / "b")
        (tmp_path / "b").replace(path)
        with journal.Writer(path) as writer:
            ends.append(extend(writer, groups[2], index))
    for end, state in list(zip(ends, states(STORY), strict=True))[1:]:
        assert played(path, end) == state


def test_a_full_index_stops_and_reports_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "MAP_SIZE_MIN", 1 << 14)
    monkeypatch.setattr(indexing, "MAP_SIZE_MAX", 1 << 17)
    with indexing.PageIndexStore(tmp_path) as entries:
        for number in range(40_000):
            entries.put(number * 0x9E3779B97F4A7C15 % (1 << 64), number, 0)
        entries.flush()
        assert "MDB_MAP_FULL" in entries.failure
        assert entries.find(0) is None
        assert not entries.save(tmp_path / "saved", KEY, Watermark(bytes(16), 1, 1))
        assert not [*tmp_path.iterdir()]


def test_an_index_grows_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "MAP_SIZE_MIN", 1 << 14)
    with indexing.PageIndexStore(tmp_path) as entries:
        for number in range(40_000):
            entries.put(number * 0x9E3779B97F4A7C15 % (1 << 64), number, number % 16)
        entries.flush()
        assert (entries.failure, entries.count) == ("", 40_000)
        assert entries.find(7 * 0x9E3779B97F4A7C15 % (1 << 64)) == (7, 7)
        assert entries.find(1) is None


def test_a_folder_without_space_for_an_index_does_not_stop_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(indexing.PageIndexStore, "_ensure_open", refuse)
    monkeypatch.setattr(indexing, "PENDING_MAX", 1)
    with PageIndex(tmp_path / "a", key=KEY) as index:
        ends = write(tmp_path / "a", events(STORY), index)
        assert "No space left" in index.failure
    for end, state in zip(ends, states(STORY), strict=True):
        assert played(tmp_path / "a", end) == state


def test_old_temporary_files_of_an_index_are_removed_when_it_is_written(tmp_path: Path) -> None:
    old, recent = tmp_path / ".a.pages.0123.tmp", tmp_path / ".a.pages.4567.tmp"
    for temporary in (old, recent, tmp_path / ".b.pages.0123.tmp"):
        temporary.touch()
        os.utime(temporary, (1, 1))
    recent.touch()
    write_with_index(tmp_path / "a", STORY)
    assert {one.name for one in tmp_path.iterdir()} == {
        "a", "a.pages", ".a.pages.4567.tmp", ".b.pages.0123.tmp",
    }  # fmt: skip


@given(st.binary(max_size=200), st.integers(0, 3))
def test_noise_in_an_event_is_resolved_or_malformed(noise: bytes, quarter: int) -> None:
    whole = codec.encode(make_event(ONE, PageReference(1, 0, hash_page_content(ONE)), b"", TWO))
    at = len(whole) * quarter // 4
    payload = whole[:at] + noise + whole[at + len(noise) :]
    frames = make_frames(make_event(ONE))
    frame = Frame(1, MemoryPages.tag, payload, 0, 0)
    with contextlib.suppress(MalformedEvent):
        resolved = PageResolver(frames.__getitem__).resolve_frame(frame)
        event = codec.decode(resolved.tag, resolved.payload)
        assert isinstance(event, MemoryPages)
        list(decode_resolved_pages(event))


@pytest.mark.deep
@given(histories(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_every_operation_gives_the_same_pages_with_and_without_references(
    tmp_path_factory: pytest.TempPathFactory, history: History, operation: int, chance: Random
) -> None:
    folder = tmp_path_factory.mktemp("journals")
    write(folder / "inline", events(history))
    write_with_index(folder / "references", history)
    resolved: dict[str, list[MemoryPages]] = {}
    seed = chance.random()
    for name in ("inline", "references"):
        chance.seed(seed)
        source, target = folder / name, folder / f"{name}.done"
        with journal.Reader(source) as reader:
            last = reader.summary().events - 1
        seqs = sorted(chance.sample(range(last + 1), chance.randint(1, min(4, last))))
        if operation == 0:
            cut(source, target, at=seqs[0])
        elif operation == 1:
            query = Query(start=seqs[0], stop=seqs[-1] + 1)
            journal.filter(source, target, query, keep=chance.random() < 0.5)
        elif operation == 2:
            parts = split(source, folder / f"{name}.parts", at=[seqs[-1]] if seqs[-1] else [1])
            journal.concat([part.path for part in parts.parts], target)
        elif operation == 3:
            journal.concat([source, source], target)
        elif operation == 4:
            compact(source, target, policy=RetentionPolicy(keep_last=chance.randint(1, 3)))
        else:
            with (folder / "lines").open("wb") as out:
                export_lines(source, out)
            with (folder / "lines").open("rb") as lines:
                import_lines(lines, target)
        with journal.Reader(target) as reader:
            resolver = PageResolver.from_reader(reader)
            resolved[name] = [
                resolver.resolve_event(frame.seq, event) for frame, event in pages_in(target)
            ]
    assert resolved["references"] == resolved["inline"]


@pytest.mark.deep
def test_an_index_uses_little_memory_for_many_pages(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        with indexing.PageIndexStore(tmp_path) as entries:
            for number in range(300_000):
                entries.put(number * 0x9E3779B97F4A7C15 % (1 << 64), number, 0)
            assert entries.count == 300_000
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_journal_of_many_segments_has_one_sibling_index(tmp_path: Path) -> None:
    path, groups = tmp_path / "a", events(STORY)
    roll = journal.log.RollPolicy(size_bytes=1)
    with PageIndex(path, key=KEY) as index, journal.Writer(path, roll=roll) as writer:
        ends = [extend(writer, group, index) for group in groups[:2]]
    assert len([*path.iterdir()]) > 1
    with PageIndex(path, key=KEY) as index:
        assert index.open()
        with journal.Writer(path, roll=roll) as writer:
            ends.append(extend(writer, groups[2], index))
        assert index.check() == (index.count, 0, 0)
    for end, state in zip(ends, states(STORY), strict=True):
        assert played(path, end) == state
    assert count_named_pages(path) == count_references_in_one_file(tmp_path)


def count_references_in_one_file(folder: Path) -> int:
    write_with_index(folder / "one file", STORY)
    return count_named_pages(folder / "one file")


def test_a_rebuild_of_a_large_journal_reads_only_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    long: History = [[(0, n, 1, n + 40 * at) for n in range(32)] for at in range(20)]
    write(path, events(long))
    with PageIndex(path, key=KEY) as index:
        index.rebuild()
        count_max = index.count
        assert not index.open(size_max=path.stat().st_size // 4)
        assert index.count == 0
        get_index_path(path).unlink(missing_ok=True)
    with PageIndex(path, key=KEY) as index:
        index.open(size_max=path.stat().st_size)
        assert index.count == count_max

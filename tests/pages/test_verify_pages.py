"""Checking pages that are named: each that leads nowhere, or to other bytes, is told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

import journal
from journal.events import codec
from journal.events.definition import Event
from journal.events.memory import PAGE_SIZE, MemoryPages, PageKind
from journal.events.threads import GlobalsSet
from journal.format.block import BLOCK_HEADER_SIZE
from journal.format.frame import Frame
from journal.log.summary import Finding
from journal.operations.verify import Verifier, VerifyCounts, VerifyCursor
from journal.pages.encoding import decode_pages
from journal.pages.resolver import get_references
from tests.support.command_line import run_inside
from tests.support.page_histories import History, histories, named_in, pages_in, written_with_index
from tests.support.snapshot_guests import SNAPSHOT_GUESTS
from tests.support.snapshot_runs import record_often

#: Of the second snapshot, and of the third, much stands in front of it.
STORY: History = [
    [(0, number, 1 + number % 3, -1) for number in range(20)],
    [(0, number, 1 + (number + 1) % 3, -1) for number in range(12)],
    [(1, number, 2, -1) for number in range(8, 12)],
]
Places = Counter[tuple[int, int]]


def checked(path: Path, **options: Any) -> tuple[VerifyCounts, list[Finding]]:
    check = Verifier(path, pages=True, **options)
    return check.counts, [one for one in check.run() if isinstance(one, Finding)]


def named_places(path: Path) -> Places:
    """The events and indices that are named, and how often."""
    return Counter(
        (frame.seq - one.back, one.index_in_event)
        for frame, event in pages_in(path)
        for one in get_references(event)
    )


def rewritten(source: Path, target: Path, change: Callable[[Frame], Event | None]) -> Path:
    """The same journal with some events changed, each under its number."""
    with journal.Reader(source) as reader, journal.Writer(target) as writer:
        for frame in reader.frames():
            event = change(frame)
            if event is None:
                writer.append_frame(frame.tag, frame.payload)
            else:
                writer.append(event)
    return target


def with_other_bytes(frame: Frame, place: int) -> MemoryPages:
    """An event of memory with one byte changed of a page that it gives."""
    event = codec.decode(frame.tag, frame.payload)
    assert isinstance(event, MemoryPages)
    pages = list(decode_pages(event))
    assert pages[place].kind is PageKind.WHOLE
    parts = [bytearray(page.data) for page in pages]
    parts[place][PAGE_SIZE // 3] ^= 8
    return MemoryPages(
        memory=event.memory,
        size=event.size,
        numbers=event.numbers,
        kinds=event.kinds,
        data=b"".join(parts),
    )


def check_changed(path: Path, folder: Path) -> None:
    """Change, and then remove, what is named most: each reference to it is told, and no other."""
    named = named_places(path)
    (seq, index), count = named.most_common(1)[0]
    flipped = rewritten(
        path,
        folder / "flipped",
        lambda one: with_other_bytes(one, index) if one.seq == seq else None,
    )
    figures, findings = checked(flipped)
    assert figures.referenced_pages == named.total()
    assert figures.findings == len(findings) == count
    assert all(
        f"index {index} of event {seq}, where the page hash differs" in str(one.error)
        for one in findings
    )
    without = rewritten(
        path, folder / "without", lambda one: GlobalsSet(globals=()) if one.seq == seq else None
    )
    lost = [event for frame, event in pages_in(path) if frame.seq == seq]
    gone = sum(number for (where, _), number in named.items() if where == seq)
    own = sum(one.back == 0 for event in lost for one in get_references(event))
    figures, findings = checked(without)
    assert figures.findings == len(findings) == gone - own
    assert all(f"event {seq}, which stores no pages" in str(one.error) for one in findings)
    for one in findings:
        with journal.Reader(without) as reader:
            frame = reader.frame(one.first_seq)
        assert (frame.tag, frame.offset) == (MemoryPages.tag, one.offset)
    assert checked(path)[1] == []


@given(histories())
def test_all_that_is_named_is_looked_up_and_what_is_changed_is_told(
    tmp_path_factory: pytest.TempPathFactory, history: History
) -> None:
    folder = tmp_path_factory.mktemp("checked")
    written_with_index(folder / "a", history)
    figures, findings = checked(folder / "a")
    assert (figures.referenced_pages, findings) == (named_in(folder / "a"), [])
    if figures.referenced_pages:
        check_changed(folder / "a", folder)


def test_a_guest_s_journal_is_whole_until_a_page_that_is_named_is_another(
    tmp_path: Path, cache_dir: Path
) -> None:
    (guest,) = (one for one in SNAPSHOT_GUESTS if one.title == "bulk")
    path = tmp_path / "run.journal"
    record_often(guest, path, cache_dir, page_index=True)
    assert checked(path)[0].referenced_pages == named_in(path) > 0
    check_changed(path, tmp_path)


def test_what_names_pages_of_a_lost_block_is_told_besides_that_block(tmp_path: Path) -> None:
    written_with_index(tmp_path / "a", STORY)
    (lost, _), *others = pages_in(tmp_path / "a")
    (seq,) = {seq for seq, _ in named_places(tmp_path / "a")}
    assert seq == lost.seq
    later = sum(len(get_references(event)) for one, event in others if one.offset > lost.offset)
    data = bytearray((tmp_path / "a").read_bytes())
    for byte in (0, 9, 77):
        data[lost.offset + BLOCK_HEADER_SIZE + byte] ^= 0xFF
    (tmp_path / "a").write_bytes(data)
    _, (damage, *findings) = checked(tmp_path / "a")
    assert damage.offset == lost.offset
    assert len(findings) == later > 0
    assert all(f"event {seq}, which cannot be read: the hash" in str(f.error) for f in findings)


def test_verify_looks_pages_up_if_it_is_told_to(tmp_path: Path) -> None:
    written_with_index(tmp_path / "a", STORY)
    named = named_places(tmp_path / "a")
    (seq, index), count = named.most_common(1)[0]
    rewritten(
        tmp_path / "a",
        tmp_path / "b",
        lambda one: with_other_bytes(one, index) if one.seq == seq else None,
    )
    done = run_inside("verify", "--pages", "a", at=tmp_path)
    assert done.returncode == 0
    assert f"{named.total()} referenced pages looked up" in done.stdout.decode()
    assert run_inside("verify", "b", at=tmp_path).returncode == 0
    done = run_inside("verify", "--pages", "--json", "b", at=tmp_path)
    found = json.loads(done.stdout)
    assert (done.returncode, found["verdict"]) == (3, "damaged")
    assert (found["findings_count"], found["lost_events"]) == (count, 0)
    (frame, *_) = (one for one, event in pages_in(tmp_path / "b") if get_references(event))
    told = found["findings"][0]
    assert (told["error"], told["first_seq"]) == ("MalformedEvent", frame.seq)
    assert told["message"].endswith(f"where the page hash differs at offset {frame.offset}")
    assert run_inside("verify", "--pages", "--hashes", "a", at=tmp_path).returncode == 2


def test_pages_are_looked_up_in_steps_as_in_one_go(tmp_path: Path) -> None:
    written_with_index(tmp_path / "a", STORY)
    seq, index = next(iter(named_places(tmp_path / "a")))
    rewritten(
        tmp_path / "a",
        tmp_path / "b",
        lambda one: with_other_bytes(one, index) if one.seq == seq else None,
    )
    whole, expected = checked(tmp_path / "b")
    cursor: VerifyCursor | None = None
    findings: list[str] = []
    while True:
        check = Verifier(tmp_path / "b", cursor=cursor, pages=True)
        findings += [str(one.error) for one in check.run(lambda: True) if isinstance(one, Finding)]
        if check.cursor is None:
            break
        cursor = VerifyCursor.parse(str(check.cursor))
    assert check.counts == whole
    assert findings == [str(one.error) for one in expected]

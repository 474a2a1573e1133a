"""Verification of page references: each broken reference is a finding."""

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
from tests.support.page_histories import (
    History,
    count_named_pages,
    histories,
    pages_in,
    write_with_index,
)
from tests.support.snapshot_guests import SNAPSHOT_GUESTS
from tests.support.snapshot_runs import record_often

#: Many pages of the second and the third snapshot are already stored before them.
STORY: History = [
    [(0, number, 1 + number % 3, -1) for number in range(20)],
    [(0, number, 1 + (number + 1) % 3, -1) for number in range(12)],
    [(1, number, 2, -1) for number in range(8, 12)],
]
ReferenceCounts = Counter[tuple[int, int]]


def verify(path: Path, **options: Any) -> tuple[VerifyCounts, list[Finding]]:
    verifier = Verifier(path, pages=True, **options)
    return verifier.counts, [one for one in verifier.run() if isinstance(one, Finding)]


def count_references(path: Path) -> ReferenceCounts:
    """Count the references to each page, by sequence number and index of the page in its event."""
    return Counter(
        (frame.seq - one.back, one.index_in_event)
        for frame, event in pages_in(path)
        for one in get_references(event)
    )


def rewrite(source: Path, target: Path, change: Callable[[Frame], Event | None]) -> Path:
    """Write a copy with some events replaced; sequence numbers stay the same."""
    with journal.Reader(source) as reader, journal.Writer(target) as writer:
        for frame in reader.frames():
            event = change(frame)
            if event is None:
                writer.append_frame(frame.tag, frame.payload)
            else:
                writer.append(event)
    return target


def change_page(frame: Frame, index: int) -> MemoryPages:
    """Return the event of a frame with one byte changed in one of its whole pages."""
    event = codec.decode(frame.tag, frame.payload)
    assert isinstance(event, MemoryPages)
    pages = list(decode_pages(event))
    assert pages[index].kind is PageKind.WHOLE
    parts = [bytearray(page.data) for page in pages]
    parts[index][PAGE_SIZE // 3] ^= 8
    return MemoryPages(
        memory=event.memory,
        size=event.size,
        numbers=event.numbers,
        kinds=event.kinds,
        data=b"".join(parts),
    )


def check_changed(path: Path, folder: Path) -> None:
    """Change, then remove, the most referenced page: exactly its references are findings."""
    references = count_references(path)
    (seq, index), count = references.most_common(1)[0]
    flipped = rewrite(
        path,
        folder / "flipped",
        lambda one: change_page(one, index) if one.seq == seq else None,
    )
    figures, findings = verify(flipped)
    assert figures.referenced_pages == references.total()
    assert figures.findings == len(findings) == count
    assert all(
        f"index {index} of event {seq}, where the page hash differs" in str(one.error)
        for one in findings
    )
    removed = rewrite(
        path, folder / "without", lambda one: GlobalsSet(globals=()) if one.seq == seq else None
    )
    lost = [event for frame, event in pages_in(path) if frame.seq == seq]
    broken = sum(number for (event_seq, _), number in references.items() if event_seq == seq)
    own_references = sum(one.back == 0 for event in lost for one in get_references(event))
    figures, findings = verify(removed)
    assert figures.findings == len(findings) == broken - own_references
    assert all(f"event {seq}, which stores no pages" in str(one.error) for one in findings)
    for one in findings:
        with journal.Reader(removed) as reader:
            frame = reader.frame(one.first_seq)
        assert (frame.tag, frame.offset) == (MemoryPages.tag, one.offset)
    assert verify(path)[1] == []


@given(histories())
def test_every_reference_is_checked_and_changed_pages_are_found(
    tmp_path_factory: pytest.TempPathFactory, history: History
) -> None:
    folder = tmp_path_factory.mktemp("checked")
    write_with_index(folder / "a", history)
    figures, findings = verify(folder / "a")
    assert (figures.referenced_pages, findings) == (count_named_pages(folder / "a"), [])
    if figures.referenced_pages:
        check_changed(folder / "a", folder)


def test_the_journal_of_a_guest_is_sound_until_a_referenced_page_changes(
    tmp_path: Path, cache_dir: Path
) -> None:
    (guest,) = (one for one in SNAPSHOT_GUESTS if one.title == "bulk")
    path = tmp_path / "run.journal"
    record_often(guest, path, cache_dir, page_index=True)
    assert verify(path)[0].referenced_pages == count_named_pages(path) > 0
    check_changed(path, tmp_path)


def test_references_to_a_lost_block_are_findings_besides_that_block(tmp_path: Path) -> None:
    write_with_index(tmp_path / "a", STORY)
    (lost, _), *others = pages_in(tmp_path / "a")
    (seq,) = {seq for seq, _ in count_references(tmp_path / "a")}
    assert seq == lost.seq
    later_references = sum(
        len(get_references(event)) for one, event in others if one.offset > lost.offset
    )
    data = bytearray((tmp_path / "a").read_bytes())
    for byte in (0, 9, 77):
        data[lost.offset + BLOCK_HEADER_SIZE + byte] ^= 0xFF
    (tmp_path / "a").write_bytes(data)
    _, (damage, *findings) = verify(tmp_path / "a")
    assert damage.offset == lost.offset
    assert len(findings) == later_references > 0
    assert all(f"event {seq}, which cannot be read: the hash" in str(f.error) for f in findings)


def test_verify_checks_references_with_the_pages_option(tmp_path: Path) -> None:
    write_with_index(tmp_path / "a", STORY)
    references = count_references(tmp_path / "a")
    (seq, index), count = references.most_common(1)[0]
    rewrite(
        tmp_path / "a",
        tmp_path / "b",
        lambda one: change_page(one, index) if one.seq == seq else None,
    )
    done = run_inside("verify", "--pages", "a", at=tmp_path)
    assert done.returncode == 0
    assert f"{references.total()} referenced pages looked up" in done.stdout.decode()
    assert run_inside("verify", "b", at=tmp_path).returncode == 0
    done = run_inside("verify", "--pages", "--json", "b", at=tmp_path)
    report = json.loads(done.stdout)
    assert (done.returncode, report["verdict"]) == (3, "damaged")
    assert (report["findings_count"], report["lost_events"]) == (count, 0)
    (frame, *_) = (one for one, event in pages_in(tmp_path / "b") if get_references(event))
    finding = report["findings"][0]
    assert (finding["error"], finding["first_seq"]) == ("MalformedEvent", frame.seq)
    assert finding["message"].endswith(f"where the page hash differs at offset {frame.offset}")
    assert run_inside("verify", "--pages", "--hashes", "a", at=tmp_path).returncode == 2


def test_references_are_checked_in_steps_as_in_one_run(tmp_path: Path) -> None:
    write_with_index(tmp_path / "a", STORY)
    seq, index = next(iter(count_references(tmp_path / "a")))
    rewrite(
        tmp_path / "a",
        tmp_path / "b",
        lambda one: change_page(one, index) if one.seq == seq else None,
    )
    whole, expected = verify(tmp_path / "b")
    cursor: VerifyCursor | None = None
    findings: list[str] = []
    while True:
        verifier = Verifier(tmp_path / "b", cursor=cursor, pages=True)
        findings += [
            str(one.error) for one in verifier.run(lambda: True) if isinstance(one, Finding)
        ]
        if verifier.cursor is None:
            break
        cursor = VerifyCursor.parse(str(verifier.cursor))
    assert verifier.counts == whole
    assert findings == [str(one.error) for one in expected]

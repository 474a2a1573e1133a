"""Checks of journals with events of applications."""

from __future__ import annotations

import io
from pathlib import Path

import journal
from journal import Query, Reader, Verifier
from journal.adapters import CompactingSink, MemoryJournal
from journal.export import Secret, export_lines, import_lines
from journal.replay import ModelHost


def frames_of(path: Path) -> list[tuple[int, bytes]]:
    """Return the tags and payloads of a journal."""
    with Reader(path) as reader:
        return [(tag, payload) for _, tag, payload in reader.rows()]


def check_operations(path: Path, whole: list[tuple[int, bytes]]) -> None:
    """Check that each operation copies all frames of a journal."""
    folder = path.parent
    verifier = Verifier(path)
    assert (list(verifier.run()), verifier.counts.unknown_events) == ([], 0)
    exported = io.BytesIO()
    export_lines(path, exported)
    exported.seek(0)
    import_lines(exported, folder / "imported.journal")
    export_lines(path, io.BytesIO(), redact=list(Secret))
    journal.filter(path, folder / "filtered.journal", Query())
    journal.compact(path, folder / "compacted.journal")
    journal.salvage(path, folder / "salvaged.journal")
    journal.concat([path], folder / "joined.journal")
    for made in ("imported", "filtered", "compacted", "salvaged", "joined"):
        assert frames_of(folder / f"{made}.journal") == whole, made
    result = journal.split(
        path, folder / "parts", at=[len(whole) // 2] if len(whole) > 1 else [], size=1 << 20
    )
    assert [frame for part in result.parts for frame in frames_of(part.path)] == whole
    sink = CompactingSink(memory := MemoryJournal())
    for tag, payload in whole:
        sink.append_frame(tag, payload)
    sink.flush()
    assert [(frame.tag, frame.payload) for frame in memory.frames()] == whole
    with Reader(path) as reader:
        journal.play(reader.frames(), ModelHost())

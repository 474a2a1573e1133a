"""Tests of cached variants: a resume reads neither a known module nor known effects again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import journal
from journal.engine import SnapshotOptions
from journal.engine.session import preamble, recorded_run
from journal.engine.session.recorded_run import RecordedRun
from journal.engine.snapshot.rebuild import REBUILD_TAGS
from journal.snapshots import Trigger
from tests.support.guest_runs import wait_for_end
from tests.support.programs import guest

ARGUMENTS = ["dirfds", "unlink", "/memory"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Record a guest that has files and is snapshotted in the middle."""
    found = tmp_path / "run.journal"
    with journal.record(
        guest("dirfds"),
        found,
        args=ARGUMENTS,
        mounts=[journal.MemoryMount("/memory")],
        stdin=b"",
        cache=cache_in(tmp_path),
        snapshots=SnapshotOptions(on=frozenset({Trigger.BOOTSTRAP}), every_events=20),
    ) as recorder:
        wait_for_end(recorder)
    return found


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list that grows with each module that is read from a journal."""
    seen: list[bytes] = []
    join = preamble._ModuleParts.join

    def noted(parts: preamble._ModuleParts) -> bytes:
        seen.append(join(parts))
        return seen[-1]

    monkeypatch.setattr(preamble._ModuleParts, "join", noted)
    return seen


def cache_in(folder: Path) -> Path:
    return folder / "cache" / "modules"


def resume_journal(path: Path, cache: Path) -> tuple[journal.engine.RunResult, bytes]:
    with journal.Reader(path) as reader:
        infos = [info for info in journal.list_snapshots(reader) if info.has_stacks]
    into = path.with_name(f"into-{len(list(path.parent.iterdir()))}.journal")
    middle = infos[len(infos) // 2].seq
    with journal.resume(path, at=middle, into=into, stdin=b"", cache=cache) as recorder:
        return wait_for_end(recorder), recorder.stdout


def test_a_resume_reads_no_module_whose_form_is_known(path: Path, reads: list[bytes]) -> None:
    known = resume_journal(path, cache_in(path.parent))
    assert not reads
    assert resume_journal(path, path.parent / "new" / "modules") == known
    assert len(reads) == 2, "the module, and what it was instrumented to"


def forgotten(cache: Path) -> None:
    for each in cache.glob("*.cwasm"):
        each.unlink()


def damaged(cache: Path) -> None:
    for each in cache.glob("*.form"):
        each.write_text('{"module": "00"}')


def nonsense(cache: Path) -> None:
    for each in cache.glob("*.form"):
        each.write_bytes(b"\xff")


def writable(cache: Path) -> None:
    for each in cache.glob("*.form"):
        each.chmod(0o666)


@pytest.mark.parametrize("change", [forgotten, damaged, nonsense, writable])
def test_an_untrusted_cached_variant_is_made_again(
    path: Path, reads: list[bytes], change: Callable[[Path], None]
) -> None:
    cache = cache_in(path.parent)
    known = resume_journal(path, cache)
    change(cache)
    assert resume_journal(path, cache) == known
    assert len(reads) == 2


def test_what_files_come_from_is_the_same_whether_it_was_kept_or_is_read_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for size in (recorded_run.REBUILD_CACHE_SIZE_MAX, 0):
        monkeypatch.setattr(recorded_run, "REBUILD_CACHE_SIZE_MAX", size)
        with RecordedRun(path) as recording:
            start, end = recording.first_seq, recording.snapshots[-1].seq
            batches = [
                list(recording.batches(begin, REBUILD_TAGS, until))
                for begin in (start, end // 2)
                for until in (None, end)
            ]
        found.append(
            [[row for batch in part for row in zip(*batch, strict=True)] for part in batches]
        )
    assert found[0] == found[1]
    assert any(row[1] in REBUILD_TAGS for row in found[0][0])

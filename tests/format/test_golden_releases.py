"""Every journal that a release wrote is read as its manifest says, for ever."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import journal
from fixtures import regenerate_release
from fixtures.regenerate_release import FOLDER, MANIFEST, SHAPES, load_manifest, releases
from journal.events import BY_TAG
from journal.log import RecoveryMode

SIZE_MAX = 500_000
GOLDEN = [
    pytest.param(release / name, id=f"{release.name}/{name}")
    for release in releases()
    for name in load_manifest(release)
]


@pytest.mark.parametrize("path", GOLDEN)
def test_a_golden_journal_is_read_as_when_it_was_written(path: Path) -> None:
    entry = load_manifest(path.parent)[path.name]
    assert regenerate_release.hash_files(path) == entry["files"]
    assert regenerate_release.read_facts(path) == entry["facts"]


@pytest.mark.parametrize("path", GOLDEN)
def test_a_golden_journal_has_no_defect_in_any_mode(path: Path) -> None:
    events = load_manifest(path.parent)[path.name]["facts"]["events"]
    for mode in RecoveryMode:
        with journal.Reader(path, mode=mode) as reader:
            assert list(reader.verify()) == []
            assert sum(1 for _ in reader.frames()) == events
            assert not reader.losses


@pytest.mark.parametrize("path", GOLDEN)
def test_a_writer_resumes_a_golden_journal(path: Path, tmp_path: Path) -> None:
    facts = load_manifest(path.parent)[path.name]["facts"]
    copy = tmp_path / path.name
    (shutil.copytree if path.is_dir() else shutil.copy2)(path, copy)
    roll = journal.log.RollPolicy() if path.is_dir() else None
    with journal.Writer(copy, roll=roll) as writer:
        assert writer.append(journal.events.core.ProcessExit(exit_code=0)) == facts["last_seq"] + 1
    with journal.Reader(copy) as reader:
        assert sum(1 for _ in reader.frames()) == facts["events"] + 1
        assert list(reader.verify()) == []


ADDED_SINCE = {
    *("ApplicationKind", "BytesReceived", "ClockPoint", "DescriptorContents", "EpollResult"),
    *("Listener", "Reseeded", "Resolved", "ResolvedNames", "SocketConnect", "SocketPairOfType"),
    *("SocketInside", "UnixSocketBind", "UnixSocketConnect"),
    *("IntervalStarted", "SignalDelivered", "SignalState"),
    *("ChildEnded", "ChildStart", "ChildStarted", "PipeRead", "PipeWrite"),
    *("ProcessReplaced", "ProcessSpawned", "StreamPassed"),
}
"""Kinds that the newest release did not have yet. Its journals never change."""


def test_a_release_has_every_shape_and_every_kind_of_its_time() -> None:
    assert releases()
    for release in releases():
        entries = load_manifest(release)
        assert entries.keys() >= SHAPES.keys()
        names = {path.name for path in release.iterdir()}
        assert names == {*entries, MANIFEST}
        assert len(entries["segments"]["files"]) > 2
        assert entries["snapshots.journal"]["facts"]["pages"]["SAME"] > 10
        compacted = entries["compacted.journal"]["facts"]
        assert compacted["events"] < entries["snapshots.journal"]["facts"]["events"]
    newest = load_manifest(releases()[-1])
    kinds = {kind for entry in newest.values() for kind in entry["facts"]["kinds"]}
    assert kinds >= {kind.__name__ for kind in BY_TAG.values()} - ADDED_SINCE


def test_the_golden_journals_stay_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < SIZE_MAX


def test_a_release_that_exists_is_not_changed(tmp_path: Path) -> None:
    release = tmp_path / "1.0.0"
    release.mkdir()
    with pytest.raises(SystemExit, match="the journals of a release never change"):
        regenerate_release.write_release(release)
    assert list(release.iterdir()) == []


def test_a_new_release_is_written_with_a_manifest_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regenerate_release, "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["regenerate_release"])
    regenerate_release.main()
    (release,) = releases_of(tmp_path)
    assert release.name == journal.__version__
    assert load_manifest(release).keys() == SHAPES.keys()
    monkeypatch.setattr("sys.argv", ["regenerate_release", "--check"])
    regenerate_release.main()
    changed = release / "single.journal"
    changed.write_bytes(changed.read_bytes() + bytes(8))
    with pytest.raises(SystemExit, match=r"read differently: .*/single\.journal$"):
        regenerate_release.main()


def releases_of(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]

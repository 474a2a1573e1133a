"""Files, output and exit codes of fork, and the moments that fork, cut and resume accept."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

import journal
from journal.operations import moments
from tests.support.command_line import run_inside
from tests.support.journals import make_clock
from tests.support.numbered_journals import write_numbered
from tests.support.worker_journal import recorded, snapshot_seqs

__all__ = ["recorded"]


def last_shared(path: Path) -> int:
    with journal.Reader(path) as reader:
        return reader.last(1)[0].seq - 1


def test_a_fork_begins_after_the_newest_snapshot_by_default(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "a.journal").write_bytes(recorded.read_bytes())
    newest = snapshot_seqs(recorded)[-1]
    done = run_inside("fork", "a.journal", "--into", "new", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"after event {newest}" in done.stdout.decode()
    assert "new, shares 1 file" in done.stdout.decode()
    assert last_shared(tmp_path / "new") == newest + 1
    info = run_inside("info", "new", at=tmp_path).stdout.decode()
    assert f"after its event {newest}" in info
    assert "1 of 2 files is shared" in info
    assert "left by a crash" not in info
    assert run_inside("verify", "new", at=tmp_path).returncode == 0


def test_several_forks_get_numbers(recorded: Path, tmp_path: Path) -> None:
    arguments = ("--at", "snapshot:1", "--into", "try.journal", "--count", "3", "--json")
    done = run_inside("fork", recorded, *arguments, at=tmp_path)
    report = json.loads(done.stdout)
    names = [f"try-{number}.journal" for number in (1, 2, 3)]
    assert (report["seq"], report["journal"]) == (snapshot_seqs(recorded)[0], str(recorded))
    assert [one["path"] for one in report["forks"]] == names
    assert all(one["shared_files"] + one["copied"] == 1 for one in report["forks"])
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert run_inside("fork", recorded, *arguments, at=tmp_path).returncode == 1


def test_a_moment_is_an_event_a_snapshot_or_a_time(recorded: Path, tmp_path: Path) -> None:
    seqs = snapshot_seqs(recorded)
    with journal.Writer(tmp_path / "a", clock=make_clock(start=10**6, step=10**6)) as writer:
        for i in range(20):
            writer.append_frame(224, b"%d" % i)
            if i % 3 == 0:
                writer.sync()
    at = datetime.fromtimestamp(8, tz=UTC).isoformat()
    found = {"3": 3, at: 6, "-5s": 14, "+2.5s": 2, "+10m": 19, "+0s": 0}
    for text, seq in found.items():
        assert moments.find_event(tmp_path / "a", moments.parse(text)) == seq, text
    for text, seq in {"snapshot:1": seqs[0], "snapshot:-1": seqs[-1]}.items():
        assert moments.find_event(recorded, moments.parse(text)) == seq
    done = run_inside("cut", "a", "--at", "-5s", "-o", "b", at=tmp_path)
    assert (done.returncode, last_shared(tmp_path / "b")) == (0, 13)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--into", "b"), 1, b"a has no resumable snapshot"),
        (("--at", "99", "--into", "b"), 1, b"a has no event 99"),
        (("--at", "9" * 30, "--into", "b"), 2, b"is too large: the limit is"),
        (("--at", "yesterday", "--into", "b"), 2, b"'yesterday' is not a moment"),
        (("--at", "snapshot:0", "--into", "b"), 2, b"'snapshot:0' is not a moment"),
        (("--at", "snapshot:-2", "--into", "b"), 1, b"a has no snapshot:-2: it has 0 snapshots"),
        (("--at", "1970-01-01", "--into", "b"), 1, b"a has no event at 1970-01-01T00:00:00"),
        (("--at", "3", "--into", "there"), 1, b"there already exists"),
        (("--at", "3", "--into", "there/b"), 1, b"there is not a directory"),
        (("--at", "3", "--into", "a"), 1, b"a is also a source"),
        (("--at", "3", "--into", "b", "--count", "0"), 2, b"0"),
        (("--at", "3"), 2, b"--into"),
    ],
)
def test_a_refused_fork_prints_one_sentence_and_leaves_nothing(
    arguments: tuple[str, ...], code: int, sentence: bytes, tmp_path: Path
) -> None:
    write_numbered(tmp_path / "a", 10)
    (tmp_path / "there").write_bytes(b"GIF89a" * 90)
    done = run_inside("fork", "a", *arguments, at=tmp_path)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "there"]

"""The replay command compares an execution with the journal, and changes nothing outside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import journal
from journal import Frame
from journal.events.snapshots import Snapshot
from journal.events.streams import StreamWrite
from journal.snapshots import SnapshotInfo
from tests.support.command_line import run_inside, run_tool
from tests.support.programs import guest
from tests.support.rewrites import alter_event, change_output_of_exit7, replace_event, rewrite

LINES = b"".join(b"line %d\n" % number for number in range(30))


def parse_rows(output: bytes) -> list[tuple[str, str]]:
    """Return the names and values of a table."""
    lines = output.decode().splitlines()
    width = next(len(line) - len(line.removeprefix("journal").lstrip()) for line in lines)
    return [(line[:width].strip(), line[width:]) for line in lines]


@pytest.fixture
def snapshots(tmp_path: Path) -> list[SnapshotInfo]:
    """Write a.journal with some snapshots, and return their descriptions."""
    run = ("run", "-j", "a.journal", "--snapshot-events", "8", guest("stdin"))
    assert run_tool(*run, at=tmp_path, stdin=LINES).returncode == 0
    with journal.Reader(tmp_path / "a.journal") as reader:
        found = list(journal.list_snapshots(reader))
    assert len(found) >= 2
    return found


def forge_digest(frames: list[Frame]) -> list[Frame]:
    """Return the frames with the digest of another state in the first snapshot."""
    index = next(index for index, frame in enumerate(frames) if frame.tag == Snapshot.tag)
    event = journal.decode(frames[index].tag, frames[index].payload)
    return replace_event(frames, index, alter_event(event, digest=bytes(16)))


@pytest.mark.parametrize(
    ("arguments", "code", "end"),
    [
        ((guest("exit7"), "19"), 19, "with exit code 19"),
        ((guest("trap"), "divide"), 134, "trapped: integer division by zero"),
        (
            ("--snapshot-on", "first-stdin", "--stop-after-snapshot", guest("stdin")),
            0,
            "no: the journal ends before the end of the program",
        ),
    ],
)
def test_a_replay_reports_the_end_of_the_program(
    arguments: tuple[str | Path, ...], code: int, end: str, tmp_path: Path
) -> None:
    assert run_tool("run", "-j", "a.journal", *arguments, at=tmp_path).returncode == code
    done = run_inside("replay", "a.journal", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    found = dict(parse_rows(done.stdout))
    assert (found["ended"], found["verdict"]) == (end, "the same")
    quiet = run_inside("replay", "--quiet", "a.journal", at=tmp_path)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, b"", b"")


def test_a_replay_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    run = ("run", "--dir", "room::/room", guest("worker"), "/room", "3")
    output = run_tool(*run, at=tmp_path).stdout
    assert output
    shutil.rmtree(tmp_path / "room")
    before = (tmp_path / "worker.journal").read_bytes()
    done = run_tool("replay", "worker.journal", at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert output not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["worker.journal"]
    assert (tmp_path / "worker.journal").read_bytes() == before


@pytest.mark.parametrize("options", [(), ("--each",)])
def test_a_verification_shows_the_verdict_of_each_snapshot(
    options: tuple[str, ...], snapshots: list[SnapshotInfo], tmp_path: Path
) -> None:
    done = run_inside("replay", "--verify", *options, "a.journal", at=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    verdicts = [value for name, value in parse_rows(done.stdout) if name == "snapshot"]
    assert verdicts == [f"{one.seq} event-count, the same" for one in snapshots]
    report = json.loads(run_inside("replay", "--json", *options, "a.journal", at=tmp_path).stdout)
    assert report["verdict"] == "the same"
    assert [one["seq"] for one in report["snapshots"]] == [one.seq for one in snapshots]
    assert all(one["holds"] is True for one in report["snapshots"])
    assert (report["ended"]["outcome"], report["ended"]["exit_code"]) == ("exited", 0)


def test_a_replay_starts_at_the_requested_snapshot(
    snapshots: list[SnapshotInfo], tmp_path: Path
) -> None:
    run = ("replay", "--json", "--from")
    done = run_inside(*run, str(snapshots[0].seq), "a.journal", at=tmp_path)
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert [one["seq"] for one in report["snapshots"]] == [one.seq for one in snapshots[1:]]
    refused = run_inside(*run, str(snapshots[0].seq - 1), "a.journal", at=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert refused.stderr.count(b"\n") == 1


@pytest.mark.parametrize("verify", [True, False])
def test_a_different_state_is_reported_with_its_snapshot(
    verify: bool, snapshots: list[SnapshotInfo], tmp_path: Path
) -> None:
    rewrite(tmp_path / "a.journal", tmp_path / "b.journal", forge_digest)
    options = ("--verify",) if verify else ()
    done = run_inside("replay", *options, "b.journal", at=tmp_path)
    assert done.returncode == 3
    found = parse_rows(done.stdout)
    assert found[-1] == ("verdict", "different")
    verdicts = [value for name, value in found if name == "snapshot"]
    assert verdicts[0].startswith(f"{snapshots[0].seq} event-count, different: ")
    assert len(verdicts) == (len(snapshots) if verify else 1)
    report = json.loads(run_inside("replay", "--json", "b.journal", at=tmp_path).stdout)
    assert [one["holds"] for one in report["snapshots"]][:2] == [False, True]


def test_a_different_event_is_reported(tmp_path: Path) -> None:
    assert run_tool("run", guest("exit7"), "5", at=tmp_path).returncode == 5
    rewrite(tmp_path / "exit7.journal", tmp_path / "b.journal", change_output_of_exit7)
    done = run_inside("replay", "b.journal", at=tmp_path)
    assert done.returncode == 3
    found = dict(parse_rows(done.stdout))
    assert "staying" in found["recorded"]
    assert "leaving" in found["replayed"]
    assert found["verdict"] == "different"
    report = json.loads(run_inside("replay", "--json", "b.journal", at=tmp_path).stdout)
    with journal.Reader(tmp_path / "b.journal") as reader:
        (output,) = reader.last(1, tags={StreamWrite.tag})
    assert report["divergence"]["seq"] == output.seq
    assert report["ended"] is None


def test_a_journal_without_inputs_is_refused(tmp_path: Path) -> None:
    assert run_tool("run", "--level", "state", guest("exit7"), at=tmp_path).returncode == 7
    done = run_inside("replay", "exit7.journal", at=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"recorded at level state" in done.stderr

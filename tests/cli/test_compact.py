"""The compact command."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from journaltool.output import progress

import journal
from journal import compact
from journal.compaction import RetentionPolicy
from journal.events.inputs import ClockRead
from tests.support.command_line import (
    build_command,
    parse_last_json,
    run_inside,
    run_on_terminal,
    run_tool,
)
from tests.support.compaction_histories import (
    START,
    frames_of,
    history,
    kept_of,
    states_of,
    write_story,
)
from tests.support.programs import guest

SECOND = 1_000_000
STORY = [
    (tag, payload, START + at * SECOND)
    for at, (tag, payload, _) in enumerate(history(5, 300, 20))
]  # fmt: skip
POLICIES = [
    ((), RetentionPolicy()),
    (("--keep-last", "4"), RetentionPolicy(keep_last=4)),
    (("--keep-every", "90"), RetentionPolicy(keep_every=90)),
    (("--keep-within", "1m40s"), RetentionPolicy(keep_within_seconds=100)),
    (("--keep-last", "2", "--keep-every", "200"), RetentionPolicy(2, 200)),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a journal with several snapshots and one event per second."""
    return write_story(tmp_path_factory.mktemp("source") / "a", STORY)


@pytest.fixture
def folder(tmp_path: Path, source: Path) -> Path:
    """Return a directory with this journal as ``a``."""
    (tmp_path / "a").write_bytes(source.read_bytes())
    return tmp_path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("options", "policy"), POLICIES)
def test_compact_keeps_the_requested_snapshots(
    options: tuple[str, ...], policy: RetentionPolicy, folder: Path
) -> None:
    done = run_inside("compact", "a", "-o", "b", "--json", *options, at=folder)
    assert (done.returncode, done.stderr) == (0, b"")
    expected = compact(folder / "a", folder / "c", policy=policy)
    assert frames_of(folder / "b") == frames_of(folder / "c")
    report = json.loads(done.stdout)
    assert tuple(report["snapshots"]) == expected.snapshots
    assert tuple(report["dropped_snapshots"]) == expected.dropped_snapshots
    assert report["snapshots"] == kept_of(frames_of(folder / "b"))
    assert report["new_file_size"] == (folder / "b").stat().st_size < report["file_size"]


def test_the_policies_of_these_tests_differ(source: Path) -> None:
    kept = [compact(source, source, policy=policy, dry_run=True) for _, policy in POLICIES]
    assert len({found.snapshots for found in kept}) == len(POLICIES)
    assert all(found.dropped_snapshots for found in kept)


def test_a_dry_run_reports_dropped_events_by_kind_and_writes_nothing(folder: Path) -> None:
    dry_run = run_inside("compact", "a", "--dry-run", "--json", at=folder)
    assert names_in(folder) == ["a"]
    done = run_inside("compact", "a", "-o", "b", "--json", at=folder)
    report, done_report = json.loads(dry_run.stdout), json.loads(done.stdout)
    assert report == done_report | {"target": None, "new_file_size": None}
    before, after = frames_of(folder / "a"), frames_of(folder / "b")
    for kind in report["kinds"]:
        sizes = [len(frame.payload) for frame in before if frame.tag == kind["tag"]]
        kept = [len(frame.payload) for frame in after if frame.tag == kind["tag"]]
        assert (kind["events"], kind["size"]) == (len(sizes), sum(sizes))
        assert kind["dropped_events"] == len(sizes) - len(kept)
        assert kind["dropped_size"] == sum(sizes) - sum(kept)
    text = run_inside("compact", "a", "--dry-run", at=folder).stdout.decode()
    assert "not written (--dry-run)" in text
    columns_by_kind = {
        line.split()[0]: line.split()[2:] for line in text.splitlines() if line[:1].isupper()
    }
    assert {kind for kind in columns_by_kind if kind != "ProcessStart"} == {
        kind["kind"] for kind in report["kinds"] if kind["dropped_events"] or kind["dropped_size"]
    }
    pages = next(kind for kind in report["kinds"] if kind["kind"] == "MemoryPages")
    columns = ("events", "dropped_events", "size", "dropped_size")
    assert columns_by_kind["MemoryPages"] == [f"{pages[name]:,}" for name in columns]
    assert text.splitlines()[-1].split()[2:] == [
        f"{len(before):,}",
        f"{len(before) - len(after):,}",
        f"{report['size']:,}",
        f"{report['size'] - report['kept_size']:,}",
    ]


def test_compact_in_place_replaces_the_journal(folder: Path) -> None:
    old = frames_of(folder / "a")
    run_inside("compact", "a", "-o", "b", at=folder)
    inode = (folder / "a").stat().st_ino
    done = run_inside("compact", "a", "--in-place", at=folder)
    assert done.returncode == 0
    assert (folder / "a").stat().st_ino != inode
    assert frames_of(folder / "a") == frames_of(folder / "b")
    last = kept_of(old)[-1]
    assert states_of(frames_of(folder / "a"), [last]) == states_of(old, [last])
    assert names_in(folder) == ["a", "b"]


def test_a_journal_in_use_is_not_replaced(folder: Path) -> None:
    with journal.Writer(folder / "a"):
        done = run_tool("compact", "a", "--in-place", at=folder)
        assert (done.returncode, done.stdout) == (7, b"")
        assert b"is being written by another process" in done.stderr
        assert run_inside("compact", "a", "-o", "b", at=folder).returncode == 0, (
            "compact to a new file only reads"
        )
    assert frames_of(folder / "a")[: len(STORY)] == frames_of(folder / "a")
    assert names_in(folder) == ["a", "b"]


def test_compact_overwrites_only_with_force(folder: Path) -> None:
    (folder / "b").write_bytes((folder / "a").read_bytes())
    (folder / "c").write_bytes(b"no journal")
    refused = run_inside("compact", "a", "-o", "b", at=folder)
    assert refused.returncode == 1
    assert b"already exists" in refused.stderr
    assert len(frames_of(folder / "b")) == len(STORY)
    assert run_inside("compact", "a", "-o", "b", "--force", at=folder).returncode == 0
    assert len(frames_of(folder / "b")) < len(STORY)
    assert run_inside("compact", "a", "-o", "c", "--force", at=folder).returncode == 1
    assert run_inside("compact", "a", "-o", "a", "--force", at=folder).returncode == 2
    assert (folder / "c").read_bytes() == b"no journal"
    assert names_in(folder) == ["a", "b", "c"]


def test_compact_reads_and_writes_pipes(folder: Path) -> None:
    expected = compact(folder / "a", folder / "b")
    first = run_tool("compact", "-", "-o", "-", at=folder, stdin=(folder / "a").read_bytes())
    assert first.returncode == 0
    assert f"{expected.kept_events} of {expected.events} events".encode() in first.stderr
    (folder / "c").write_bytes(first.stdout)
    assert frames_of(folder / "c") == frames_of(folder / "b")
    second = run_tool("compact", "-", "-o", "-", "--json", at=folder, stdin=first.stdout)
    assert parse_last_json(second)["kept_events"] == expected.kept_events
    assert run_tool("compact", "-", "--dry-run", at=folder, stdin=b"GIF89a").returncode == 1


def test_compact_reports_the_reason_if_it_drops_nothing(tmp_path: Path) -> None:
    assert run_tool("run", guest("exit7"), at=tmp_path).returncode == 7
    done = run_inside("compact", "exit7.journal", "-o", "b", at=tmp_path)
    assert done.returncode == 0
    assert "reason     nothing can be dropped: the guest is executed again from its start" in (
        done.stdout.decode()
    )
    assert "snapshots  none" in done.stdout.decode()
    assert frames_of(tmp_path / "b") == frames_of(tmp_path / "exit7.journal")
    piped = run_tool("compact", "exit7.journal", "-o", "-", at=tmp_path)
    assert b"nothing can be dropped" in piped.stderr


def test_a_quiet_compaction_prints_nothing(folder: Path) -> None:
    for target in (("-o", "b"), ("--in-place",), ("--dry-run",)):
        done = run_inside("compact", "a", *target, "--quiet", at=folder)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_damaged_journal_is_not_compacted(folder: Path) -> None:
    data = bytearray((folder / "a").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "a").write_bytes(data)
    for target in (("-o", "b"), ("--in-place",), ("--dry-run",)):
        done = run_inside("compact", "a", *target, at=folder)
        assert done.returncode == 6, "the lost events had been synced"
        assert b"error: a: " in done.stderr
    assert (folder / "a").read_bytes() == data
    assert names_in(folder) == ["a"]


def test_a_torn_tail_is_left_out(folder: Path) -> None:
    whole = (folder / "a").read_bytes()
    (folder / "a").write_bytes(whole[:-300])
    old = frames_of(folder / "a")
    assert len(old) < len(STORY)
    assert run_inside("compact", "a", "--in-place", at=folder).returncode == 0
    with journal.Reader(folder / "a") as reader:
        assert reader.summary().torn_size == 0
    last = kept_of(old)[-1]
    assert states_of(frames_of(folder / "a"), [last]) == states_of(old, [last])


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ((), b"one of -o TARGET, --in-place and --dry-run is required"),
        (("-o", "b", "--in-place"), b"--in-place and --output exclude each other"),
        (("-o", "b", "--keep-last", "0"), b"x>=1"),
        (("-o", "b", "--keep-every", "0"), b"x>=1"),
        (("-o", "b", "--keep-within", "10"), b"write for example 90s, 10m"),
        (("-o", "b", "--keep-within", "-5m"), b"write for example 90s, 10m"),
    ],
)
def test_wrong_usage_of_compact_prints_the_remedy(
    options: tuple[str, ...], part: bytes, folder: Path
) -> None:
    done = run_inside("compact", "a", *options, at=folder)
    assert done.returncode == 2
    assert part in done.stderr
    assert names_in(folder) == ["a"]


def test_a_compacted_journal_is_not_written_to_a_terminal(folder: Path) -> None:
    code, output = run_on_terminal(build_command("compact", "a", "-o", "-"), folder)
    assert code == 2
    assert b"terminal" in output
    assert b"JNL" not in output


def test_unknown_kinds_are_shown_by_their_tags(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append_frame(222, b"unknown")
        writer.append(ClockRead(clock=1, time=5))
    report = json.loads(run_inside("compact", "a", "--dry-run", "--json", at=tmp_path).stdout)
    assert {"kind": None, "tag": 222, "group": None}.items() <= report["kinds"][-1].items()
    assert report["kept_events"] == 2


def test_the_first_interrupt_waits_for_the_next_report_and_the_second_does_not() -> None:
    before = signal.getsignal(signal.SIGINT)
    reported: list[int] = []
    with progress.defer_interrupts(lambda what, done, size: reported.append(done)) as report:
        report("scanning", 1, 2)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            report("scanning", 2, 2)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert reported == [1]
    assert signal.getsignal(signal.SIGINT) is before

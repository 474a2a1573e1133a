"""Commands for many journals: lines of output, exit codes, results that are kept, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from journaltool.output import progress

import journal
from journal.operations.finished_work import read_identity
from tests.support.command_line import build_environment, run_inside, run_tool, start_tool
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.numbered_journals import damage_block
from tests.support.programs import ROOT, guest
from tests.support.sealed_journals import KEY


@pytest.fixture(autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    monkeypatch.setattr("journal.fs.user_key.get_default_path", lambda: folder / "user.key")


def write_journals(folder: Path, *names: str, **options: Any) -> None:
    """Write journals whose times are past."""
    for name in names:
        with journal.Writer(folder / name, compress=False, **options) as writer:
            for number in range(3):
                writer.append_frame(224, bytes([number]))
                writer.flush()
    paths = [folder / name for name in names]
    wait_until(lambda: all(read_identity(path).was_settled(time.time_ns()) for path in paths))


def test_verify_prints_a_line_for_each_journal_and_exits_with_the_gravest_code(
    tmp_path: Path,
) -> None:
    write_journals(tmp_path, "a", "damaged", "torn", "z")
    damage_block(tmp_path / "damaged", 1, 1)
    (tmp_path / "torn").write_bytes((tmp_path / "torn").read_bytes()[:-3])
    (tmp_path / "b").write_bytes(b"no journal, but long enough for a header of a segment")
    names = ("a", "b", "damaged", "missing", "torn", "z")
    done = run_inside("verify", *names, at=tmp_path)
    assert done.returncode == 3
    whole, damaged, finding, torn, *others, counts = done.stdout.decode().splitlines()
    assert whole == "whole  a  600 bytes: 1 segment, 4 blocks, 3 events"
    assert damaged.startswith("damaged  damaged  ")
    assert finding.startswith("    finding: the hash of the block's body does not match")
    assert torn.startswith("torn  torn  ")
    assert others[-1].startswith("whole  z  ")
    assert counts == "6 journals: 2 whole, 2 failed, 1 damaged, 1 torn"
    errors = done.stderr.decode().splitlines()
    assert errors[0].startswith("journaltool: error: b: found no segment header")
    assert errors[1] == "journaltool: error: missing: No such file or directory"


def test_results_are_kept_until_a_journal_changes(tmp_path: Path) -> None:
    write_journals(tmp_path, "a", "b")
    verify = ("verify", "--json", "--jobs", "1", "a", "b")
    first = [json.loads(line) for line in run_inside(*verify, at=tmp_path).stdout.splitlines()]
    assert [(one["verdict"], one["remembered"]) for one in first] == [("whole", False)] * 2
    done = run_inside("verify", "--jobs", "1", "./a", "b", at=tmp_path)
    assert done.stdout.splitlines()[0].startswith(b"whole  a  ")
    end = b"2 journals: 2 whole; 2 unchanged since an earlier run (--again repeats)"
    assert done.stdout.splitlines()[-1] == end
    damage_block(tmp_path / "b", 1, 1)
    again = run_inside(*verify, at=tmp_path)
    second = [json.loads(line) for line in again.stdout.splitlines()]
    assert [(one["verdict"], one["remembered"]) for one in second] == [
        ("whole", True),
        ("damaged", False),
    ]
    assert again.returncode == 3


def test_compact_in_place_is_done_once_and_shows_one_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, int, int]] = []

    @contextmanager
    def show(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
        yield lambda *phase: shown.append(phase)

    monkeypatch.setattr(progress, "show_progress", show)
    write_journals(tmp_path, "a", "b")
    compact = ("compact", "--in-place", "--jobs", "1", "a", "b")
    first = run_inside(*compact, at=tmp_path)
    assert first.returncode == 0
    assert first.stdout.splitlines()[-1] == b"2 journals: 2 compacted"
    assert shown == [("compacting 2 journals", done, 2) for done in range(3)]
    second = run_inside(*compact, at=tmp_path)
    assert b"2 unchanged since an earlier run" in second.stdout
    assert not [path for path in tmp_path.iterdir() if path.name not in ("a", "b")]


@pytest.mark.deep
def test_replay_and_stats_of_many_journals(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run = ("run", "-qj", name, guest("exit7"))
        assert run_tool(*run, at=tmp_path).returncode == 7
    replay = run_tool("replay", "a", "b", "missing", at=tmp_path)
    line = b"the same  %s  with exit code 7"
    assert replay.stdout.splitlines()[:2] == [line % b"a", line % b"b"]
    assert replay.returncode == 1
    stats = run_tool("stats", "--jobs", "2", "--json", "a", "b", at=tmp_path)
    found = [json.loads(each) for each in stats.stdout.splitlines()]
    assert [one["journal"] for one in found] == ["a", "b"]
    assert all(one["events"] and one["kinds"] for one in found)


@pytest.mark.deep
def test_the_keys_of_a_command_are_those_of_its_workers(tmp_path: Path) -> None:
    write_journals(tmp_path, "a", "b", key=KEY)
    KEY.write(tmp_path / "key")
    done = run_inside("verify", "--key-file", "key", "a", "b", at=tmp_path)
    assert done.stdout.splitlines()[-1] == b"2 journals: 2 whole"
    assert run_inside("verify", "a", "b", at=tmp_path).returncode == 1


@pytest.mark.deep
def test_a_time_limit_leaves_the_rest_for_the_next_run(tmp_path: Path) -> None:
    write_journals(tmp_path, "a", "b")
    done = run_tool("verify", "--jobs", "1", "--max-seconds", "0.000001", "a", "b", at=tmp_path)
    assert done.returncode == 9
    assert done.stdout.splitlines()[-1] == b"2 journals: 2 not done"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("verify", "--from", "0", "a", "b"), "--from continues the check of one journal"),
        (("verify", "--again", "a"), "--again and --job-memory need --jobs or several"),
        (("verify", "--job-memory", "1MiB", "a", "b"), "--job-memory must be at least 64MiB"),
        (("verify", "--expect-head", f"1-{bytes(32).hex()}", "a", "b"), "belongs to one journal"),
        (("stats", "--svg", "c", "a", "b"), "--svg draws one journal"),
        (("compact", "-o", "c", "a", "b"), "need --in-place or --dry-run"),
        (("compact", "--dry-run", "--jobs", "1", "-"), "need --in-place or --dry-run"),
    ],
)
def test_options_of_one_journal_are_refused(
    arguments: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    done = run_inside(*arguments, at=tmp_path)
    assert done.returncode == 2
    assert reason in " ".join(done.stderr.decode().replace("│", " ").split())
    assert not list(tmp_path.iterdir())


@pytest.mark.deep
def test_an_interrupted_compaction_leaves_no_unfinished_file(tmp_path: Path) -> None:
    with journal.Writer(tmp_path / "a") as writer:
        writer.append_payloads(224, [os.urandom(1 << 12)] * 60_000)
    with start_tool(tmp_path, "compact", "--jobs", "1", "--in-place", "a") as process:
        wait_until(lambda: len(list(tmp_path.iterdir())) > 1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130, said
    assert said.endswith(b"stopped after 0 of 1 journal; the same command continues\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


HANGING_COMMAND = """
import sys
from pathlib import Path
from journaltool import error_report, exit_codes
from journaltool.options.many import ManyArguments
from journaltool.processes.many_journals import ManyTask, run_task
from tests.support import map_jobs

def run():
    task = ManyTask(
        command="test", verb="testing", function=map_jobs.behave_as_values,
        find_verdict=str, find_code=lambda values: exit_codes.ExitCode.FINE, describe=str,
    )
    error_report.raise_on_signals()
    paths = list(map(Path, sys.argv[1:]))
    run_task(task, paths, ManyArguments(jobs=2), quiet=True, as_json=False)

if __name__ == "__main__":
    error_report.run_reporting(run)
"""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.deep)]
)
def test_a_signal_ends_all_workers_and_says_how_far_the_work_came(
    number: signal.Signals, tmp_path: Path
) -> None:
    texts = {"a": "one", "b": "hang", "c": "two", "d": "hang", "e": "three"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    script = tmp_path / "script.py"
    script.write_text(HANGING_COMMAND)
    environment = {**build_environment(), "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}"}
    with subprocess.Popen(
        [sys.executable, script, *texts],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        begun = [tmp_path / f"{name}.begun" for name in ("b", "d")]
        wait_until(lambda: all(path.exists() for path in begun))
        process.send_signal(number)
        _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 128 + number
    assert said == b"journaltool: stopped after 2 of 5 journals; the same command continues\n"
    assert not [path for path in begun if Path(f"/proc/{path.read_text()}").exists()]

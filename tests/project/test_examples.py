"""Every example runs as a reader runs it, and prints its result."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.support.programs import ROOT

EXAMPLES = ROOT / "examples"
RELEASES = ROOT / "fixtures" / "releases"
OUTPUTS = {
    "compact_while_writing.py": r"kept \d+ of \d+ bytes of events while writing\n",
    "crash_safe_log.py": r"26 orders were durable before the kill, and the follower read all.*\n",
    "evaluate_code.py": r".*-> 12 \n.*-> TypeError: .*prices\.csv.*ran out of time.*-> 3 \n",
    "fork_warm_process.py": r".*moin.*\n",
    "sensor_log.py": r"(ApplicationKind.*\n){2}Reading\(sensor='roof', celsius=31\)\n.*hot: roof\n",
    "record_and_resume.py": r"before: b'1> 2> rye.*'\nafter:  b'1> 2> rye.*rye.*no more.*'\n",
}

DEEP = {"evaluate_code.py"}
"""Examples that need a large program."""


def run_example(name: str, *arguments: object) -> str:
    """Run an example with warnings as errors. Return its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}"}
        | {"XDG_CACHE_HOME": str(ROOT / ".cache")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _example(name: str) -> ParameterSet:
    marks = [pytest.mark.deep] if name in DEEP else []
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [_example(name) for name in sorted(OUTPUTS)])
def test_an_example_runs_and_prints_its_result(name: str, tmp_path: Path) -> None:
    output = run_example(name, tmp_path)
    assert re.fullmatch(OUTPUTS[name], output, re.DOTALL), output


def test_forks_answer_their_requests_apart(tmp_path: Path) -> None:
    lines = run_example("fork_warm_process.py", tmp_path).splitlines()
    answers = [line.partition(" -> b'")[2] for line in lines]
    assert [answer.partition("\\n")[0] for answer in answers[:2]] == ["hello", "4> moin"]
    assert len(list(tmp_path.glob("request-*.journal"))) == len(answers) == 3


def test_compaction_drops_the_history(tmp_path: Path) -> None:
    kept, size = map(int, re.findall(r"\d+", run_example("compact_while_writing.py", tmp_path)))
    assert kept * 10 < size


def test_the_event_table_shows_the_selected_kinds() -> None:
    path = sorted(RELEASES.glob("*/snapshots.journal"))[0]
    every = run_example("event_table.py", path).splitlines()
    snapshots = run_example("event_table.py", path, "Snapshot", "SafePoint").splitlines()
    assert 2 < len(snapshots) < len(every)
    assert [line for line in every if line.split()[2] in ("Snapshot", "SafePoint")] == snapshots


def test_every_example_is_run_and_listed() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {*OUTPUTS, "event_table.py"}
    readme = (EXAMPLES / "README.md").read_text()
    assert all(f"`{name} " in readme for name in names)
    assert 3 <= len(names) <= 8

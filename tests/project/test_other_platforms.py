"""Journals can be read on macOS and Windows, and only a refusal of one sentence says that writing
needs Linux.

A child process imitates the other system: it lacks the modules and functions that the system lacks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import journal
from fixtures.regenerate_release import FOLDER, load_manifest, releases
from tests.support.other_platforms import SYSTEMS
from tests.support.programs import ROOT, guest

RELEASE = releases()[-1]
MISSING = "os.fdatasync"

READ_BY_LIBRARY = """
import json
import sys
from pathlib import Path

import journal
from fixtures.regenerate_release import read_facts
from journal.log import Debris, RecoveryMode

release, target = map(Path, sys.argv[1:])
entries = json.loads((release / "manifest.json").read_text())
facts = {}
for name in entries:
    path = release / name
    facts[name] = read_facts(path)
    for mode in RecoveryMode:
        with journal.Reader(path, mode=mode) as reader:
            events = list(reader)
            assert len(events) == facts[name]["events"], mode
            assert not list(reader.verify())
            assert [frame.seq for frame in reader.last(3)] == [
                frame.seq for frame in reader.frames()
            ][-3:]
            assert reader.frame(reader.summary().last_seq).seq == facts[name]["last_seq"]
            followed = reader.follow(timeout_seconds=0.05)
            assert sum(1 for _ in followed) == len(events)
    verifier = journal.Verifier(path)
    findings = [found for found in verifier.run() if not isinstance(found, Debris)]
    assert not findings, findings
    statistics = journal.operations.collect_statistics(path)
    assert statistics.events == facts[name]["events"]
    with (target / f"{Path(name).stem}.jsonl").open("wb") as out:
        journal.export_lines(path, out)
print(json.dumps(facts))
"""

REFUSE_BY_LIBRARY = """
import json
import sys
from io import BytesIO
from pathlib import Path

import journal
from journal.pages.page_index import PageIndex

source, target, guest = map(Path, sys.argv[1:])
exported = BytesIO()
journal.export_lines(source, exported)
attempts = {
    "Writer": lambda: journal.Writer(target),
    "Writer of a file": lambda: journal.Writer(source),
    "compact": lambda: journal.compact(source, target),
    "compact_in_place": lambda: journal.compact_in_place(source),
    "concat": lambda: journal.concat([source, source], target),
    "cut": lambda: journal.cut(source, target, at=3),
    "extract_files": lambda: journal.extract_files(source, target),
    "filter": lambda: journal.filter(source, target, journal.Query()),
    "fork": lambda: journal.fork(source, target, at=3),
    "import_lines": lambda: journal.import_lines(BytesIO(exported.getvalue()), target),
    "salvage": lambda: journal.salvage(source, target),
    "split": lambda: journal.split(source, target, at=[3]),
    "record": lambda: journal.record(guest, target),
    "resume": lambda: journal.resume(source),
    "verify_replay": lambda: journal.verify_replay(source),
    "DirectoryHost": lambda: journal.replay.DirectoryHost(target),
    "PageIndex": lambda: PageIndex(source),
}
found = {}
for name, attempt in attempts.items():
    try:
        attempt()
    except journal.OptionError as error:
        found[name] = str(error)
assert sorted(path.name for path in target.parent.iterdir()) == [source.name]
print(json.dumps([sorted(attempts), found]))
"""

RUN_COMMANDS = """
import json
import sys

from typer.testing import CliRunner

from journaltool.app import app

found = []
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    found.append([result.exit_code, result.stdout, result.stderr])
print(json.dumps(found))
"""


def run_on(system: str, folder: Path, code: str, *arguments: object) -> Any:
    """Run a program in a process that imitates a system, and return its output as JSON."""
    program = folder.parent / f"{folder.name}-program.py"
    program.write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "tests.support.other_platforms", system, program, *arguments]
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.fixture(params=sorted(SYSTEMS))
def system(request: pytest.FixtureRequest) -> str:
    """The name of the imitated system."""
    name: str = request.param
    return name


def test_the_library_reads_every_shape_of_journal(system: str, tmp_path: Path) -> None:
    facts = run_on(system, tmp_path, READ_BY_LIBRARY, RELEASE, tmp_path)
    entries = load_manifest(RELEASE)
    assert facts == {name: entry["facts"] for name, entry in entries.items()}
    for name in entries:
        expected = tmp_path / "expected.jsonl"
        with expected.open("wb") as out:
            journal.export_lines(RELEASE / name, out)
        exported = tmp_path / f"{Path(name).stem}.jsonl"
        assert exported.read_bytes() == expected.read_bytes()


def test_the_library_refuses_to_write_in_one_sentence(system: str, tmp_path: Path) -> None:
    source = tmp_path / "source.journal"
    original = (RELEASE / "snapshots.journal").read_bytes()
    source.write_bytes(original)
    arguments = [source, tmp_path / "target.journal", guest("diary")]
    attempts, refusals = run_on(system, tmp_path, REFUSE_BY_LIBRARY, *arguments)
    assert sorted(refusals) == attempts
    actions = {
        "DirectoryHost": "writing the files of a guest",
        "PageIndex": "keeping a page index",
        "extract_files": "extracting files",
        "record": "running a guest",
        "resume": "running a guest",
        "verify_replay": "running a guest",
    }
    for name, message in refusals.items():
        action = actions.get(name, "writing a journal")
        assert message == f"{action} needs Linux: this system has no {MISSING}"
    assert source.read_bytes() == original


def test_the_command_line_reads(system: str, tmp_path: Path) -> None:
    directory = RELEASE / "segments"
    recording = str(RELEASE / "snapshots.journal")
    exported = tmp_path / "events.jsonl"
    commands = [
        ["--version"],
        *(["verify", str(RELEASE / name)] for name in load_manifest(RELEASE)),
        ["verify", "--pages", recording],
        ["info", recording],
        ["inspect", recording],
        ["inspect", "--json", "--kind", "ProcessExit", str(directory)],
        ["snapshots", recording],
        ["stats", recording],
        ["tail", "-n", "3", str(directory)],
        ["export", recording],
        ["export", "-o", str(exported), recording],
        ["filter", "--dry-run", "--kind", "MemoryPages", recording],
        ["extract", "--environment", recording],
        ["extract", "-q", "--memory", str(tmp_path / "memory"), recording],
        ["completion", "bash"],
    ]
    outcomes = run_on(system, tmp_path, RUN_COMMANDS, json.dumps(commands))
    for command, (code, _, errors) in zip(commands, outcomes, strict=True):
        assert (code, errors) == (0, ""), command
    assert "no: running a guest needs Linux" in outcomes[commands.index(["info", recording])][1]
    snapshots = outcomes[commands.index(["snapshots", recording])][1]
    native = subprocess.run(
        [sys.executable, "-m", "journaltool", "snapshots", recording],
        capture_output=True,
        text=True,
        check=True,
    )
    assert snapshots == native.stdout
    assert exported.stat().st_size


def test_the_command_line_refuses_to_write_in_one_sentence(system: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source.journal", tmp_path / "target"
    source.write_bytes((RELEASE / "snapshots.journal").read_bytes())
    exported = tmp_path.parent / f"{tmp_path.name}-events.jsonl"
    with exported.open("wb") as out:
        journal.export_lines(source, out)
    writing, running = "writing a journal", "running a guest"
    commands = {
        ("compact", source, "-o", target): writing,
        ("compact", "--in-place", source): writing,
        ("concat", source, source, "-o", target): writing,
        ("cut", source, "-o", target): writing,
        ("fork", source, "--at", "1", "--into", target): writing,
        ("filter", "--kind", "MemoryPages", source, "-o", target): writing,
        ("import", exported, "-o", target): writing,
        ("recover", source, target): writing,
        ("split", "--at", "3", source, "-o", target): writing,
        ("extract", "--files", target, source): "extracting files",
        ("index", source): "keeping a page index",
        ("replay", source): running,
        ("resume", source): running,
        ("run", "-j", target, guest("diary")): running,
        ("snapshot", source): "requesting a snapshot",
    }
    lines = [list(map(str, command)) for command in commands]
    outcomes = run_on(system, tmp_path, RUN_COMMANDS, json.dumps(lines))
    for command, action, (code, _, errors) in zip(lines, commands.values(), outcomes, strict=True):
        assert code in (1, 125), command
        reason = f"error: {action} needs Linux: this system has no {MISSING}"
        assert errors.splitlines() == [f"journaltool: {reason}"], command
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_the_executable_starts(system: str) -> None:
    program = ROOT / "cli" / "journaltool" / "__main__.py"
    command = [sys.executable, "-m", "tests.support.other_platforms", system, str(program)]
    done = subprocess.run(
        [*command, "verify", str(FOLDER / RELEASE.name / "segments")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "whole" in done.stdout

"""The library works without docstrings and asserts (``python -OO``), from a zip archive, and tells
a frozen program what it cannot do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import journal
from journal import _platform
from journal.compaction.worker_process import WorkerFailed, compact_in_worker
from journal.engine.program import binaryen
from tests.support.build_trees import copy_build_tree
from tests.support.programs import guest

JOURNALS = """
import sys
from pathlib import Path

import journal
from journal.compaction.retention import RetentionPolicy
from journal.compaction.worker_process import compact_in_worker
from journal.events import core

folder = Path(sys.argv[1])
with journal.Writer(folder / "log") as writer:
    writer.append(core.ProcessExit(exit_code=3))
assert_equal = lambda found, right: found == right or sys.exit(f"found {found}, not {right}")
assert_equal([event.exit_code for event in journal.Reader(folder / "log")], [3])
assert_equal(list(journal.Verifier(folder / "log").run()), [])
journal.compact(folder / "log", folder / "short")
compact_in_worker(folder / "log", folder / "short again", RetentionPolicy(1))
with (folder / "lines").open("wb") as file:
    journal.export_lines(folder / "log", file)
with (folder / "lines").open("rb") as file:
    journal.import_lines(file, folder / "back")
assert_equal([event.exit_code for event in journal.Reader(folder / "back")], [3])
"""

GUESTS = """
from journal.events.snapshots import Trigger

cache, module = folder / "cache", sys.argv[2]
snapshots = journal.engine.SnapshotOptions(
    on=frozenset((Trigger.FIRST_STDIN,)), stacks=journal.engine.Stacks.ALWAYS
)
with journal.record(
    module, folder / "run", args=["cat"], cache=cache, snapshots=snapshots
) as recorder:
    recorder.feed(b"one line")
    recorder.close_stdin()
    assert_equal(recorder.wait().code, 0)
    assert_equal(recorder.stdout, b"one line")
journal.compact(folder / "run", folder / "short run")
with journal.resume(folder / "short run", cache=cache) as recorder:
    assert_equal(recorder.wait().code, 0)
"""

COMMANDS = (
    ["--version"],
    ["--help"],
    ["run", "--help"],
    ["run", "-q", "-j", "run", str(guest("cat"))],
    ["resume", "run"],
    ["info", "run"],
    ["inspect", "run"],
    ["verify", "run"],
    ["compact", "run", "-o", "short"],
    ["export", "run", "-o", "lines"],
)


def run_python(folder: Path, *arguments: object, **variables: str) -> str:
    """Run Python in a new process in ``folder``, and return its output."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=os.environ | variables,
        input="one line",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("level", ["1", "2"])
def test_a_program_works_without_asserts_and_docstrings(level: str, tmp_path: Path) -> None:
    run_python(tmp_path, "-c", JOURNALS + GUESTS, tmp_path, guest("cat"), PYTHONOPTIMIZE=level)


def test_commands_work_without_asserts_and_docstrings(tmp_path: Path) -> None:
    for arguments in COMMANDS:
        plain, optimized = tmp_path / "plain", tmp_path / "optimized"
        outputs = []
        for folder, level in ((plain, ""), (optimized, "2")):
            folder.mkdir(exist_ok=True)
            outputs.append(
                run_python(folder, "-m", "journaltool", *arguments, PYTHONOPTIMIZE=level)
            )
        if "--help" in arguments or "--version" in arguments or arguments[0] == "resume":
            assert outputs[0] == outputs[1], arguments


def test_a_program_works_from_a_zip_archive(tmp_path: Path) -> None:
    tree = copy_build_tree(tmp_path / "tree")
    archive = shutil.make_archive(str(tmp_path / "library"), "zip", tree)
    shutil.rmtree(tree)
    with zipfile.ZipFile(archive) as file:
        assert "journal/__init__.py" in file.namelist()
    check = "import journal\nif 'library.zip' not in journal.__file__: raise SystemExit(1)\n"
    code = check + JOURNALS + GUESTS
    run_python(tmp_path, "-c", code, tmp_path, guest("cat"), PYTHONPATH=archive)


def test_a_frozen_program_does_not_start_itself_as_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with journal.Writer(tmp_path / "log") as writer:
        writer.append(journal.events.core.ProcessExit(exit_code=3))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "program"))
    assert _platform.find_interpreter() is None
    with pytest.raises(WorkerFailed, match="frozen program"):
        compact_in_worker(
            tmp_path / "log", tmp_path / "short", journal.compaction.RetentionPolicy()
        )
    tool = binaryen.BinaryenTool(116, True, "a tool", tmp_path)
    with pytest.raises(binaryen.NotInstrumentable, match="frozen program"):
        binaryen.run_asyncify(b"", tool, 1, 1 << 30)

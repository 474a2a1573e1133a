"""The journal of a warm interpreter: made once, made again after a change, and never half."""

from __future__ import annotations

from pathlib import Path

import pytest

import journal
from journal.engine import FileCopy
from journal.engine.recipes.sandbox import PythonSandbox, QuickJSSandbox
from tests.support.resumed_sandboxes import ResumedSandbox
from tests.support.sandbox_codes import JAVASCRIPT, PYTHON, check_case
from tests.support.tiny_interpreter import TINY_INTERPRETER


def test_the_journal_is_made_again_after_a_change_alone(tmp_path: Path, cache_dir: Path) -> None:
    path, file = tmp_path / "warm.journal", tmp_path / "file"
    file.write_bytes(b"one")

    def prepare(setup: str = "") -> QuickJSSandbox:
        copies = [FileCopy(str(file), "/work/file")]
        return QuickJSSandbox.prepare(
            TINY_INTERPRETER, path, setup=setup, copies=copies, cache=cache_dir
        )

    assert prepare().is_new
    first = path.read_bytes()
    assert not prepare().is_new
    assert path.read_bytes() == first
    assert prepare("var x = 1").is_new
    assert not prepare("var x = 1").is_new
    file.write_bytes(b"two")
    assert prepare("var x = 1").is_new
    assert sorted(tmp_path.iterdir()) == [file, path]


@pytest.mark.deep
def test_the_setup_is_in_the_snapshot(tmp_path: Path, cache_dir: Path, quickjs: Path) -> None:
    path = tmp_path / "warm.journal"
    QuickJSSandbox.prepare(quickjs, path, setup="let kept = 41", cache=cache_dir)
    with ResumedSandbox(path, tmp_path / "fork.journal", cache_dir) as session:
        assert session.evaluate("kept += 1").value == 42
        numbers = session.evaluate("[Math.random(), Math.random()]").value
    with ResumedSandbox(path, tmp_path / "other.journal", cache_dir) as session:
        assert session.evaluate("kept").value == 41
        others = session.evaluate("[Math.random(), Math.random()]").value
    assert all(0 <= number < 1 for number in numbers + others)
    assert len({*numbers, *others}) == 4, "each clone has random numbers of its own"


@pytest.mark.deep
def test_javascript_gives_value_output_and_files(
    tmp_path: Path, cache_dir: Path, quickjs: Path
) -> None:
    path = tmp_path / "warm.journal"
    QuickJSSandbox.prepare(quickjs, path, cache=cache_dir)
    with ResumedSandbox(path, tmp_path / "fork.journal", cache_dir) as session:
        for case in JAVASCRIPT:
            check_case(case, session.evaluate(case.code))
        ended = session.evaluate("std.exit(3)")
        assert ended.error == "the code ended its process with exit code 3"


@pytest.mark.parametrize("setup", ["exit", "trap at"])
def test_an_interpreter_that_ends_leaves_no_journal(
    tmp_path: Path, cache_dir: Path, setup: str
) -> None:
    with pytest.raises(journal.OptionError, match="ended during its setup"):
        QuickJSSandbox.prepare(TINY_INTERPRETER, tmp_path / "j", setup=setup, cache=cache_dir)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.deep
def test_a_setup_that_fails_leaves_no_journal(
    tmp_path: Path, cache_dir: Path, quickjs: Path
) -> None:
    with pytest.raises(journal.OptionError, match="setup of the sandbox failed: TypeError: cannot"):
        QuickJSSandbox.prepare(quickjs, tmp_path / "j", setup="null.x", cache=cache_dir)
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_not_replaced(tmp_path: Path, cache_dir: Path) -> None:
    text, log = tmp_path / "text", tmp_path / "log.journal"
    text.write_text("a text")
    with journal.Writer(log) as writer:
        writer.append_payloads(224, [b"one"])
    for path in (text, log, tmp_path):
        with pytest.raises(journal.OptionError, match="not the journal of a sandbox"):
            QuickJSSandbox.prepare(TINY_INTERPRETER, path, cache=cache_dir)
    assert text.read_text() == "a text"
    copies = [FileCopy(str(tmp_path / "none"), "/work/none")]
    with pytest.raises(journal.OptionError, match="none does not exist"):
        QuickJSSandbox.prepare(TINY_INTERPRETER, tmp_path / "j", copies=copies, cache=cache_dir)


@pytest.mark.parametrize("name", ["", "a b", "a;b", "os.", "import os"])
def test_a_name_of_a_module_is_checked(tmp_path: Path, name: str) -> None:
    with pytest.raises(journal.OptionError, match="the name of a module"):
        PythonSandbox.prepare(TINY_INTERPRETER, tmp_path / "j", imports=[name])


@pytest.mark.deep
def test_python_gives_value_output_and_files(
    tmp_path: Path, cache_dir: Path, cpython: Path
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from package.answer import ANSWER")
    (package / "answer.py").write_text("ANSWER = 42")
    path = tmp_path / "warm.journal"
    PythonSandbox.prepare(
        cpython,
        path,
        imports=["math", "package"],
        setup="kept = package.ANSWER",
        copies=[FileCopy(str(package), "/packages/package")],
        cache=cache_dir,
    )
    with ResumedSandbox(path, tmp_path / "fork.journal", cache_dir) as session:
        assert session.evaluate("kept, package.ANSWER").value == [42, 42]
    with ResumedSandbox(path, tmp_path / "other.journal", cache_dir) as session:
        for case in PYTHON:
            check_case(case, session.evaluate(case.code))
        ended = session.evaluate("os._exit(3)")
        assert ended.error == "the code ended its process with exit code 3"


@pytest.mark.deep
def test_a_module_that_is_missing_fails_the_setup(
    tmp_path: Path, cache_dir: Path, cpython: Path
) -> None:
    with pytest.raises(journal.OptionError, match="No module named 'absent'"):
        PythonSandbox.prepare(cpython, tmp_path / "j", imports=["absent"], cache=cache_dir)

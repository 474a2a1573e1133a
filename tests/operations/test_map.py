"""One function for many journals: order, errors, dead workers, limits, and stored results."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import journal
from journal.errors import JobFailed, MalformedEvent, OptionError
from journal.log.seal_keys import serialize_keys
from journal.operations import finished_work
from journal.operations import map as operations_map
from journal.operations.finished_work import FinishedWork, read_identity
from tests.support import map_jobs
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.programs import ROOT


@pytest.fixture(autouse=True)
def _own_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        "journal.fs.user_key.get_default_path", lambda: tmp_path / "private" / "user.key"
    )


def write(folder: Path, *texts: str) -> list[Path]:
    """Write a file with each text, and return their paths once their times are past."""
    paths = [folder / f"{number}.journal" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    wait_until_settled(*paths)
    return paths


def wait_until_settled(*paths: Path) -> None:
    wait_until(lambda: all(read_identity(path).was_settled(time.time_ns()) for path in paths))


def count_calls(path: Path) -> int:
    calls = path.with_suffix(".calls")
    return len(calls.read_text()) if calls.exists() else 0


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def read_pid(path: Path) -> int:
    begun = path.with_suffix(".begun")
    wait_until(begun.exists)
    return int(begun.read_text())


def test_results_come_in_order_and_a_bad_journal_stops_no_other(tmp_path: Path) -> None:
    texts = ("after the others", "raise", "one", "die", "bug", "exit", "unsendable", "two")
    paths = [*write(tmp_path, *texts), tmp_path / "missing"]
    reports: list[tuple[int, int]] = []
    results = list(
        journal.map(
            map_jobs.behave,
            paths,
            jobs=2,
            progress=lambda what, done, size: reports.append((done, size)),
        )
    )
    assert [one.path for one in results] == paths
    assert [one.value for one in results if one.error is None] == ["after the others", "one", "two"]
    errors: list[Any] = [one.error for one in results if one.error is not None]
    wrong, dead, bug, ended, unsendable, missing = errors
    assert (type(wrong), wrong.offset) == (MalformedEvent, 7)
    assert str(dead) == "its worker process ended with signal 9 before it had a result"
    assert (type(bug), "behave" in "".join(bug.__notes__)) == (ZeroDivisionError, True)
    assert "exit code 3" in str(ended)
    assert (type(unsendable), "cannot be sent" in str(unsendable)) == (JobFailed, True)
    assert type(missing) is FileNotFoundError
    with pytest.raises(MalformedEvent):
        results[1].get()
    assert results[0].get() == "after the others"
    assert reports == [(done, len(paths)) for done in range(len(paths) + 1)]


def test_a_job_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    (late,) = journal.map(map_jobs.behave, write(tmp_path, "hang"), seconds_max=0.02)
    assert isinstance(late.error, JobFailed)
    assert late.error.timed_out
    assert str(late.error) == "no result after 0.02 s, the limit of seconds_max"


def test_a_worker_gets_no_more_memory_than_it_may_use(tmp_path: Path) -> None:
    paths = write(tmp_path, "memory", "one")
    big, small = journal.map(map_jobs.behave, paths, jobs=1, memory_size_max=256 << 20)
    assert isinstance(big.error, MemoryError)
    assert small.value == "one"


def close(results: Iterator[Any]) -> None:
    results.close()  # type: ignore[attr-defined]


def test_a_closed_iterator_ends_its_processes(tmp_path: Path) -> None:
    paths = write(tmp_path, "one", "hang")
    results = journal.map(map_jobs.behave, paths, jobs=2)
    assert next(results).value == "one"
    pid = read_pid(paths[1])
    assert is_running(pid)
    close(results)
    assert not is_running(pid)


def test_a_forked_child_ends_no_worker_of_its_parent(tmp_path: Path) -> None:
    paths = write(tmp_path, "one", "two", "hang")
    results = journal.map(map_jobs.behave, paths, jobs=1)
    assert next(results).value == "one"
    child = os.fork()
    if not child:
        try:
            next(results)
        except journal.WrongProcess:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert next(results).value == "two"
    close(results)


def test_a_stop_ends_the_iteration_and_its_processes(tmp_path: Path) -> None:
    paths = write(tmp_path, "one", "hang")
    begun = paths[1].with_suffix(".begun")
    results = list(journal.map(map_jobs.behave, paths, jobs=1, stop=begun.exists))
    assert [one.value for one in results] == ["one"]
    assert not is_running(read_pid(paths[1]))


@pytest.mark.deep
def test_few_results_wait_for_a_slow_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations_map, "_RESULTS_AHEAD_MAX", 2)
    paths = write(tmp_path, "hang", "one", "two")
    begun = [path.with_suffix(".begun") for path in paths]
    polls = iter(range(5))  # A third job would begin between these polls.
    results = journal.map(
        map_jobs.behave,
        paths,
        jobs=2,
        stop=lambda: begun[1].exists() and next(polls, None) is None,
    )
    assert list(results) == []
    assert [path.exists() for path in begun] == [True, True, False]


PARENT = """
import sys
from pathlib import Path
import journal
from tests.support import map_jobs
if __name__ == "__main__":
    list(journal.map(map_jobs.behave, [Path(sys.argv[1])]))
"""


@pytest.mark.deep
def test_a_worker_ends_with_a_killed_parent(tmp_path: Path) -> None:
    (path,) = write(tmp_path, "hang")
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script, path], env=environment) as parent:
        pid = read_pid(path)
        parent.kill()
        parent.wait(DEADLINE_SECONDS)
    wait_until(lambda: not is_running(pid))


@pytest.mark.deep
@pytest.mark.parametrize("is_guarded", [True, False])
def test_a_function_of_a_program_needs_its_guard(is_guarded: bool, tmp_path: Path) -> None:
    (path,) = write(tmp_path, "one")
    script = tmp_path / "program.py"
    guard = 'if __name__ == "__main__":\n    ' if is_guarded else ""
    script.write_text(
        "import journal\nfrom pathlib import Path\n"
        "def read(path):\n    return path.read_text()\n"
        f"{guard}print(*[one.get() for one in journal.map(read, [{str(path)!r}])])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )
    if is_guarded:
        assert (done.returncode, done.stdout, done.stderr) == (0, "one\n", "")
    else:
        assert "must call map in a function, below if __name__ == '__main__'" in done.stderr


def test_a_function_that_no_worker_can_import_is_refused() -> None:
    with pytest.raises(OptionError, match="function must be defined in a module"):
        journal.map(lambda path: path, [])


# -- stored results -------------------------------------------------------------------------------


def run(function: Callable[[Path], Any], paths: list[Path], **options: Any) -> list[Any]:
    """Return the values of a run, each with whether it is from an earlier run."""
    found = journal.map(function, paths, jobs=1, **options)
    return [(one.value, one.is_remembered) for one in found]


def test_finished_work_is_skipped_until_the_journal_changes(tmp_path: Path) -> None:
    paths, state = write(tmp_path, "one", "two"), tmp_path / "state"
    first = run(map_jobs.count_calls, paths, state=state)
    assert first == [(["", "one"], False), (["", "two"], False)]
    paths[1].write_text("six")
    wait_until_settled(paths[1])
    second = run(map_jobs.count_calls, paths, state=state)
    assert second == [(["", "one"], True), (["", "six"], False)]
    assert list(map(count_calls, paths)) == [1, 2]
    again = run(partial(map_jobs.count_calls, fixed="x"), paths[:1], state=state)
    assert again == [(["x", "one"], False)]
    assert run(map_jobs.count_calls, paths[:1], state=state, again=True)[0][1] is False
    assert run(map_jobs.count_calls, paths, state=state) == [
        (["", "one"], True),
        (["", "six"], True),
    ]
    assert list(map(count_calls, paths)) == [3, 2]


def test_a_rewritten_journal_counts_as_done(tmp_path: Path) -> None:
    paths, state = write(tmp_path, "one"), tmp_path / "state"
    assert run(map_jobs.rewrite, paths, state=state, rewrites=True) == [("ONE", False)]
    assert run(map_jobs.rewrite, paths, state=state, rewrites=True) == [("ONE", True)]


def test_a_result_for_a_journal_that_changed_meanwhile_is_not_stored(tmp_path: Path) -> None:
    paths, state = write(tmp_path, "one"), tmp_path / "state"
    assert run(map_jobs.rewrite, paths, state=state) == [("ONE", False)]
    assert len(state.read_bytes().splitlines()) == 1


def test_errors_are_not_stored_and_values_must_be_those_of_json(tmp_path: Path) -> None:
    paths, state = write(tmp_path, "raise"), tmp_path / "state"
    (found,) = journal.map(map_jobs.behave, paths, state=state)
    assert isinstance(found.error, MalformedEvent)
    assert len(state.read_bytes().splitlines()) == 1
    (found,) = journal.map(map_jobs.return_bytes, paths, state=state)
    assert "must return values that JSON has" in str(found.error)


def test_a_directory_is_known_by_its_segments(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with journal.Writer(path, roll=journal.log.RollPolicy(size_bytes=4096)) as writer:
        writer.append_payloads(224, [bytes(100)] * 100)
        before = read_identity(path).digest
        (path / "notes").write_text("not a segment")
        assert read_identity(path).digest == before
    assert read_identity(path).digest != before


def make_work(path: Path, **options: Any) -> FinishedWork:
    return FinishedWork(path, b"task", **options)


def store(state: Path, path: Path, value: str) -> None:
    make_work(state).add(path, read_identity(path).digest, value)


def test_a_line_that_was_cut_or_forged_is_ignored(tmp_path: Path) -> None:
    (one, two), state = write(tmp_path, "one", "two"), tmp_path / "state"
    store(state, one, '"whole"')
    title, line = state.read_bytes().splitlines(keepends=True)
    state.write_bytes(title + line.replace(b"whole", b"wrong"))
    assert make_work(state).find(one) is None
    state.write_bytes(title + line[:-9])
    assert make_work(state).find(one) is None
    store(state, two, '"two"')
    assert make_work(state).find(two) == '"two"'
    state.write_bytes(title + b"\xff\0 {}\n" + line)
    assert make_work(state).find(one) == '"whole"'
    assert make_work(state, again=True).find(one) is None
    assert FinishedWork(state, b"another task").find(one) is None


def test_results_of_another_user_are_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,), state = write(tmp_path, "one"), tmp_path / "state"
    store(state, path, "1")
    other = tmp_path / "other" / "user.key"
    monkeypatch.setattr("journal.fs.user_key.get_default_path", lambda: other)
    assert make_work(state).find(path) is None


def test_a_file_that_is_something_else_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    with journal.Writer(path) as writer:
        writer.append_frame(224, b"x")
    before = path.read_bytes()
    os.mkfifo(tmp_path / "fifo")
    for wrong in (path, tmp_path / "fifo"):
        with pytest.raises(OptionError, match="is no file of finished work"):
            make_work(wrong)
    assert path.read_bytes() == before


def test_the_file_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path, gone), state = write(tmp_path, "one", "two"), tmp_path / "state"
    for number in range(100):
        store(state, path, str(number))
        store(state, gone, str(number))
    gone.unlink()
    make_work(state).tidy()
    assert len(state.read_bytes().splitlines()) == 2
    assert make_work(state).find(path) == "99"
    monkeypatch.setattr(finished_work, "STATE_SIZE_MAX", 100)
    assert make_work(state).find(path) is None
    assert len(state.read_bytes().splitlines()) == 1


def test_the_keys_of_the_process_reach_its_workers() -> None:
    key = journal.SealKey.generate()
    assert serialize_keys() == (None, None)
    with journal.log.using_key(key):
        assert serialize_keys() == (key.serialize(), None)

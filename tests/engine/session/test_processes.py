"""Processes that start each other: each has a journal of its own, and the run is one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import HostMount, MemoryMount
from journal.engine import ExitKind, RunResult, SnapshotOptions, Stacks, verify_replay
from journal.errors import ModuleMismatch, NotResumable, OptionError
from journal.events.core import ProcessExit
from journal.events.definition import Event
from journal.events.process import RecordingLevel, SessionStart
from journal.events.processes import (
    ChildEnded,
    ChildStart,
    ChildStarted,
    PipeRead,
    PipeWrite,
    StreamPassed,
)
from journal.events.snapshots import Snapshot
from journal.log import Writer
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.programs import guest
from tests.support.rewrites import events_of
from tests.support.wat import module as wat

PROCESSES, SHELL = guest("processes"), guest("shell")
COMMANDS: dict[str, Any] = {
    "processes": PROCESSES,
    **dict.fromkeys(("emit", "upper", "sum", "fail"), SHELL),
}
PIPELINES = ("emit 300 | upper | sum", "fail 3 | fail 4", "emit 40 | upper")
ENDED = RunResult(ExitKind.EXITED, 0)


def run(path: Path, cache: Path, *arguments: str, **options: Any) -> tuple[RunResult, str]:
    """Return the result and the output of a program that starts others."""
    options.setdefault("commands", COMMANDS)
    module = SHELL if arguments[0] == "shell" else PROCESSES
    with journal.record(module, path, args=arguments, cache=cache, **options) as recorder:
        result = recorder.wait(DEADLINE_SECONDS)
        assert result is not None
        return result, recorder.stdout.decode()


def resume(path: Path, cache: Path, **options: Any) -> tuple[RunResult, str]:
    """Resume a run to its end, and return its result and its whole output."""
    options.setdefault("commands", COMMANDS)
    with journal.resume(path, cache=cache, **options) as recorder:
        result = recorder.wait(DEADLINE_SECONDS)
        assert result is not None
        return result, recorder.stdout.decode()


def journals_of(path: Path) -> list[Path]:
    """Return the journals of a run, that of the first process first."""
    return [path, *sorted(path.with_suffix(".children").iterdir())]


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> tuple[Path, str]:
    """The journal and the output of a shell that ran pipelines."""
    path = tmp_path_factory.mktemp("shell") / "shell.journal"
    result, output = run(path, cache_dir, "shell", *PIPELINES)
    assert result == ENDED
    return path, output


def test_the_output_of_pipelines_is_that_of_their_stages(pipelines: tuple[Path, str]) -> None:
    lines = pipelines[1].splitlines()
    assert lines[:3] == ["300 lines, sum 45150", "exit codes: 0 0 0", "exit codes: 3 4"]
    assert lines[3:] == [f"LINE {n}" for n in range(1, 41)] + ["exit codes: 0 0"]


def test_each_process_is_replayed_from_its_own_journal(
    pipelines: tuple[Path, str], cache_dir: Path
) -> None:
    paths = journals_of(pipelines[0])
    assert [path.name for path in paths[1:]] == [f"{pid}.journal" for pid in range(2, 9)]
    results = [verify_replay(path, cache=cache_dir) for path in paths]
    assert all(each.matches and each.result is not None for each in results)
    assert [each.result.code for each in results if each.result] == [0, 0, 0, 0, 3, 4, 0, 0]


def test_a_child_knows_its_parent_its_arguments_and_its_descriptors(
    tmp_path: Path, cache_dir: Path
) -> None:
    _, output = run(tmp_path / "a.journal", cache_dir, "processes", "descriptors")
    shown, ended = output.splitlines()
    assert shown == (
        "pid 2 parent 1 args processes who A=1 C=- fds 0 1 2 3 5 7 20 22 in /"
    )  # Not 4, which is closed on exec, and not 6, which was closed.
    assert ended == "join: 1 2 tag 1 code 0"
    start = next(
        event
        for event in events_of(tmp_path / "a.children" / "2.journal")
        if isinstance(event, ChildStart)
    )
    assert (start.pid, start.parent, start.image) == (2, 1, 0)
    with journal.Reader(tmp_path / "a.journal") as reader:
        assert start.journal == reader.journal_id


def test_children_have_children(tmp_path: Path, cache_dir: Path) -> None:
    result, output = run(tmp_path / "a.journal", cache_dir, "processes", "generations", "3")
    assert result.code == 3
    assert output.splitlines() == [
        *(f"pid {4 - depth} at depth {depth}" for depth in (3, 2, 1, 0)),
        *("join: 1 4 tag 1 code 7", "join: 1 3 tag 1 code 1", "join: 1 2 tag 1 code 2"),
    ]


def test_more_processes_than_allowed_get_again(tmp_path: Path, cache_dir: Path) -> None:
    _, output = run(tmp_path / "a.journal", cache_dir, "processes", "bomb", processes_max=4)
    assert output == "3 processes, then error 6\n"


def test_a_parent_learns_how_its_children_end(tmp_path: Path, cache_dir: Path) -> None:
    _, output = run(tmp_path / "a.journal", cache_dir, "processes", "ends")
    assert output.splitlines() == [
        *("join: 1 2 tag 1 code 300", "join: error 12"),
        *("join: 1 3 killed by 6", "join: error 12"),
        *("join: 0 0 tag 0 code 0", "join: 0 0 tag 0 code 0", "join: error 12"),
        *("signal to nobody: 71", "signal: 0", "join: 1 4 killed by 15"),
    ]


def test_a_write_to_a_pipe_without_readers_is_a_signal(tmp_path: Path, cache_dir: Path) -> None:
    result, _ = run(tmp_path / "a.journal", cache_dir, "processes", "broken")
    assert result.code == 128 + 13


def test_streams_of_a_child_are_pipes_on_request(tmp_path: Path, cache_dir: Path) -> None:
    _, output = run(tmp_path / "a.journal", cache_dir, "processes", "handles")
    lines = output.splitlines()
    assert lines == ["options 1 1 0", "through two pipes", "join: 1 2 tag 1 code 0"]


def test_a_child_reads_the_input_of_the_first_process(tmp_path: Path, cache_dir: Path) -> None:
    _, output = run(tmp_path / "a.journal", cache_dir, "processes", "inherit", stdin=b"given\n")
    assert output == "given\njoin: 1 2 tag 1 code 0\n"
    passed = [each for each in events_of(tmp_path / "a.journal") if isinstance(each, StreamPassed)]
    assert [(each.stream, each.data) for each in passed] == [(0, b"given\n"), (1, b"given\n")]


def test_a_child_opens_the_files_that_its_parent_names(tmp_path: Path, cache_dir: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "in").write_text("from a file\n")
    mounts = [MemoryMount("/"), HostMount(str(folder), "/work")]
    _, output = run(
        tmp_path / "a.journal", cache_dir, "processes", "redirect", "/work", mounts=mounts
    )
    assert (folder / "out").read_text() == "from a file\n"
    assert output.splitlines() == ["join: 1 2 tag 1 code 0", "join: 1 3 tag 1 code 127"]


def test_a_process_goes_on_with_another_program(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "a.journal"
    result, output = run(path, cache_dir, "processes", "replace")
    assert result == ENDED
    assert output.splitlines() == [
        "process 1 is replaced",
        "exec of nothing: 44",
        "pid 1 parent 0 args processes who A=- C=3 fds 0 1 2 3 in /",
    ]
    assert [each.name for each in journals_of(path)] == ["a.journal", "1-1.journal"]
    first, second = (verify_replay(each, cache=cache_dir) for each in journals_of(path))
    assert first.matches
    assert first.result == RunResult(ExitKind.REPLACED)
    assert second.result == ENDED
    assert resume(path, cache_dir) == (ENDED, output)


def test_a_fork_continues_in_both_processes(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "a.journal"
    result, output = run(path, cache_dir, "processes", "forks")
    assert result == ENDED
    assert output.splitlines() == [
        "child 2 has 2",
        "pid 2 parent 1 args processes who A=- C=- fds 0 1 2 3 5 in /",
        *("join: 1 2 tag 1 code 0", "parent 1 has 1"),
    ]
    assert [each.name for each in journals_of(path)[1:]] == ["2-1.journal", "2.journal"]
    checked = [verify_replay(each, cache=cache_dir) for each in journals_of(path)]
    assert all(each.matches for each in checked)
    assert [each.result.kind for each in checked if each.result] == [
        *(ExitKind.EXITED, ExitKind.EXITED, ExitKind.REPLACED),
    ]


def test_a_fork_without_stacks_is_refused(tmp_path: Path, cache_dir: Path) -> None:
    notes: list[str] = []
    options = SnapshotOptions(stacks=Stacks.NEVER)
    _, output = run(
        tmp_path / "a.journal",
        cache_dir,
        "processes",
        "forks",
        snapshots=options,
        note=notes.append,
    )
    assert output == "fork: error 58\n"
    assert len(notes) == 1
    assert "--stacks" in notes[0]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("shell", *PIPELINES), marks=pytest.mark.deep),
        ("processes", "generations", "2"),
    ],
    ids=["pipelines", "generations"],
)
def test_a_run_resumes_from_snapshots_of_its_processes(
    arguments: tuple[str, ...], tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "a.journal"
    options = SnapshotOptions(every_events=3, stacks=Stacks.ALWAYS)
    result, output = run(path, cache_dir, *arguments, snapshots=options)
    cut_before(path, ChildEnded)
    assert any(isinstance(event, Snapshot) for event in events_of(path))
    assert resume(path, cache_dir) == (result, output)
    assert all(verify_replay(each, cache=cache_dir).matches for each in journals_of(path))


def test_without_commands_nothing_can_be_started(tmp_path: Path, cache_dir: Path) -> None:
    _, output = run(tmp_path / "a.journal", cache_dir, "processes", "handles", commands={})
    assert output == "proc_spawn failed: 44\n"


def test_a_run_without_inputs_starts_no_processes(tmp_path: Path, cache_dir: Path) -> None:
    _, output = run(
        tmp_path / "a.journal", cache_dir, "processes", "handles", level=RecordingLevel.STATE
    )
    assert output == "proc_spawn failed: 58\n"


def test_an_ended_run_with_processes_ends_again(
    pipelines: tuple[Path, str], tmp_path: Path, cache_dir: Path
) -> None:
    path = copy_run(pipelines[0], tmp_path)
    with journal.resume(path, cache=cache_dir, commands=COMMANDS) as recorder:
        assert recorder.wait(DEADLINE_SECONDS) == ENDED
        assert recorder.ended_before


def copy_run(path: Path, folder: Path) -> Path:
    """Return the path of a copy of the journals of a run."""
    children = path.with_suffix(".children")
    shutil.copytree(children, folder / children.name)
    return Path(shutil.copy(path, folder))


def cut_before(path: Path, kind: type[Event], count: int = 0) -> None:
    """Cut a journal before an event, the first of its kind after ``count`` others."""
    with journal.Reader(path) as reader:
        journal_id = reader.journal_id
    events = list(events_of(path))
    found = [index for index, event in enumerate(events) if isinstance(event, kind)]
    path.unlink()
    with Writer(path, journal_id=journal_id) as writer:
        for event in events[: found[count]]:
            writer.append(event)


Cuts = dict[str, tuple[type[Event], int]]


@pytest.mark.parametrize(
    "cuts",
    [
        pytest.param({"shell.journal": (ChildEnded, 0)}, id="before a join"),
        pytest.param(
            {"shell.journal": (ChildEnded, 0), "2.journal": (ProcessExit, 0)}, id="before an end"
        ),
        pytest.param({"shell.journal": (ChildStarted, 6)}, id="before a child has a number"),
        pytest.param(
            {
                "shell.journal": (PipeRead, 0),
                "2.journal": (PipeWrite, 1),
                "3.journal": (PipeRead, 0),
                "4.journal": (PipeRead, 0),
            },
            id="while bytes are in pipes",
        ),
    ],
)
def test_a_run_that_was_cut_anywhere_has_the_same_output(
    cuts: Cuts, pipelines: tuple[Path, str], tmp_path: Path, cache_dir: Path
) -> None:
    path = copy_run(pipelines[0], tmp_path)
    for name, (kind, count) in cuts.items():
        cut_before(path if name == path.name else find_child(path, name), kind, count)
    assert resume(path, cache_dir) == (ENDED, pipelines[1])
    assert all(verify_replay(each, cache=cache_dir).matches for each in journals_of(path))


def find_child(path: Path, name: str) -> Path:
    """Return the path of the journal of another process of a run."""
    return path.with_suffix(".children") / name


def test_a_run_without_the_journal_of_a_process_is_refused(
    pipelines: tuple[Path, str], tmp_path: Path, cache_dir: Path
) -> None:
    path = copy_run(pipelines[0], tmp_path)
    cut_before(path, ChildEnded, 6)
    find_child(path, "8.journal").unlink()
    with pytest.raises(NotResumable, match=r"process 8, .*8\.journal, is missing"):
        journal.resume(path, cache=cache_dir, commands=COMMANDS)


def test_a_resume_needs_the_recorded_commands(
    pipelines: tuple[Path, str], tmp_path: Path, cache_dir: Path
) -> None:
    path = copy_run(pipelines[0], tmp_path)
    cut_before(path, ChildEnded)
    with pytest.raises(OptionError, match=r"may start the command 'emit': .* --command emit=MOD"):
        journal.resume(path, cache=cache_dir)
    with pytest.raises(ModuleMismatch, match="the module of the command 'sum' is not the recorded"):
        journal.resume(path, cache=cache_dir, commands=COMMANDS | {"sum": PROCESSES})
    assert resume(path, cache_dir) == (ENDED, pipelines[1])


def test_the_journal_of_a_child_is_not_resumed_alone(
    pipelines: tuple[Path, str], tmp_path: Path, cache_dir: Path
) -> None:
    path = copy_run(pipelines[0], tmp_path)
    child = path.with_suffix(".children") / "2.journal"
    cut_before(child, ProcessExit)
    with pytest.raises(NotResumable, match="that of process 2 of a run"):
        journal.resume(child, cache=cache_dir)


def test_a_journal_of_another_run_is_refused(
    pipelines: tuple[Path, str], tmp_path: Path, cache_dir: Path
) -> None:
    path = copy_run(pipelines[0], tmp_path)
    cut_before(path, ChildEnded)
    children = path.with_suffix(".children")
    shutil.copy(children / "3.journal", children / "2.journal")
    with pytest.raises(NotResumable, match="is not the journal of process 2 of the run"):
        journal.resume(path, cache=cache_dir, commands=COMMANDS)


def test_the_journal_of_an_earlier_run_is_not_overwritten(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "a.journal"
    run(path, cache_dir, "processes", "generations", "1")
    path.unlink()
    kept = (tmp_path / "a.children" / "2.journal").read_bytes()
    _, output = run(path, cache_dir, "processes", "generations", "1")
    assert output.splitlines()[:2] == ["pid 1 at depth 1", "pid 3 at depth 0"]
    assert (tmp_path / "a.children" / "2.journal").read_bytes() == kept


def test_stopping_the_first_process_stops_all(tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "a.journal"
    with journal.record(
        PROCESSES, path, args=["processes", "inherit"], cache=cache_dir, commands=COMMANDS
    ) as recorder:
        recorder.feed(b"first\n")
        while recorder.stdout != b"first\n":
            assert recorder.wait(0.001) is None
        recorder.stop()
        assert recorder.wait(DEADLINE_SECONDS) == RunResult(ExitKind.STOPPED)
    for each in journals_of(path):
        with journal.Reader(each) as reader:
            assert list(reader.verify()) == []
    with journal.resume(path, cache=cache_dir, commands=COMMANDS) as recorder:
        recorder.feed(b"second\n")
        recorder.close_stdin()
        assert recorder.wait(DEADLINE_SECONDS) == ENDED
        assert recorder.stdout == b"first\nsecond\njoin: 1 2 tag 1 code 0\n"
    sessions = [each for each in events_of(journals_of(path)[1]) if isinstance(each, SessionStart)]
    assert len(sessions) == 2


ENDLESS = wat(
    """(module (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
    (memory (export "memory") 1)
    (func (export "_start") (loop $again (drop (call $yield)) (br $again))))"""
)
KILLER = wat(
    """(module
    (import "wasix_32v1" "proc_spawn"
        (func $spawn (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "wasix_32v1" "proc_signal" (func $signal (param i32 i32) (result i32)))
    (import "wasix_32v1" "proc_join" (func $join (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1) (data (i32.const 64) "endless")
    (func (export "_start")
        (if (call $spawn (i32.const 64) (i32.const 7) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 2) (i32.const 2) (i32.const 0)
                (i32.const 0) (i32.const 0)) (then (call $exit (i32.const 101))))
        (if (call $signal (i32.load (i32.const 0)) (i32.const 15))
            (then (call $exit (i32.const 102))))
        (i32.store (i32.const 128) (i32.const 1))
        (i32.store (i32.const 132) (i32.load (i32.const 0)))
        (if (call $join (i32.const 128) (i32.const 0) (i32.const 160))
            (then (call $exit (i32.const 103))))
        ;; 2: killed; then the number of the signal.
        (call $exit (i32.add (i32.mul (i32.load8_u (i32.const 160)) (i32.const 100))
            (i32.add (i32.load8_u (i32.const 162)) (i32.load8_u (i32.const 164)))))))"""
)


@pytest.mark.deep
def test_a_signal_ends_a_process_without_functions_of_signals(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "a.journal"
    with journal.record(KILLER, path, cache=cache_dir, commands={"endless": ENDLESS}) as recorder:
        result = recorder.wait(DEADLINE_SECONDS)
    assert result == RunResult(ExitKind.EXITED, 215)
    for each in journals_of(path):
        assert verify_replay(each, cache=cache_dir).matches


def test_output_of_an_ended_child_precedes_what_its_parent_writes_after_the_end(
    tmp_path: Path, cache_dir: Path
) -> None:
    path = tmp_path / "a.journal"
    result, output = run(path, cache_dir, "processes", "generations", "2")
    cut_before(path, ChildEnded)
    cut_before(path, StreamPassed)
    assert resume(path, cache_dir) == (result, output)  # The children had ended.

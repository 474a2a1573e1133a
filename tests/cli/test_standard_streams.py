"""Standard outputs that are closed, full or left by their reader, and numbers without bounds."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from journaltool.options.common import NUMBER_MAX

import journal
from tests.support import wat
from tests.support.command_line import Done, build_command, build_environment, run_inside, run_tool
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.guest_runs import wait_for_end

LINES = 30_000
#: The guest prints ``LINES`` lines, and exits with 9.
PRINTS = wat.program(
    f"""(i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 5))
    {
        wat.times(
            LINES,
            '''(call $check
            (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))''',
        )
    }
    (call $exit (i32.const 9))""",
    data="line\\0a",
)
TEXTS = ("--help", "--version", "completion bash", "run --help", "verify --help")
COMMANDS = ("export", "extract --tar -", "inspect", "info", "stats", "verify --json", "tail")


def run_with_outputs(command: str, redirection: str, at: Path) -> Done:
    """Run a command whose outputs a shell redirects."""
    line = f"{shlex.join(build_command(*command.split()))} {redirection}"
    return subprocess.run(
        ["bash", "-c", line],
        cwd=at,
        env=build_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """A directory with the module ``prints.wasm``, and its journal."""
    folder = tmp_path_factory.mktemp("streams")
    (folder / "prints.wasm").write_bytes(PRINTS)
    with journal.record(PRINTS, folder / "prints.journal", cache=cache_dir) as recorder:
        wait_for_end(recorder)
    return folder


@pytest.mark.parametrize("redirection", [">&-", "> /dev/full"])
@pytest.mark.parametrize("command", [*TEXTS, *(f"{name} prints.journal" for name in COMMANDS)])
def test_a_command_without_a_usable_output_fails_with_a_sentence(
    folder: Path, command: str, redirection: str
) -> None:
    done = run_with_outputs(command, redirection, folder)
    reason = "Bad file descriptor" if redirection == ">&-" else "No space left on device"
    assert (done.returncode, done.stderr.decode()) == (1, f"journaltool: error: {reason}\n")


@pytest.mark.parametrize("command", [*TEXTS, "inspect prints.journal"])
def test_a_command_whose_reader_has_left_ends_quietly(folder: Path, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        build_command(*command.split()),
        cwd=folder,
        env=build_environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_command_that_needs_no_output_succeeds_without_one(folder: Path) -> None:
    done = run_with_outputs("verify --quiet prints.journal", ">&- 2>&-", folder)
    assert done.returncode == 0


def test_a_message_without_a_standard_error_changes_no_exit_code(folder: Path) -> None:
    assert run_with_outputs("info missing.journal", "2>&-", folder).returncode == 1
    assert run_with_outputs("--unknown", "2>&-", folder).returncode == 2


def test_a_run_whose_reader_has_left_ends_as_by_sigpipe_and_a_resume_delivers_the_rest(
    tmp_path: Path, folder: Path
) -> None:
    run = f"run -j {tmp_path}/j prints.wasm"
    done = run_with_outputs(run, "| { head -n 3; }; exit ${PIPESTATUS[0]}", folder)
    assert (done.returncode, done.stdout, done.stderr) == (141, b"line\n" * 3, b"")
    rest = run_tool("resume", tmp_path / "j", at=folder)
    assert (rest.returncode, rest.stderr) == (9, b"")
    assert 0 < rest.stdout.count(b"line\n") < LINES
    again = run_tool("resume", tmp_path / "j", at=folder)
    assert (again.returncode, again.stdout) == (9, b"")


def test_a_run_on_a_full_disk_stops_with_a_sentence_and_can_be_resumed(
    tmp_path: Path, folder: Path
) -> None:
    done = run_with_outputs(f"run -j {tmp_path}/j prints.wasm", "> /dev/full", folder)
    assert done.returncode == 125
    assert done.stderr.decode() == (
        "journaltool: error: output could not be delivered: No space left on device; the journal "
        "contains it, and a resume delivers it\n"
    )
    with (tmp_path / "out").open("wb") as out:
        resume = build_command("resume", tmp_path / "j")
        assert subprocess.run(resume, stdout=out, env=build_environment()).returncode == 9
    assert (tmp_path / "out").read_bytes() == b"line\n" * LINES


def test_a_guest_s_write_to_a_closed_output_fails(tmp_path: Path, folder: Path) -> None:
    done = run_with_outputs(f"run -q -j {tmp_path}/j prints.wasm", ">&-", folder)
    assert (done.returncode, done.stderr) == (8, b"")  # BADF
    assert run_tool("replay", "--verify", tmp_path / "j", at=folder).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        "tail -n {} prints.journal",
        "inspect --fd {} prints.journal",
        "inspect --limit {} prints.journal",
        "cut --at {} prints.journal -o x",
        "run --snapshot-events {} prints.wasm",
        "run --max-memory {} prints.wasm",
        "run --max-files {}GiB prints.wasm",
    ],
)
@pytest.mark.parametrize("number", [NUMBER_MAX + 1, 10**4000])
def test_a_number_without_bounds_is_refused(folder: Path, arguments: str, number: int) -> None:
    done = run_inside(*arguments.format(number).split(), at=folder)
    assert done.returncode == 2
    assert b"is too large" in done.stderr


def test_the_largest_number_is_accepted(folder: Path) -> None:
    done = run_inside("tail", "-n", str(NUMBER_MAX), "prints.journal", at=folder)
    assert done.returncode == 0

"""Exit codes, streams, signals and messages of run and resume."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import IO

import pytest
import typer
from journaltool import error_report
from journaltool.exit_codes import ExitCode
from journaltool.options import output_path

import journal
from journal.events.process import ProcessStart
from journal.log.segment_writer import make_disk_full_error
from tests.support.command_line import (
    COMMANDS,
    Done,
    build_command,
    build_environment,
    parse_last_json,
    run_and_interrupt,
    run_inside,
    run_tool,
)
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.programs import guest
from tests.support.rewrites import change_output_of_exit7, events_of, keep_first, rewrite

StartCommand = Callable[..., subprocess.Popen[bytes]]
HOSTILE = "\x1b[31m\x1b]0;title\x07\u202e\nforged line"


@pytest.fixture
def start_command(tmp_path: Path) -> Iterator[StartCommand]:
    """Yield a function that starts journaltool. Processes that still run at the end are killed."""
    with ExitStack() as stack:

        def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
            process = stack.enter_context(
                subprocess.Popen(
                    build_command(*arguments),
                    cwd=tmp_path,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=build_environment(),
                )
            )
            stack.callback(process.kill)
            return process

        yield start


def signal_and_wait(process: subprocess.Popen[bytes], number: int) -> Done:
    """Send a signal, and return the result of the process."""
    process.send_signal(number)
    process.wait(DEADLINE_SECONDS)  # communicate() closes stdin, which must happen later.
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def stable_pipe_size(pipe: IO[bytes] | None) -> int:
    """Return the number of bytes in a pipe without writers, or 0 while it has a writer."""
    assert pipe is not None
    sizes = set()
    for _ in range(3):
        sizes.add(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
        time.sleep(0.05)
    return int.from_bytes(sizes.pop(), sys.byteorder) if len(sizes) == 1 else 0


def test_the_exit_code_and_the_output_are_those_of_the_guest(tmp_path: Path) -> None:
    done = run_tool("run", guest("exit7"), "19", at=tmp_path)
    assert (done.returncode, done.stdout) == (19, b"leaving\n")
    assert done.stderr == b"journaltool: recording in exit7.journal\n"
    assert (tmp_path / "exit7.journal").exists()


def test_standard_input_reaches_the_guest_byte_for_byte(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40
    done = run_tool("run", guest("cat"), "1000", at=tmp_path, stdin=data)
    assert (done.returncode, done.stdout) == (0, data)
    assert done.stderr == b"journaltool: recording in cat.journal\n%d bytes\n" % len(data)


def test_arguments_after_the_module_go_to_the_guest(tmp_path: Path) -> None:
    arguments = ["19", "--help", "--json", "-j", "x", "--", "", "a b", "ä", HOSTILE]
    done = run_tool("run", "--arg0", "name", guest("exit7"), *arguments, at=tmp_path)
    assert done.returncode == 19
    start = events_of(tmp_path / "exit7.journal")[0]
    assert isinstance(start, ProcessStart)
    assert start.arguments == tuple(text.encode() for text in ("name", *arguments))


def test_variables_are_given_or_inherited(tmp_path: Path) -> None:
    done = run_tool(
        *("run", "--env", "A=1=2", "--env", "INHERITED", guest("exit7")),
        at=tmp_path,
        env={"INHERITED": "from here"},
    )
    assert done.returncode == 7
    start = events_of(tmp_path / "exit7.journal")[0]
    assert isinstance(start, ProcessStart)
    assert start.environment == (b"A=1=2", b"INHERITED=from here")


def test_a_trap_exits_with_134_and_a_backtrace_and_so_does_its_resume(tmp_path: Path) -> None:
    done = run_tool("run", "--json", guest("trap"), "divide", at=tmp_path)
    assert done.returncode == 134
    assert done.stdout == b"about to trap: divide\n"
    assert b"\njournaltool: the guest trapped: integer division by zero\n  0: " in done.stderr
    report = parse_last_json(done)
    assert (report["outcome"], report["exit_code"]) == ("trapped", None)
    assert report["backtrace"]
    resumed = run_tool("resume", "trap.journal", at=tmp_path)
    assert resumed.returncode == 134
    assert b"the guest trapped" in resumed.stderr


def test_a_time_limit_exits_with_124_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    for seconds in ("0.3", "3", "30"):  # A busy machine may need longer to start the guest.
        limit = ("--timeout", seconds)
        done = run_tool("run", "--force", *limit, "--json", guest("spin"), at=tmp_path)
        if done.stdout:
            break
    assert (done.returncode, done.stdout) == (124, b"spinning\n")
    assert b"continue with: journaltool resume spin.journal\n" in done.stderr
    report = parse_last_json(done)
    assert (report["outcome"], report["timed_out"], report["signal"]) == ("stopped", True, None)
    with journal.Reader(tmp_path / "spin.journal") as reader:
        assert report["events"] == reader.summary().events
    resumed = run_tool("resume", "--timeout", "0.3", "--quiet", "spin.journal", at=tmp_path)
    assert (resumed.returncode, resumed.stderr) == (124, b"")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_stops_a_guest_that_computes(
    number: int, code: int, start_command: StartCommand, tmp_path: Path
) -> None:
    process = start_command("run", "-j", "spin.journal", guest("spin"))
    assert process.stdout is not None
    assert process.stdout.readline() == b"spinning\n"
    done = signal_and_wait(process, number)
    assert done.returncode == code
    assert done.stderr == b"journaltool: stopped; continue with: journaltool resume spin.journal\n"
    assert run_tool("verify", "--quiet", "spin.journal", at=tmp_path).returncode == 0


def test_a_signal_stops_a_guest_that_reads_and_a_resume_continues(
    start_command: StartCommand, tmp_path: Path
) -> None:
    process = start_command("run", "--json", "-j", "a b.journal", guest("cat"))
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"first ")
    process.stdin.flush()
    assert process.stdout.read(6) == b"first "
    done = signal_and_wait(process, signal.SIGINT)
    assert done.returncode == 130
    assert b"stopped; continue with: journaltool resume 'a b.journal'\n" in done.stderr
    assert parse_last_json(done)["signal"] == "SIGINT"
    resumed = run_tool("resume", "a b.journal", at=tmp_path, stdin=b"second")
    assert (resumed.returncode, resumed.stdout, resumed.stderr) == (0, b"second", b"12 bytes\n")
    finished_again = run_tool("resume", "a b.journal", at=tmp_path)
    assert (finished_again.returncode, finished_again.stdout) == (0, b"")
    assert finished_again.stderr == b"journaltool: the program had already ended with exit code 0\n"


def test_a_signal_stops_a_guest_whose_output_nobody_reads(
    start_command: StartCommand, tmp_path: Path
) -> None:
    process = start_command("run", guest("chatty"), "10000000")
    assert process.stdout is not None
    room = fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ)
    wait_until(lambda: stable_pipe_size(process.stdout) > room // 2)
    done = signal_and_wait(process, signal.SIGTERM)
    assert done.returncode == 143
    assert b"continue with: journaltool resume chatty.journal\n" in done.stderr
    assert len(done.stdout) <= room


def test_a_journal_in_use_cannot_be_resumed_or_replaced(
    start_command: StartCommand, tmp_path: Path
) -> None:
    process = start_command("run", guest("cat"))
    wait_until((tmp_path / "cat.journal").exists)
    locked = b"journaltool: error: cat.journal is being written by another process\n"
    for arguments in (("resume", "cat.journal"), ("run", "--force", guest("cat"))):
        done = run_tool(*arguments, at=tmp_path)
        assert (done.returncode, done.stderr) == (125, locked)
    assert run_tool("inspect", "cat.journal", at=tmp_path).returncode == 0
    assert signal_and_wait(process, signal.SIGINT).returncode == 130


def test_an_existing_journal_is_replaced_only_by_force(tmp_path: Path) -> None:
    assert run_tool("run", guest("exit7"), "1", at=tmp_path).returncode == 1
    before = (tmp_path / "exit7.journal").read_bytes()
    refused = run_tool("run", "-j", "exit7.journal", guest("exit7"), "2", at=tmp_path)
    assert refused.returncode == 125
    assert b"exit7.journal already exists" in refused.stderr
    failed = run_tool("run", "--force", "-j", "exit7.journal", "no.wasm", at=tmp_path)
    assert failed.returncode == 125
    assert (tmp_path / "exit7.journal").read_bytes() == before
    assert run_tool("run", "--force", guest("exit7"), "3", at=tmp_path).returncode == 3
    assert run_tool("resume", "exit7.journal", at=tmp_path).returncode == 3
    assert [path.name for path in tmp_path.iterdir()] == ["exit7.journal"]


@pytest.mark.parametrize("options", [(), ("--segments", "1MiB")], ids=["file", "directory"])
def test_a_default_name_that_is_taken_gets_a_number(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "exit7-3.journal").symlink_to("nothing")
    for code, name in ((1, "exit7"), (2, "exit7-2"), (3, "exit7-4")):
        done = run_inside("run", *options, guest("exit7"), str(code), at=tmp_path)
        assert done.returncode == code
        assert done.stderr == f"journaltool: recording in {name}.journal\n".encode()
    for code, name in ((1, "exit7"), (2, "exit7-2"), (3, "exit7-4")):
        assert run_inside("resume", f"{name}.journal", at=tmp_path).returncode == code


@pytest.mark.parametrize("options", [("-q",), ("-j", "here")], ids=["quiet", "named"])
def test_a_journal_that_was_named_is_not_told(options: tuple[str, ...], tmp_path: Path) -> None:
    done = run_inside("run", *options, guest("exit7"), at=tmp_path)
    assert (done.returncode, done.stderr) == (7, b"")


def test_two_runs_at_once_never_share_a_default_name(tmp_path: Path) -> None:
    rivals = list[str]()

    def be_faster(path: Path) -> None:
        journal.Writer(path).close()
        rivals.append(path.name)

    def create(path: Path) -> None:
        if not rivals:
            be_faster(path)
        with journal.Writer(path, publish=False) as writer:
            if len(rivals) == 1:
                be_faster(path)
            writer.publish()

    path, _ = output_path.create_numbered(tmp_path / "work.journal", create)
    assert rivals == ["work.journal", "work-2.journal"]
    assert path == tmp_path / "work-3.journal"
    assert path.exists()


def test_force_replaces_nothing_but_a_journal(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear reader")
    done = run_tool("run", "--force", "-j", "letter", guest("exit7"), at=tmp_path)
    assert done.returncode == 125
    assert (tmp_path / "letter").read_text() == "dear reader"


def test_a_read_only_directory_cannot_be_written(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    run = ("run", "--json", guest("worker"), "/room", "2")
    done = run_tool("run", "--dir", "room::/room:ro", *run[1:], at=tmp_path)
    assert done.returncode == 1
    assert b"the directory must be empty and writable" in done.stderr
    assert not list(room.iterdir())
    done = run_tool("run", "--force", "--dir", "room::/room", *run[1:], at=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(room.iterdir())


def test_a_resume_finds_a_moved_directory_by_its_new_path(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    run = ("run", "--timeout", "0.4", "--dir", "old::/room", guest("worker"))
    assert run_tool(*run, "/room", "12", "100000", at=tmp_path).returncode == 124
    (tmp_path / "old").rename(tmp_path / "new")
    refused = run_tool("resume", "worker.journal", at=tmp_path)
    assert refused.returncode == 125
    assert refused.stderr.count(b"\n") == 1
    resumed = run_tool("resume", "--dir", "new::/room", "worker.journal", at=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert b"done: 12 steps" in resumed.stdout


def test_a_directory_in_memory_keeps_files_from_the_machine(tmp_path: Path) -> None:
    done = run_tool(
        "run", "--no-root", "--memory", "/room", guest("worker"), "/room", "2", at=tmp_path
    )
    assert done.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["worker.journal"]
    refused = run_tool("run", "-j", "b", "--no-root", guest("worker"), "/room", "2", at=tmp_path)
    assert refused.returncode == 1


def test_a_run_works_with_closed_streams(tmp_path: Path) -> None:
    close_streams = ("sh", "-c", 'exec "$@" <&- >&-', "sh")
    done = run_tool("run", "-q", guest("cat"), at=tmp_path, wrapper=close_streams)
    assert (done.returncode, done.stderr) == (0, b"0 bytes\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "no.wasm"),
        ("run", "-j", "no/where", guest("exit7")),
        ("run", "--dir", "nowhere", guest("exit7")),
        ("run", "--copy", "nowhere::/x", guest("exit7")),
        ("run", "--max-memory", "1", guest("exit7")),
        ("run", Path(__file__)),
        ("resume", "no.journal"),
        ("resume", Path(__file__)),
        ("resume", "."),
    ],
)
def test_a_refused_run_exits_with_125_and_one_sentence(
    arguments: tuple[str | Path, ...], tmp_path: Path
) -> None:
    done = run_tool(*arguments, at=tmp_path)
    assert done.returncode == 125
    assert done.stderr.startswith(b"journaltool: error: ")
    assert done.stderr.count(b"\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_hostile_name_is_escaped_in_an_error(tmp_path: Path) -> None:
    done = run_tool("run", f"{HOSTILE}.wasm", at=tmp_path)
    assert done.returncode == 125
    assert b"\x1b" not in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_divergence_is_reported_in_readable_lines(tmp_path: Path) -> None:
    assert run_tool("run", guest("exit7"), "5", at=tmp_path).returncode == 5
    rewrite(tmp_path / "exit7.journal", tmp_path / "other.journal", change_output_of_exit7)
    done = run_tool("resume", "--json", "other.journal", at=tmp_path)
    assert done.returncode == 125
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("journaltool: error: the replay diverged from the journal at event ")
    assert "staying" in lines[1]
    assert "leaving" in lines[2]
    assert lines[3].startswith("  0: ")
    assert parse_last_json(done)["error"] == "Divergence"


def test_a_journal_without_an_embedded_module_needs_the_file(tmp_path: Path) -> None:
    module = tmp_path / "program.wasm"
    module.write_bytes(guest("exit7").read_bytes())
    assert run_tool("run", "--no-embed", module, at=tmp_path).returncode == 7
    rewrite(tmp_path / "program.journal", tmp_path / "cut.journal", keep_first(6))
    module.unlink()
    refused = run_tool("resume", "cut.journal", at=tmp_path)
    assert refused.returncode == 125
    assert (
        run_tool("resume", "--module", guest("exit7"), "cut.journal", at=tmp_path).returncode == 7
    )


#: The word after each of these options is created by an example.
OUTPUT_OPTIONS = ("-o", "--into")
#: Words at which the shell syntax of an example starts.
SHELL_WORDS = {"|", "&&", ">", ">>", "<"}


def parse_example(line: str) -> list[str]:
    """Return the words of an example before shell syntax, with its redirected input file for -."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&<>")
    lexer.whitespace_split = True
    words = list(lexer)
    end = next((at for at, word in enumerate(words) if word in SHELL_WORDS), len(words))
    input_file = words[end + 1] if words[end : end + 1] == ["<"] else "-"
    words = [os.path.expanduser(word) for word in words[:end]]  # noqa: PTH111 (as a shell does it)
    return [input_file if word == "-" and input_file != "-" else word for word in words]


def make_keys(folder: Path) -> None:
    """Create the keys of the examples, and seal the journal of an example."""
    for option, name in (((), "journal.key"), (("--sign",), "signing.key")):
        assert run_inside("keygen", *option, name, at=folder).returncode == 0
    sealing = ("concat", "hello.journal", "--seal-key", "journal.key", "-o", "sealed.journal")
    assert run_inside(*sealing, at=folder).returncode == 0


def write_inputs(folder: Path, arguments: list[str], files: dict[str, bytes]) -> None:
    """Write the journals and exports that an example reads. A pattern leads to one journal."""
    for index, word in enumerate(arguments):
        if word.endswith("*.journal"):
            arguments[index] = word.replace("*", "one")
            (folder / word).parent.mkdir()
    journal_name = "sealed.journal" if "--key-file" in arguments else "hello.journal"
    outputs = {word for option, word in pairwise(["", *arguments]) if option in OUTPUT_OPTIONS}
    for word in {*arguments} - outputs - {"whole.journal", "week.journal", "both.journal"}:
        if word.endswith(".journal") or word == "broken":
            (folder / word).write_bytes(files[journal_name])
        elif word.endswith(".jsonl"):
            (folder / word).write_bytes(files["hello.jsonl"])


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "snapshot"])
def test_the_examples_of_the_help_work(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = guest("exit7").read_bytes()
    for program in ("hello", "tool", "python"):
        (tmp_path / f"{program}.wasm").write_bytes(module)
    if name != "run":
        options = ("run", "--snapshot-on", "bootstrap", "--stacks", "never")
        done = run_tool(*options, "--journal", "hello.journal", "hello.wasm", at=tmp_path)
        assert done.returncode == 7
        run_inside("export", "hello.journal", "-o", "hello.jsonl", at=tmp_path)
    if name in ("head", "sign"):
        make_keys(tmp_path)
    files_before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    text = run_inside(name, "--help", at=tmp_path).stdout.decode()
    for number, line in enumerate(text.partition("Examples:\n")[2].strip().splitlines()):
        folder = tmp_path / str(number)
        folder.mkdir()
        for file, data in files_before.items():
            (folder / file).write_bytes(data)
        monkeypatch.setenv("HOME", str(folder))
        program, *arguments = parse_example(line)
        assert program == "journaltool"
        if name != "run":
            write_inputs(folder, arguments, files_before)
        if "-f" in arguments:
            assert run_and_interrupt(*arguments, at=folder) == 130, line
            continue
        call = run_tool if name in ("run", "resume") else run_inside
        done = call(*arguments, at=folder)
        assert done.returncode in (0, 7) or b"needs pyarrow" in done.stderr, (line, done.stderr)


def test_a_full_disk_names_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    done = run_inside("run", "-j", "new.journal", guest("exit7"), at=tmp_path)
    assert done.returncode == 125
    assert done.stderr.endswith(b"; make room, then repeat the command\n")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(("first_seq_lost", "told"), [(0, "repeat the command"), (7, "resume")])
def test_a_disk_that_fills_later_names_the_resume(
    first_seq_lost: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # The recorder raises its error again from another cause.
    cause = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    error = make_disk_full_error(Path("j"), cause, first_seq_lost)
    with pytest.raises(typer.Exit), error_report.reporting_errors(ExitCode.REFUSED):
        raise error from RuntimeError()
    assert capsys.readouterr().err.endswith(f"; make room, then {told}\n")

"""Calls of journaltool, in a process of its own or in this process."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from journaltool.app import app
from typer.testing import CliRunner

from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.programs import ROOT
from tests.support.snapshot_runs import triggers_in
from tests.support.tool_server import ToolServer

COMMANDS = (
    *("run", "resume", "prepare", "check-resume", "trust"),
    *("snapshot", "snapshots", "replay"),
    *("inspect", "tail", "info", "verify", "recover", "concat"),
    *("split", "cut", "export", "import", "extract"),
    *("filter", "compact", "stats", "index", "head", "sign", "keygen", "completion"),
)


Done = subprocess.CompletedProcess[bytes]

_SERVER = ToolServer()


def build_command(*arguments: str | Path) -> list[str]:
    """Return a command line of journaltool."""
    return [sys.executable, "-m", "journaltool", *map(str, arguments)]


def build_environment(**changed: str) -> dict[str, str]:
    """Return the environment of a tool, with one module cache for all tests."""
    return {**os.environ, "XDG_CACHE_HOME": str(ROOT / ".cache"), "COLUMNS": "100", **changed}


def run_tool(
    *arguments: str | Path,
    at: Path,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    wrapper: Sequence[str] = (),
) -> Done:
    """Run journaltool in the directory ``at`` to its end, in a process of its own.

    A new Python starts only for a wrapper and for variables of Python. Otherwise the process is
    forked from one that has started.
    """
    environment = build_environment(**(env or {}))
    done = None
    if not wrapper and not any(name.startswith("PYTHON") for name in env or ()):
        done = _SERVER.run(
            [str(argument) for argument in arguments],
            at=at, stdin=stdin, env=environment, seconds=DEADLINE_SECONDS,
        )  # fmt: skip
    done = done or subprocess.run(
        [*wrapper, *build_command(*arguments)],
        cwd=at,
        input=stdin,
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        env=environment,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


@contextmanager
def keep_signal_handlers() -> Iterator[None]:
    """Restore the signal handlers that a command installs for the rest of its process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def run_inside(*arguments: str | Path, at: Path) -> Done:
    """Run journaltool in this process, which is several times as fast."""
    with contextlib.chdir(at), keep_signal_handlers():
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return subprocess.CompletedProcess(
        list(arguments), done.exit_code, done.stdout_bytes, done.stderr_bytes
    )


def run_and_interrupt(*arguments: str | Path, at: Path) -> int:
    """Run a command, interrupt it after its first line, and return the exit code."""
    with subprocess.Popen(
        build_command(*arguments), cwd=at, env=build_environment(), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        return process.wait(DEADLINE_SECONDS)


def parse_last_json(done: Done) -> dict[str, object]:
    """Return the object that --json prints on the last line of stderr."""
    found = json.loads(done.stderr.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def run_on_terminal(arguments: list[str], at: Path, **changed: str) -> tuple[int, bytes]:
    """Run a command on a terminal, and return its exit code and output."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        arguments, cwd=at, stdin=follower, stdout=follower, stderr=follower,
        env={**build_environment(), "TERM": "xterm", **changed},
    )  # fmt: skip
    os.close(follower)
    output = b""
    while True:
        try:
            part = os.read(leader, 1 << 16)
        except OSError:  # The terminal is closed.
            break
        if not part:
            break
        output += part
    os.close(leader)
    return process.wait(DEADLINE_SECONDS), output


class TerminalSession:
    """A running command on a terminal: all its standard streams are one pseudo-terminal."""

    def __init__(self, process: subprocess.Popen[bytes], leader: int) -> None:
        self.process = process
        self._leader = leader
        self.shown = b""

    def type(self, data: bytes) -> None:
        """Type on the terminal."""
        os.write(self._leader, data)

    def resize(self, *, columns: int, rows: int) -> None:
        """Change the size of the terminal, which is not the controlling one of the command."""
        fcntl.ioctl(self._leader, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def read_until(self, text: bytes, after: int = 0) -> None:
        """Read the terminal until it shows a text, from byte ``after`` on."""
        while text not in self.shown[after:]:
            assert self._read(), self.shown

    def read_to_end(self) -> int:
        """Read the terminal until the command ends, and return its exit code."""
        while self._read():
            pass
        return self.process.wait(DEADLINE_SECONDS)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._leader], [], [], DEADLINE_SECONDS)
        assert ready, self.shown
        part = b""
        with contextlib.suppress(OSError):  # The terminal is closed.
            part = os.read(self._leader, 1 << 16)
        self.shown += part
        return bool(part)


@contextmanager
def start_on_terminal(at: Path, *arguments: str | Path) -> Iterator[TerminalSession]:
    """Yield a command that runs on a terminal of its own. It is killed at the end."""
    leader, follower = pty.openpty()
    try:
        with subprocess.Popen(
            build_command(*arguments),
            cwd=at,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=build_environment(TERM="dumb"),
        ) as process:
            os.close(follower)
            try:
                yield TerminalSession(process, leader)
            finally:
                process.kill()
    finally:
        os.close(leader)


def wait_for_snapshots(path: Path, count: int) -> None:
    """Wait until a journal has this number of snapshots."""
    wait_until(lambda: len(triggers_in(path)) >= count)


@contextmanager
def start_tool(at: Path, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a running command with pipes. It is killed at the end."""
    with subprocess.Popen(
        build_command(*arguments),
        cwd=at,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=build_environment(),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def write_input(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


def read_process_state(process: subprocess.Popen[bytes]) -> str:
    """Return the process state of the system: R, S or T."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for_watch(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process watches files by inotify, so that it has read its journal once."""
    folder = Path(f"/proc/{process.pid}/fd")

    def has_watch() -> bool:
        with contextlib.suppress(FileNotFoundError):  # A descriptor was closed meanwhile.
            return any("inotify" in str(path.readlink()) for path in folder.iterdir())
        return False

    wait_until(has_watch)


def run_uninterrupted(at: Path, *arguments: str | Path, stdin: bytes = b"") -> bytes:
    """Return the output of an undisturbed run of a program."""
    done = run_tool("run", "-j", "whole.journal", "--no-snapshots", *arguments, at=at, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout

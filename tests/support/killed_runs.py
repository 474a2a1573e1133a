"""Guests in real processes that are killed by SIGKILL and resumed to the same end.

A `Plan` holds the options of a run, and a `Trial` runs it in as many processes as needed. A kill
comes at a moment, at a system call (by `strace`), or at a call of one of our own functions.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import journal
from journal.events.inputs import StreamRead
from journal.events.streams import StreamWrite
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.programs import ROOT
from tests.support.run_results import Ending

_POLL_SECONDS = 0.0005
BEFORE = b"what stood in the file before\n"
CACHE_HOME = ROOT / ".cache"
CACHE = CACHE_HOME / "wasm-journal" / "modules"
JOURNALTOOL = (sys.executable, "-m", "journaltool")
STRACE = ("strace", "--follow-forks", "-qqq")
_POKE_SECONDS = (0.002, 0.03)
#: Signal that requests a snapshot. A process handles it as the last one before the guest starts.
_READY = signal.SIGUSR1

#: Program: journaltool, killed before or after its nth call of a function.
_DEED = """
import os, signal, sys, threading, time
from importlib import import_module

where, nth, after = sys.argv[1:4]
del sys.argv[1:4]
module, _, name = where.partition(":")
owner = import_module(module)
*path, last = name.split(".")
for part in path:
    owner = getattr(owner, part)
done, count = getattr(owner, last), 0

def counted(*given, **named):
    global count
    count += 1
    is_it = count == int(nth)
    if is_it and not int(after):
        os.kill(os.getpid(), signal.SIGKILL)
    result = done(*given, **named)
    if is_it:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, last, counted)

def wait_for_compactions():
    # The number of compactions depends on the events alone, not on the speed of the machine.
    from journal.compaction.online import BackgroundCompactor
    from journal.log.writer import Writer

    compactors, start, append = [], BackgroundCompactor.start, Writer.append_frame

    def started(compactor):
        start(compactor)
        compactors.append(compactor)

    def append_and_wait(writer, *given, **named):
        seq = append(writer, *given, **named)
        for compactor in compactors:
            while (
                threading.current_thread().name == "journal-guest"
                and compactor._is_allowed()
                and compactor._meter.is_due(writer.next_seq, writer.size)
                and not compactor._stop.is_set()
            ):
                time.sleep(0.001)
        return seq

    BackgroundCompactor.start, Writer.append_frame = started, append_and_wait

if any(argument.startswith("--compact-") for argument in sys.argv):
    wait_for_compactions()
from journaltool import main
main()
"""


class Place(Enum):
    """Location of the guest's directory."""

    HOST = "a host directory"
    MEMORY = "memory"


class Outputs(Enum):
    """Targets of standard output and error."""

    FILES = "a file each"
    APPEND = "a file each, opened to append, that is not empty"
    SHARED = "one file"
    SHARED_APPEND = "one file, opened to append, that is not empty"
    FRESH = "new files in each session"
    PIPES = "pipes"


APPENDING = (Outputs.APPEND, Outputs.SHARED_APPEND)
SHARING = (Outputs.SHARED, Outputs.SHARED_APPEND)


class Input(Enum):
    """Source of standard input."""

    FILE = "a file"
    PIPE = "a pipe"


@dataclass(frozen=True, slots=True)
class Plan:
    """Options of the runs of a guest; ``options`` apply to its recording and to each resume.

    A process that is not traced gets ``signals`` at random moments.
    """

    module: Path
    arguments: tuple[str, ...]
    stdin: bytes
    place: Place = Place.HOST
    outputs: Outputs = Outputs.FILES
    input: Input = Input.FILE
    durability: str = "output"
    in_flight: str = "repeat"
    copies: tuple[tuple[Path, str], ...] = ()
    guest_directory: str = "/work"
    options: tuple[str, ...] = ()
    signals: tuple[int, ...] = ()

    def __str__(self) -> str:
        return (
            f"files in {self.place.value}, output to {self.outputs.value}, input from "
            f"{self.input.value}, durability {self.durability}, in flight {self.in_flight}, "
            f"{' '.join(self.options)}, signals {self.signals}"
        )


@dataclass(frozen=True, slots=True)
class MomentKill:
    """Kill when the journal has grown by this part of the rest, after a short delay."""

    part: float
    later_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class SyscallKill:
    """Kill when a thread of the process enters its ``nth`` system call ``name``."""

    name: str
    nth: int


@dataclass(frozen=True, slots=True)
class FunctionKill:
    """Kill before or after the ``nth`` call of a function of this project.

    ``where`` is ``module:function``.
    """

    where: str
    nth: int = 1
    after: bool = False


Kill = MomentKill | SyscallKill | FunctionKill


@dataclass(slots=True)
class Trial:
    """Run of a plan in its own directory; ``size`` is the size of an undisturbed journal.

    ``heard`` is the output of the pipes by stream and session, ``codes`` the exit codes.
    """

    plan: Plan
    folder: Path
    size: int = 0
    codes: list[int] = field(default_factory=list)
    heard: tuple[list[bytes], list[bytes]] = field(default_factory=lambda: ([], []))

    def __post_init__(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.directory.mkdir(parents=True)
        (self.folder / "stdin").write_bytes(self.plan.stdin)
        for name in ("stdout", "stderr"):
            before = BEFORE if self.plan.outputs in APPENDING else b""
            (self.folder / name).write_bytes(before)

    @property
    def journal(self) -> Path:
        """Return the path of the journal."""
        return self.folder / "run.journal"

    @property
    def directory(self) -> Path:
        """Return the host directory of the guest."""
        return self.folder / "work"

    @property
    def kills(self) -> int:
        """Return the number of killed processes."""
        return self.codes.count(-signal.SIGKILL)

    def session(self, kill: Kill | None = None) -> int:
        """Record in a new process, or resume if there is a journal. Return the exit code."""
        tracing: tuple[str, ...] = ()
        if isinstance(kill, SyscallKill):
            inject = f"inject={kill.name}:signal=KILL:when={kill.nth}"
            tracing = (*STRACE, "-o", os.devnull, "-e", f"trace={kill.name}", "-e", inject)
        return self.run(tracing, kill)

    def counted_session(self, names: Sequence[str]) -> Counter[str]:
        """Run a session. Return the number of calls of the busiest thread, by system call."""
        log = self.folder / "calls"
        self.run((*STRACE, "-o", str(log), "-e", f"trace={','.join(names)}"), None)
        made: Counter[tuple[str, str]] = Counter()
        for line in log.read_text().splitlines():
            thread, call = line.split(maxsplit=1)
            made[thread, call.partition("(")[0]] += "(" in call
        calls: Counter[str] = Counter()
        for (_, name), count in made.items():
            calls[name] = max(calls[name], count)
        return calls

    def run(self, tracing: tuple[str, ...], kill: Kill | None = None) -> int:
        """Run a process under the command `tracing`, and return its exit code."""
        command = resume_command(self) if self.journal.exists() else record_command(self)
        if isinstance(kill, FunctionKill):
            command[1:3] = ["-c", _DEED, kill.where, str(kill.nth), str(int(kill.after))]
        streams, listeners = _streams(self)
        try:
            process = _start([*tracing, *command], streams)
        finally:
            for descriptor in set(streams):
                os.close(descriptor)
        if self.plan.signals and not tracing:
            listeners.append(_poked(process, self.plan.signals))
        if isinstance(kill, MomentKill):
            _kill_at(process, self.journal, kill, self.size)
        self.codes.append(process.wait(DEADLINE_SECONDS))
        for listener in listeners:
            listener.join()
        return self.codes[-1]

    def last_words(self) -> list[str]:
        """Return the last lines of standard error."""
        said = (self.folder / "stderr").read_bytes() + b"".join(self.heard[1])
        return said.decode(errors="replace").splitlines()[-20:]

    def ending(self) -> Ending:
        """Return the results after the last process."""
        return Ending(
            self.codes[-1],
            (self.folder / "stdout").read_bytes(),
            (self.folder / "stderr").read_bytes(),
            _tree(self.directory),
            _files_of(self.journal),
        )


def record_command(trial: Trial) -> list[str]:
    """Return the command that records a plan."""
    plan = trial.plan
    options = ["--journal", str(trial.journal), "--durability", plan.durability, "--quiet"]
    kind = "--dir" if plan.place is Place.HOST else "--copy"
    options += [kind, f"{trial.directory}::{plan.guest_directory}"]
    for host, guest in plan.copies:
        options += ["--copy", f"{host}::{guest}"]
    return [*JOURNALTOOL, "run", *options, *plan.options, str(plan.module), *plan.arguments]


def resume_command(trial: Trial) -> list[str]:
    """Return the command that resumes a journal."""
    options = ["--durability", trial.plan.durability, "--in-flight", trial.plan.in_flight]
    return [*JOURNALTOOL, "resume", *options, *trial.plan.options, "--quiet", str(trial.journal)]


def _start(command: list[str], streams: tuple[int, int, int]) -> subprocess.Popen[bytes]:
    stdin, stdout, stderr = streams
    environment = os.environ | {"XDG_CACHE_HOME": str(CACHE_HOME)}
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        start_new_session=True,
    )


def _kill_at(process: subprocess.Popen[bytes], path: Path, moment: MomentKill, size: int) -> None:
    begin = path.stat().st_size if path.exists() else 0
    wanted = begin + moment.part * max(0, size - begin)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while process.poll() is None and (not path.exists() or path.stat().st_size < wanted):
        assert time.monotonic() < deadline, f"the journal does not reach {wanted} bytes"
        time.sleep(_POLL_SECONDS)
    try:
        process.wait(moment.later_seconds)
    except subprocess.TimeoutExpired:
        process.kill()


def _poked(process: subprocess.Popen[bytes], signals: Sequence[int]) -> threading.Thread:
    """Start a thread that sends signals to a process at random moments, and continues it."""
    chance = random.Random(process.pid)

    def poke() -> None:
        while process.poll() is None:
            time.sleep(chance.uniform(*_POKE_SECONDS))
            if _catches(process.pid, _READY):
                process.send_signal(chance.choice(signals))
            process.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=poke, daemon=True)
    thread.start()
    return thread


def _catches(pid: int, number: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    (caught,) = [line.split()[1] for line in lines if line.startswith("SigCgt:")] or ["0"]
    return bool(int(caught, 16) >> (number - 1) & 1)


def _streams(trial: Trial) -> tuple[tuple[int, int, int], list[threading.Thread]]:
    """Return the descriptors of a process, and the threads that read its pipes."""
    if trial.plan.input is Input.FILE:
        stdin = os.open(trial.folder / "stdin", os.O_RDONLY)
    else:
        stdin = _fed(trial.plan.stdin[count_consumed(trial.journal) :])
    kind, folder = trial.plan.outputs, trial.folder
    if kind is Outputs.PIPES:
        stdout, first = _heard(trial.heard[0])
        stderr, second = _heard(trial.heard[1])
        return (stdin, stdout, stderr), [first, second]
    flags = os.O_RDWR | (os.O_APPEND if kind in APPENDING else 0)
    if kind is Outputs.FRESH:
        for name in ("stdout", "stderr"):
            (folder / name).unlink()
        flags |= os.O_CREAT
    stdout = os.open(folder / "stdout", flags)
    return (stdin, stdout, stdout if kind in SHARING else os.open(folder / "stderr", flags)), []


def _fed(data: bytes) -> int:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    assert os.write(writes, data) == len(data), "a pipe has room for the input of a test"
    os.close(writes)
    return reads


def _heard(sessions: list[bytes]) -> tuple[int, threading.Thread]:
    reads, writes = os.pipe()

    def listen() -> None:
        with os.fdopen(reads, "rb") as pipe:
            sessions.append(pipe.read())

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    return writes, listener


def _tree(folder: Path) -> dict[str, bytes]:
    """Return all entries of a directory tree: contents of files and targets of links."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = b"-> " + os.fsencode(path.readlink())
        else:
            found[name] = b"a directory" if path.is_dir() else path.read_bytes()
    return found


def count_consumed(path: Path) -> int:
    """Return the number of input bytes that a guest has read, according to its journal."""
    if not path.exists():
        return 0
    with journal.Reader(path) as reader:
        return sum(len(event.data) for event in reader if isinstance(event, StreamRead))


def _files_of(path: Path) -> dict[str, bytes]:
    """Return the files in memory that a resume rebuilds from a journal."""
    with journal.resume(path, cache=CACHE) as again:
        assert again.ended_before, "the guest has not ended in the last session"
        return again.files


def writes_of(path: Path) -> list[tuple[int, bytes]]:
    """Return the stream and the bytes of each write to standard output and error."""
    with journal.Reader(path) as reader:
        return [(event.stream, event.data) for event in reader if isinstance(event, StreamWrite)]

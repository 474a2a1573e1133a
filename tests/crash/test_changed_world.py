"""Changed-world campaign: a killed guest is resumed in a host that differs from its recording.

Each resume ends as if nothing had happened, or reports the difference; never does the guest go on
in silence with other input or other files. A strict resume refuses each reported difference.

The guests are programs of QuickJS, CPython and SQLite with the same two files: ``log``, which they
write, and ``table``, which they read.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.budget import Budget
from tests.support.command_line import build_command, build_environment
from tests.support.deadlines import DEADLINE_SECONDS, wait_until
from tests.support.programs import program

OWN_TRACEBACK = re.compile(r'File ".*/(journal|journaltool)/')
"""A traceback of this project. A guest of Python may print its own."""
COUNT = 400
LAST_LINES = 20
"""Lines that a script does not add before its first run was killed."""

NUMBERS = b"".join(b"%d\n" % number for number in range(COUNT))

#: Reads numbers from standard input, and appends their running sum to a file that stays open. It
#: waits for a file before its last lines: a busy machine that kills it late still finds it alive.
QUICKJS = r"""
const isKilled = () => os.stat("/work/killed")[1] === 0;
const log = std.open("/work/log", "w+");
const table = std.open("/work/table", "r");
let sum = 0, rest = ROWS;
for (let line = std.in.getline(); line !== null; line = std.in.getline()) {
  while (rest === 0 && !isKilled()) os.sleep(5);
  rest -= 1;
  sum += Number(line) + Number(table.getline());
  log.puts(`${sum}\n`);
  log.flush();
  std.out.puts(`${sum}\n`);
  std.out.flush();
}
log.seek(0, std.SEEK_SET);
std.out.puts(`end ${log.readAsString().length}\n`);
""".replace("ROWS", str(COUNT - LAST_LINES))

CPYTHON = """
import os, sys, time
log, table, total = open("/work/log", "w+"), open("/work/table"), 0
for count, line in enumerate(sys.stdin):
    while count == ROWS and not os.path.exists("/work/killed"):
        time.sleep(0.005)
    total += int(line) + int(table.readline())
    for file in (log, sys.stdout):
        print(total, file=file, flush=True)
log.seek(0)
print("end", len(log.read()))
""".replace("ROWS", str(COUNT - LAST_LINES))


@dataclass(frozen=True, slots=True)
class Guest:
    """Program of the campaign: its name, its arguments, and what it reads and prints.

    ``lines`` is how many lines it prints for each line of its input. ``moves`` says whether it
    continues as if nothing had happened when an open file was renamed.
    """

    name: str
    arguments: tuple[str, ...]
    input: bytes
    table: bytes
    other_table: bytes
    output: bytes
    options: tuple[str, ...] = ()
    lines: int = 1
    moves: bool = True


def expect_script() -> bytes:
    """Return the output of a script that nothing disturbed."""
    total, lines = 0, []
    for number in range(COUNT):
        total += 2 * number
        lines.append(b"%d\n" % total)
    log = b"".join(lines)
    return log + b"end %d\n" % len(log)


def make_database(numbers: range) -> bytes:
    """Return a database with a table of numbers."""
    with tempfile.NamedTemporaryFile() as file:
        with sqlite3.connect(file.name) as database:
            database.execute("CREATE TABLE numbers (id INTEGER PRIMARY KEY, number INTEGER)")
            database.executemany("INSERT INTO numbers VALUES (?, ?)", enumerate(numbers))
        database.close()
        return Path(file.name).read_bytes()


def make_statements() -> tuple[bytes, bytes]:
    """Return SQL that does as the scripts do, and the output of SQLite."""
    lines = [
        f"INSERT INTO log SELECT {number} + number FROM side.numbers WHERE id = {number}; "
        "SELECT total(sum) FROM log;\n"
        for number in range(COUNT)
    ]
    output, total = ["-- 0 rows, 0 changes: ok\n"] * 2, 0
    for number in range(COUNT):
        total += 2 * number
        output += [f"{float(total)}\n", "-- 1 rows, 1 changes: ok\n"]
    output.append("SQLite 3.50.4 is done\n")
    return "".join(lines).encode(), "".join(output).encode()


def script(name: str, *arguments: str) -> Guest:
    """Return a guest that runs a script of a file."""
    return Guest(name, arguments, NUMBERS, NUMBERS, NUMBERS[::-1], expect_script())


STATEMENTS, ROWS = make_statements()
GUESTS = {
    "quickjs": script("quickjs", "--std", "-e", QUICKJS),
    "cpython": script("cpython", "-c", CPYTHON),
    "sqlite": Guest(
        "sqlite",
        ("/work/log", "ATTACH '/work/table' AS side", "CREATE TABLE log (sum)"),
        STATEMENTS,
        make_database(range(COUNT)),
        make_database(range(COUNT, 0, -1)),
        ROWS,
        ("--durability", "none"),  # SQLite changes files ten times for each line.
        lines=2,
        moves=False,  # SQLite refuses to write to a database that was renamed.
    ),
}
# A resume from a snapshot rebuilds files and descriptors instead of replaying the guest.
GUESTS |= {
    f"{name} with snapshots": replace(
        GUESTS[name], options=(*GUESTS[name].options, "--snapshot-events", "300")
    )
    for name in ("quickjs", "sqlite")
}


@dataclass(frozen=True, slots=True)
class World:
    """Host of one guest: its mounted directory, its input and its journal."""

    folder: Path
    guest: Guest

    @property
    def mount(self) -> Path:
        """Return the mounted directory."""
        return self.folder / "work"

    @property
    def input(self) -> Path:
        """Return the file of standard input."""
        return self.folder / "input"

    @property
    def output(self) -> Path:
        """Return the file of standard output."""
        return self.folder / "output"

    def make(self) -> None:
        """Create the directory, its table and the input."""
        self.mount.mkdir(parents=True)
        (self.mount / "table").write_bytes(self.guest.table)
        self.input.write_bytes(self.guest.input)

    def command(self, *arguments: str | Path, limit: str = "") -> list[str]:
        """Return a command line, under a limit of the shell."""
        shell = ["sh", "-c", f'{limit or ":"}; exec "$@"', "sh"]
        return [*shell, *build_command(*arguments)]

    def call(self, *arguments: str, limit: str = "") -> tuple[int, str]:
        """Run journaltool with the input and output of the world. Return code and stderr."""
        with self.input.open("rb") as stdin, self.output.open("ab") as stdout:
            done = subprocess.run(
                self.command(*arguments, limit=limit),
                cwd=self.folder,
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                env=build_environment(),
                timeout=DEADLINE_SECONDS,
                check=False,
            )
        told = done.stderr.decode()
        assert not OWN_TRACEBACK.search(told), told
        return done.returncode, told

    def check(self) -> tuple[int, list[str], str]:
        """Run check-resume. Return its code, and the differences and the obstacle it found."""
        with self.input.open("rb") as stdin:
            done = subprocess.run(
                self.command("check-resume", "--json", "j"),
                cwd=self.folder,
                stdin=stdin,
                capture_output=True,
                env=build_environment(),
                timeout=DEADLINE_SECONDS,
                check=False,
            )
        found = json.loads(done.stdout)
        return done.returncode, found["differences"], found["obstacle"]


def record_and_kill(folder: Path, guest: Guest, lines: int) -> World:
    """Record a guest, kill it when it has printed the results of this many lines of its input."""
    wasm = program(guest.name)
    for attempt in range(10):  # SQLite does not wait for its end: on a busy machine it may come.
        world = World(folder / str(attempt), guest)
        world.make()
        if run_and_kill(world, wasm, lines * guest.lines):
            break
    else:
        pytest.fail(f"{guest.name} always ended before it was killed")
    # The times of files are a tick behind the clock: wait until a change gets a later time.
    killed = time.time_ns()
    wait_until(lambda: touch(world.mount / "killed") > killed)
    return world


def run_and_kill(world: World, wasm: Path, lines: int) -> bool:
    """Record the guest of a world, and return whether it was killed before its end."""
    options = ["-j", "j", "--dir", f"{world.mount}::/work", *world.guest.options]
    with (
        world.input.open("rb") as stdin,
        world.output.open("wb") as stdout,
        subprocess.Popen(
            world.command("run", "-q", *options, wasm, *world.guest.arguments),
            cwd=world.folder,
            stdin=stdin,
            stdout=stdout,
            env=build_environment(),
        ) as process,
    ):
        wait_until(lambda: world.output.read_bytes().count(b"\n") >= lines)
        process.kill()
        return process.wait(DEADLINE_SECONDS) == -signal.SIGKILL


def touch(path: Path) -> int:
    """Write a file, and return the time of its last change in nanoseconds."""
    path.write_bytes(b"")
    return path.stat().st_mtime_ns


Change = Callable[[World], None]


def left(world: World) -> None:
    """Change nothing."""


def copied(world: World) -> None:
    shutil.copytree(world.mount, world.folder / "copy")
    world.mount.rename(world.folder / "old")
    (world.folder / "copy").rename(world.mount)


def linked(world: World) -> None:
    world.mount.rename(world.folder / "old")
    world.mount.symlink_to("old")


def mount_replaced(world: World) -> None:
    world.mount.rename(world.folder / "old")
    world.mount.mkdir()
    touch(world.mount / "killed")


def log_moved(world: World) -> None:
    (world.mount / "log").rename(world.mount / "log.1")


def log_removed(world: World) -> None:
    (world.mount / "log").unlink()


def log_truncated(world: World) -> None:
    os.truncate(world.mount / "log", 0)


def log_cut(world: World) -> None:
    # More than the last write, which a resume repeats if its result was not recorded.
    os.truncate(world.mount / "log", (world.mount / "log").stat().st_size // 2)


def table_replaced(world: World) -> None:
    (world.mount / "new").write_bytes(world.guest.other_table)
    (world.mount / "new").replace(world.mount / "table")


def table_changed(world: World) -> None:
    (world.mount / "table").write_bytes(world.guest.other_table)


def table_grown(world: World) -> None:
    with (world.mount / "table").open("ab") as file:
        file.write(b"\n")


def input_copied(world: World) -> None:
    world.input.unlink()
    world.input.write_bytes(world.guest.input)


def input_replaced(world: World) -> None:
    world.input.write_bytes(world.guest.input.translate(bytes.maketrans(b"0123", b"7777")))


def input_truncated(world: World) -> None:
    os.truncate(world.input, 3)


def input_removed(world: World) -> None:
    world.input.unlink()
    world.input.symlink_to(os.devnull)


def is_any(_: Guest) -> bool:
    return True


def is_none(_: Guest) -> bool:
    return False


def moves(guest: Guest) -> bool:
    return guest.moves


class Case(NamedTuple):
    """Change of the world, a part of its sentence, and whether a resume of a guest is exact.

    A resume of a world without a difference says nothing.
    """

    change: Change
    sentence: str
    is_exact: Callable[[Guest], bool]


CASES = [
    Case(left, "", is_any),
    Case(copied, "is not the directory of the recording", is_any),
    Case(mount_replaced, "/work/log, which the guest had open, is gone", is_none),
    Case(log_moved, "/work/log, which the guest had open, is now /work/log.1", moves),
    Case(log_removed, "/work/log, which the guest had open, is gone", is_none),
    Case(log_truncated, "/work/log, which the guest had open, has 0 bytes", is_none),
    Case(log_cut, "/work/log, which the guest had open, has ", is_none),
    Case(table_replaced, "/work/table, which the guest had open, was replaced", is_none),
    Case(table_changed, "/work/table, which the guest had open, was changed", is_none),
    Case(table_grown, "/work/table, which the guest had open, ", is_any),
    Case(input_copied, "", is_any),
    Case(input_replaced, "standard input is another file", is_none),
    Case(input_truncated, "standard input ends before byte", is_none),
    Case(input_removed, "standard input is a device", is_none),
]


def check_case(case: Case, world: World) -> None:
    """Check and resume the killed guest in a changed world."""
    guest, sentence = world.guest, case.sentence
    case.change(world)
    before = world.output.read_bytes()
    code, found, obstacle = world.check()
    assert (code, obstacle) == (3 if sentence else 0, ""), found
    assert any(sentence in one for one in found) == bool(sentence), found
    if sentence:
        code, told = world.call("resume", "--strict", "j")
        assert code == 125
        assert sentence in told
        assert world.output.read_bytes() == before, "a refused resume prints nothing"
    code, told = world.call("resume", "-q", "j")
    assert (sentence in told) if sentence else told == ""
    if case.is_exact(guest):
        assert (code, world.output.read_bytes()) == (0, guest.output), case.change
    else:
        assert world.output.read_bytes().startswith(before), "printed output stays"


CAMPAIGN = [(case, lines) for case in CASES for lines in (3, 20, 77, 150, 240, 333)]


@pytest.mark.parametrize("case", [CASES[1], CASES[5], CASES[13]], ids=lambda one: "")
def test_a_script_in_a_changed_world_is_exact_or_told(case: Case, tmp_path: Path) -> None:
    check_case(case, record_and_kill(tmp_path, GUESTS["quickjs"], 40))


@pytest.mark.deep
@pytest.mark.parametrize("name", GUESTS)
def test_a_program_may_be_killed_anywhere_before_its_world_changes(
    name: str, tmp_path: Path, budget: Budget
) -> None:
    for case, lines in budget.spend(CAMPAIGN, 1):
        folder = tmp_path / f"{case.change.__name__}-{lines}"
        check_case(case, record_and_kill(folder, GUESTS[name], lines))


@pytest.mark.deep
@pytest.mark.parametrize("name", GUESTS)
def test_a_program_is_exact_or_refused_under_any_limit_of_descriptors(
    name: str, tmp_path: Path, budget: Budget
) -> None:
    world = record_and_kill(tmp_path, GUESTS[name], 40)
    before = world.output.read_bytes()
    for limit in budget.spend(range(6, 40), 3):
        code, told = world.call("resume", "-q", "j", limit=f"ulimit -n {limit}")
        after = world.output.read_bytes()
        if code == 0:
            assert (told, after) == ("", world.guest.output)
        else:
            assert told.count("\n") == 1, told
            assert after.startswith(before)
            assert world.guest.output.startswith(after)


@pytest.mark.deep
@pytest.mark.parametrize("name", GUESTS)
def test_a_program_whose_directory_moved_continues_where_the_user_says(
    name: str, tmp_path: Path
) -> None:
    world = record_and_kill(tmp_path, GUESTS[name], 40)
    linked(world)
    code, told = world.call("resume", "-q", "j")
    assert (code, told.count("\n")) == (125, 1)
    assert "work, mounted as /work, leads through a symbolic link now: name the directory" in told
    world.mount.unlink()
    code, told = world.call("resume", "-q", "j")
    assert (code, told.count("\n")) == (125, 1)
    assert "work, mounted as /work, is not a directory any more: name its new location" in told
    code, told = world.call("resume", "-q", "--dir", "old::/work", "j")
    assert (code, told, world.output.read_bytes()) == (0, "", world.guest.output)

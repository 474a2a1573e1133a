"""Changed-world campaign: a killed guest is resumed in a host that differs from its recording.

Each resume ends as if nothing had happened, or reports the difference; never does the guest go on
in silence with other input or other files. A strict resume refuses each reported difference.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.budget import Budget
from tests.support.command_line import build_command, build_environment
from tests.support.deadlines import DEADLINE_SECONDS, wait_until

COUNT = 400
LAST_LINES = 20
"""Lines that the guest does not add before its first run was killed."""

LINES = b"".join(b"%d\n" % number for number in range(COUNT))

#: Reads numbers from standard input, and appends their running sum to a file that stays open. It
#: waits for a file before its last lines: a busy machine that kills it late still finds it alive.
SCRIPT = r"""
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


@dataclass(frozen=True, slots=True)
class World:
    """Host of one guest: its mounted directory, its input and its journal."""

    folder: Path

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
        (self.mount / "table").write_bytes(LINES)
        self.input.write_bytes(LINES)

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
        return done.returncode, done.stderr.decode()


def record_and_kill(world: World, quickjs: Path, lines: int) -> None:
    """Record the script, and kill it when it has printed this many lines."""
    script = world.folder / "script.js"
    world.make()
    script.write_text(SCRIPT)
    options = ["-j", "j", "--dir", f"{world.mount}::/work", "--copy", f"{script}::/script.js"]
    arguments: list[str | Path] = ["run", "-q", *options, quickjs, "--std", "/script.js"]
    with (
        world.input.open("rb") as stdin,
        world.output.open("wb") as stdout,
        subprocess.Popen(
            world.command(*arguments),
            cwd=world.folder,
            stdin=stdin,
            stdout=stdout,
            env=build_environment(),
        ) as process,
    ):
        wait_until(lambda: world.output.read_bytes().count(b"\n") >= lines)
        process.kill()
        process.wait(DEADLINE_SECONDS)
    # The times of files are a tick behind the clock: wait until a change gets a later time.
    killed = time.time_ns()
    wait_until(lambda: touch(world.mount / "killed") > killed)


def touch(path: Path) -> int:
    """Write a file, and return the time of its last change in nanoseconds."""
    path.write_bytes(b"")
    return path.stat().st_mtime_ns


def expected() -> bytes:
    """Return the output of a run that nothing disturbed."""
    total, lines = 0, []
    for number in range(COUNT):
        total += 2 * number
        lines.append(b"%d\n" % total)
    log = b"".join(lines)
    return log + b"end %d\n" % len(log)


Change = Callable[[World], None]


def left(world: World) -> None:
    """Change nothing."""


def copied(world: World) -> None:
    shutil.copytree(world.mount, world.folder / "copy")
    world.mount.rename(world.folder / "old")
    (world.folder / "copy").rename(world.mount)


def log_moved(world: World) -> None:
    (world.mount / "log").rename(world.mount / "log.1")


def log_removed(world: World) -> None:
    (world.mount / "log").unlink()


def log_truncated(world: World) -> None:
    os.truncate(world.mount / "log", 0)


def table_replaced(world: World) -> None:
    (world.mount / "new").write_bytes(LINES[::-1])
    (world.mount / "new").replace(world.mount / "table")


def table_changed(world: World) -> None:
    (world.mount / "table").write_bytes(LINES[::-1])


def input_replaced(world: World) -> None:
    world.input.write_bytes(LINES.replace(b"1", b"7"))


def input_truncated(world: World) -> None:
    os.truncate(world.input, 3)


def input_removed(world: World) -> None:
    world.input.unlink()
    world.input.symlink_to(os.devnull)


#: Each change with a part of its sentence. A resume of an unchanged world says nothing. After the
#: changes whose flag is set, the resume is exact.
CHANGES: list[tuple[Change, str, bool]] = [
    (left, "", True),
    (copied, "is not the directory of the recording", True),
    (log_moved, "/work/log, which the guest had open, is now /work/log.1", True),
    (log_removed, "/work/log, which the guest had open, is gone", False),
    (log_truncated, "/work/log, which the guest had open, has 0 bytes", False),
    (table_replaced, "/work/table, which the guest had open, was replaced", False),
    (table_changed, "/work/table, which the guest had open, was changed", False),
    (input_replaced, "standard input is another file", False),
    (input_truncated, "standard input ends before byte", False),
    (input_removed, "standard input is a device", False),
]


def check_change(change: Change, sentence: str, exact: bool, lines: int, world: World) -> None:
    """Check and resume the killed guest in a changed world."""
    change(world)
    code, told = world.call("resume", "--strict", "-q", "j", limit="ulimit -n 18")
    assert "Traceback" not in told
    if code == 0:  # The limit is just high enough.
        assert not sentence
        assert world.output.read_bytes() == expected()
        return
    assert told, "a resume that fails says why"
    before = world.output.read_bytes()
    with world.input.open("rb") as stdin:
        done = subprocess.run(
            world.command("check-resume", "--json", "j"),
            cwd=world.folder,
            stdin=stdin,
            capture_output=True,
            env=build_environment(),
            timeout=DEADLINE_SECONDS,
            check=False,
        )
    found = json.loads(done.stdout)
    assert done.returncode == (3 if sentence else 0), found
    assert any(sentence in one for one in found["differences"]) == bool(sentence), found
    if sentence:
        code, told = world.call("resume", "--strict", "j")
        assert code == 125
        assert sentence in told
        assert world.output.read_bytes() == before, "a refused resume prints nothing"
    code, told = world.call("resume", "-q", "j")
    assert (sentence in told) if sentence else told == ""
    if exact:
        assert (code, world.output.read_bytes()) == (0, expected()), f"{change} after {lines}"


@pytest.mark.parametrize(
    ("change", "sentence", "exact"), [CHANGES[1], CHANGES[4], CHANGES[9]], ids=lambda one: ""
)
def test_a_script_in_a_changed_world_is_exact_or_told(
    change: Change, sentence: str, exact: bool, quickjs: Path, tmp_path: Path
) -> None:
    world = World(tmp_path / "world")
    record_and_kill(world, quickjs, 40)
    check_change(change, sentence, exact, 40, world)


@pytest.mark.deep
@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_a_script_may_be_killed_anywhere_before_its_world_changes(
    number: int, quickjs: Path, tmp_path: Path, budget: Budget
) -> None:
    change, sentence, exact = CHANGES[number]
    for lines in budget.spend([3, 20, 77, 150, 240, 333], 2):
        world = World(tmp_path / str(lines))
        record_and_kill(world, quickjs, lines)
        check_change(change, sentence, exact, lines, world)

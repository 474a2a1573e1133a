"""Demonstration: a real program is killed twice and resumed, and its results do not change.

    python demo/run.py [DIRECTORY]

QuickJS runs `story.js`, which computes, reads input, the clock and random numbers, and works on
files in memory and in a directory of the host. It runs once without interruption, and once with two
SIGKILLs and two resumes. The output and the files of both runs must be the same, byte for byte.
Otherwise the exit code is 1. The files remain in DIRECTORY, which is .cache/demo by default, until
the next demonstration.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
STORY = ROOT / "demo" / "story.js"
FOLDER = ROOT / ".cache" / "demo"
QUICKJS = ROOT / ".cache" / "programs" / "quickjs.wasm"
JOURNALTOOL = Path(sys.executable).with_name("journaltool")

BREADS = ("rye bread", "six rolls", "a cake", "two baguettes", "muffins", "pretzels")
TOWNS = ("Lisbon", "Oslo", "Quito", "Hanoi")
ORDERS = [f"{bread}, {town}" for town in TOWNS for bread in BREADS]
PAUSE_MILLISECONDS = 40
WIDTH = 94
DEADLINE_SECONDS = 60.0
TICKET = re.compile(rb"ticket ([0-9a-f]{8})\b")


def main() -> None:
    """Run the demonstration."""
    os.environ["JOURNALTOOL_PROGRESS_DELAY"] = "3600"  # Both runs print the same, on any machine.
    if not QUICKJS.exists():
        stop("QuickJS is missing: fetch it with `python tools/programs.py quickjs`")
    folder = Path(sys.argv[1]).resolve() if sys.argv[1:] else FOLDER
    for name in ("calm", "killed"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    orders = folder / "orders"
    orders.write_text("".join(f"{order}\n" for order in ORDERS))
    calm, killed = Day(folder / "calm", orders), Day(folder / "killed", orders)

    print_title("A day at the bakery, undisturbed")
    calm.start(calm.run_command()).wait(DEADLINE_SECONDS)
    print_excerpt(calm.output.read_text().splitlines(), 3, 2)

    print_title("The same day, with SIGKILL after half of the orders")
    killed.start_and_kill(killed.run_command(), len(ORDERS) // 2)
    print_title("Resumed, and killed once more after three quarters")
    killed.start_and_kill(killed.resume_command(), len(ORDERS) * 3 // 4)
    print_title("Resumed again, to the end")
    code = killed.start(killed.resume_command()).wait(DEADLINE_SECONDS)
    print_step(f"the program ended with exit code {code}; the output of its three processes:")
    print_excerpt(killed.output.read_text().splitlines(), 3, 2)

    print_title("Comparison of both days")
    wrong = list_differences(calm, killed)
    for line in wrong:
        print_step(f"DIFFERENT: {line}")
    if not wrong:
        print_comparison(killed)

    print_title("The journal")
    codes = [run_tool(name, killed.journal) for name in ("info", "inspect", "verify")]
    if wrong or any(codes):
        stop("the demonstration failed")
    print("\nThe program was killed twice, and every byte of its results is the same.")
    print(f"\nThe journal is {format_path(killed.journal)}. Try these commands on it:\n")
    for command in next_commands(killed.journal):
        print(f"    {command}")


class Day:
    """One run of the story in its own directory, with its journal, shop window and output."""

    def __init__(self, folder: Path, orders: Path) -> None:
        self.orders = orders
        self.window = folder / "window"
        self.window.mkdir(parents=True)
        self.journal = folder / "day.journal"
        self.output, self.errors = folder / "output", folder / "errors"

    def run_command(self) -> list[str]:
        """Return the command that runs and records the story."""
        files = ["--dir", f"{self.window}::/window", "--copy", f"{STORY}::/story.js"]
        story = [str(QUICKJS), "--std", "/story.js", str(PAUSE_MILLISECONDS)]
        return ["run", "--journal", str(self.journal), *files, *story]

    def resume_command(self) -> list[str]:
        """Return the command that resumes the story."""
        return ["resume", str(self.journal)]

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a process that appends to the output."""
        print_step(
            f"$ {shorten_command(command, self.journal.parent)} < orders >> output 2>> errors"
        )
        with (
            self.orders.open("rb") as orders,
            self.output.open("ab") as output,
            self.errors.open("ab") as errors,
        ):
            return subprocess.Popen(
                [str(JOURNALTOOL), *command], stdin=orders, stdout=output, stderr=errors
            )

    def start_and_kill(self, command: list[str], orders: int) -> None:
        """Start a process, and send it SIGKILL after this number of orders."""
        process = self.start(command)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.count_orders() < orders:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                stop(
                    f"the program did not reach {orders} orders: {self.errors.read_text().strip()}"
                )
            time.sleep(0.001)
        process.kill()
        if process.wait() != -signal.SIGKILL:
            stop("the program ended before it could be killed")
        print_step(
            f"killed (process {process.pid}) after {self.count_orders()} of {len(ORDERS)} orders:"
        )
        print_excerpt(self.output.read_text().splitlines(), 0, 2)

    def count_orders(self) -> int:
        """Return the number of orders in the output."""
        return max(0, self.output.read_bytes().count(b"\n") - 1)

    def tickets(self) -> set[bytes]:
        """Return the ticket numbers in the output. A single run draws one number."""
        return set(TICKET.findall(self.output.read_bytes()))

    def results(self) -> dict[str, bytes]:
        """Return the contents of all files by name. The random ticket number is masked."""
        results = {f"window/{path.name}": path.read_bytes() for path in self.window.iterdir()}
        results["output"] = TICKET.sub(b"ticket ########", self.output.read_bytes())
        results["errors"] = self.errors.read_bytes()
        return results


def list_differences(calm: Day, killed: Day) -> list[str]:
    """Return the differences between the results of both runs."""
    wrong = []
    if len(killed.tickets()) != 1:
        wrong.append(f"the output has {len(killed.tickets())} tickets, but one run draws only one")
    expected, actual = calm.results(), killed.results()
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            wrong.append(f"{name} is missing")
        elif name not in expected:
            wrong.append(f"{name} is unexpected")
        elif expected[name] != actual[name]:
            wrong.append(f"{name} differs")
    return wrong


def print_comparison(killed: Day) -> None:
    """Print the results that were compared."""
    (ticket,) = killed.tickets()
    results = killed.results()
    files = [name for name in results if name.startswith("window/")]
    print_step(f"output: {len(results['output'])} bytes, the same")
    print_step(f"files in the host directory: {len(files)}, the same")
    print_step("files in memory: the program read them at every step and compared them")
    print_step(f"the random ticket of the first and of the last process: {ticket.decode()}")


def run_tool(command: str, journal: Path) -> int:
    """Run a command on a journal, print its output, and return its exit code."""
    print()
    print_step(f"$ journaltool {command} {journal.name}")
    process = subprocess.run(
        [str(JOURNALTOOL), command, journal.name],
        cwd=journal.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (process.stdout + process.stderr).splitlines()
    starts = [index for index, line in enumerate(lines) if "SessionStart" in line]
    if len(starts) > 1:  # Print the first events and the events around the first kill.
        around = lines[starts[1] - 6 : starts[1] + 6]
        lines = [*lines[:3], "...", *around, "..."]
    for line in lines:
        print(f"    | {line if len(line) < WIDTH else line[: WIDTH - 3] + '...'}")
    return process.returncode


def next_commands(journal: Path) -> list[str]:
    """Return three shell commands to try on a journal. Each works in the current directory."""
    program = "journaltool" if shutil.which("journaltool") else format_path(JOURNALTOOL)
    path = format_path(journal)
    return [
        f"{program} inspect --group stdio --limit 20 {path}",
        f"{program} replay --verify {path}",
        f"{program} extract {path} --quiet --tar - | tar t",
    ]


def format_path(path: Path) -> str:
    """Return a path for a shell command: relative if it is below the current directory."""
    is_below = path.is_relative_to(Path.cwd())
    return shlex.quote(os.path.relpath(path) if is_below else str(path))


def shorten_command(command: list[str], folder: Path) -> str:
    """Return a command as a user types it in the directory of the day."""
    text = shlex.join(["journaltool", *command])
    prefixes = ((f"{folder}/", ""), (f"{QUICKJS.parent}/", ""), (f"{STORY.parent}/", ""))
    for prefix, replacement in prefixes:
        text = text.replace(prefix, replacement)
    return text


def print_excerpt(lines: list[str], first: int, last: int) -> None:
    """Print the first and the last lines."""
    if len(lines) <= first + last + 1:
        first, last = len(lines), 0
    for line in lines[:first]:
        print(f"    | {line}")
    if first + last < len(lines):
        print(f"    | ... {len(lines) - first - last} lines ...")
    for line in lines[len(lines) - last :]:
        print(f"    | {line}")


def print_title(text: str) -> None:
    """Print the title of a section."""
    print(f"\n{text}", flush=True)


def print_step(text: str) -> None:
    """Print one step of a section."""
    print(f"  {text}", flush=True)


def stop(reason: str) -> NoReturn:
    """Exit with an error message."""
    sys.exit(f"demo: {reason}")


if __name__ == "__main__":
    main()

"""The demonstration: a real program is killed twice in its middle, and nobody could tell.

QuickJS runs `story.js`, which computes, reads, asks the time and chance, and works on files in
memory and in a directory of the host. It runs once undisturbed, and once with two SIGKILLs from
outside and two resumes; output and files must be the same, byte for byte. Exits with 1 if not.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
STORY = ROOT / "demo" / "story.js"
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
    """Tell the whole story."""
    if not QUICKJS.exists():
        stop("QuickJS is not there yet: `python tools/programs.py quickjs` fetches it")
    with tempfile.TemporaryDirectory(prefix="journal-demo-") as name:
        folder = Path(name)
        orders = folder / "orders"
        orders.write_text("".join(f"{order}\n" for order in ORDERS))
        calm, killed = Day(folder / "calm", orders), Day(folder / "killed", orders)

        title("A day at the bakery, undisturbed")
        calm.start(calm.run_command()).wait(DEADLINE_SECONDS)
        show(calm.output.read_text().splitlines(), 3, 2)

        title("The same day, with SIGKILL after half of the orders")
        killed.killed_at(killed.run_command(), len(ORDERS) // 2)
        title("Resumed, and killed once more after three quarters")
        killed.killed_at(killed.resume_command(), len(ORDERS) * 3 // 4)
        title("Resumed again, to the end")
        code = killed.start(killed.resume_command()).wait(DEADLINE_SECONDS)
        say(f"it ended with exit code {code}; all that its three processes printed:")
        show(killed.output.read_text().splitlines(), 3, 2)

        title("Is it the same?")
        wrong = differences(calm, killed)
        for line in wrong:
            say(f"NO: {line}")
        if not wrong:
            tell_what_is_same(killed)

        title("What the journal says")
        told = [tool(name, killed.journal) for name in ("info", "inspect", "verify")]
    if wrong or any(told):
        stop("the demonstration failed")
    print("\nKilled twice, and every byte is as it was to be.")


class Day:
    """One run of the story in a folder of its own: its journal, its window and its output."""

    def __init__(self, folder: Path, orders: Path) -> None:
        self.orders = orders
        self.window = folder / "window"
        self.window.mkdir(parents=True)
        self.journal = folder / "day.journal"
        self.output, self.errors = folder / "output", folder / "errors"

    def run_command(self) -> list[str]:
        """Start the story, recorded."""
        files = ["--dir", f"{self.window}::/window", "--copy", f"{STORY}::/story.js"]
        story = [str(QUICKJS), "--std", "/story.js", str(PAUSE_MILLISECONDS)]
        return ["run", "--journal", str(self.journal), *files, *story]

    def resume_command(self) -> list[str]:
        """Go on with it."""
        return ["resume", str(self.journal)]

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        """A process whose output goes behind what is there already."""
        say(f"$ {written(command, self.journal.parent)} < orders >> output 2>> errors")
        with (
            self.orders.open("rb") as orders,
            self.output.open("ab") as output,
            self.errors.open("ab") as errors,
        ):
            return subprocess.Popen(
                [str(JOURNALTOOL), *command], stdin=orders, stdout=output, stderr=errors
            )

    def killed_at(self, command: list[str], orders: int) -> None:
        """A process that SIGKILL ends as soon as so many orders are done."""
        process = self.start(command)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.done() < orders:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                stop(f"it should have done {orders} orders: {self.errors.read_text().strip()}")
            time.sleep(0.001)
        process.kill()
        if process.wait() != -signal.SIGKILL:
            stop("it ended before it could be killed")
        say(f"killed (process {process.pid}) with {self.done()} of {len(ORDERS)} orders done:")
        show(self.output.read_text().splitlines(), 0, 2)

    def done(self) -> int:
        """How many orders the output has."""
        return max(0, self.output.read_bytes().count(b"\n") - 1)

    def tickets(self) -> set[bytes]:
        """The numbers that it drew: one, if it was one run."""
        return set(TICKET.findall(self.output.read_bytes()))

    def left(self) -> dict[str, bytes]:
        """All that it leaves behind; its ticket, which is chance, without its number."""
        left = {f"window/{path.name}": path.read_bytes() for path in self.window.iterdir()}
        left["output"] = TICKET.sub(b"ticket ########", self.output.read_bytes())
        left["errors"] = self.errors.read_bytes()
        return left


def differences(calm: Day, killed: Day) -> list[str]:
    """What the killed run left that the undisturbed one did not, and the other way round."""
    wrong = []
    if len(killed.tickets()) != 1:
        wrong.append(f"it has {len(killed.tickets())} tickets, and a run draws one")
    wanted, found = calm.left(), killed.left()
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            wrong.append(f"{name} is missing")
        elif name not in wanted:
            wrong.append(f"{name} is too much")
        elif wanted[name] != found[name]:
            wrong.append(f"{name} is another")
    return wrong


def tell_what_is_same(killed: Day) -> None:
    """Say what was compared."""
    (ticket,) = killed.tickets()
    left = killed.left()
    files = [name for name in left if name.startswith("window/")]
    say(f"output: {len(left['output'])} bytes, the same")
    say(f"files in the host's directory: {len(files)}, the same")
    say("files in memory: the program read them back at every step, and compared")
    say(f"its ticket, drawn by chance in the first process: {ticket.decode()}, in the last one too")


def tool(command: str, journal: Path) -> int:
    """Run a command on a journal and show what it says; gives its exit code."""
    print()
    say(f"$ journaltool {command} {journal.name}")
    done = subprocess.run(
        [str(JOURNALTOOL), command, journal.name],
        cwd=journal.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).splitlines()
    begun = [at for at, line in enumerate(said) if "SessionStart" in line]
    if len(begun) > 1:  # of all events, the first, and those around the first kill
        around = said[begun[1] - 6 : begun[1] + 6]
        said = [*said[:3], "...", *around, "..."]
    for line in said:
        print(f"    | {line if len(line) < WIDTH else line[: WIDTH - 3] + '...'}")
    return done.returncode


def written(command: list[str], folder: Path) -> str:
    """A command as somebody would type it in the folder."""
    text = shlex.join(["journaltool", *command])
    places = ((f"{folder}/", ""), (f"{QUICKJS.parent}/", ""), (f"{STORY.parent}/", ""))
    for long, short in places:
        text = text.replace(long, short)
    return text


def show(lines: list[str], first: int, last: int) -> None:
    """The first and the last of some lines."""
    if len(lines) <= first + last + 1:
        first, last = len(lines), 0
    for line in lines[:first]:
        print(f"    | {line}")
    if first + last < len(lines):
        print(f"    | ... {len(lines) - first - last} lines ...")
    for line in lines[len(lines) - last :]:
        print(f"    | {line}")


def title(text: str) -> None:
    """Begin a chapter."""
    print(f"\n{text}", flush=True)


def say(text: str) -> None:
    """A sentence of the story."""
    print(f"  {text}", flush=True)


def stop(reason: str) -> NoReturn:
    """End it, with a sentence."""
    sys.exit(f"demo: {reason}")


if __name__ == "__main__":
    main()

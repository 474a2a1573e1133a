"""SIGINT during the start-up of a command ends it with status 130 and prints no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from journaltool.exit_codes import ExitCode

from tests.support.command_line import build_environment
from tests.support.deadlines import DEADLINE_SECONDS
from tests.support.journals import write_stories
from tests.support.programs import ROOT

#: Python runs this at its start. It interrupts the process at a given import after the first line
#: of journaltool has run; as number 0 it writes how many imports there were.
INTERRUPTER = """
import atexit, os, sys

class Interrupter:
    imports = 0

    def find_spec(self, name, path=None, target=None):
        if "journaltool" in sys.modules:
            self.imports += 1
            if self.imports == int(os.environ["INTERRUPT_AT"]):
                os.kill(os.getpid(), 2)

interrupter = Interrupter()
sys.meta_path.insert(0, interrupter)
if os.environ["INTERRUPT_AT"] == "0":
    atexit.register(lambda: open("imports", "w").write(str(interrupter.imports)))
"""

COMMANDS = [
    ("--help",),
    ("info", "a.journal"),
    ("tail", "a.journal"),
    ("verify", "a.journal"),
    ("run", "absent.wasm"),
    ("completion", "bash"),
]
#: These imports are all interrupted. Later ones are interrupted at even distances.
FIRST_IMPORTS = 6
LATER_IMPORTS = 6


def run_interrupted(number: int, arguments: tuple[str, ...], folder: Path) -> tuple[int, str]:
    """Run a command that is interrupted at an import. Return its status in a shell and stderr."""
    (folder / "hook").mkdir(exist_ok=True)
    (folder / "hook" / "sitecustomize.py").write_text(INTERRUPTER)
    done = subprocess.run(
        [sys.executable, "-m", "journaltool", *arguments],
        cwd=folder,
        env=build_environment(INTERRUPT_AT=str(number), PYTHONPATH=str(folder / "hook")),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    code = done.returncode
    return (code if code >= 0 else 128 - code), done.stderr.decode()


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_an_interrupt_at_an_import_ends_a_command_with_130_and_no_traceback(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    write_stories(tmp_path / "a.journal", [(200, b"text")])
    run_interrupted(0, arguments, tmp_path)
    imports = int((tmp_path / "imports").read_text())
    assert imports > FIRST_IMPORTS + LATER_IMPORTS
    step = (imports - FIRST_IMPORTS) // LATER_IMPORTS
    moments = [*range(1, FIRST_IMPORTS + 1), *range(FIRST_IMPORTS + step, imports + 1, step)]
    results = {number: run_interrupted(number, arguments, tmp_path) for number in moments}
    assert results == dict.fromkeys(moments, (130, ""))


IGNORED = """
import os, signal, time
from journaltool import error_report

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), {number})
        for _ in range(100_000):  # The exception is raised in here, and ignored.
            pass

error_report.raise_on_signals()
with error_report.reporting_errors():
    Finalized()
    print("went on", flush=True)
    while True:
        time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
def test_a_signal_that_comes_during_a_finalizer_is_not_lost(
    number: signal.Signals, code: ExitCode
) -> None:
    script = IGNORED.format(number=int(number)) + "\n"
    wrapped = "import typer\ntry:\n" + textwrap.indent(script, "    ")
    wrapped += "except typer.Exit as end:\n    raise SystemExit(end.exit_code)\n"
    done = subprocess.run(
        [sys.executable, "-c", wrapped],
        env={**build_environment(), "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}"},
        capture_output=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, b"went on\n", b"")

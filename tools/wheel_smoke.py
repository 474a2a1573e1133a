"""Smoke test of an installed distribution: it imports nothing of the checkout.

python wheel_smoke.py GUEST pure|compiled
"""

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import journal
from journal.engine import SnapshotOptions
from journal.snapshots import Trigger

CACHE = Path("cache", "modules")
TIMEOUT_SECONDS = 120


def journaltool(*arguments: object) -> str:
    """Run the installed command. Return its output."""
    command = [Path(sys.executable).with_name("journaltool"), *arguments]
    return subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    ).stdout


def check_installation(expected: str) -> None:
    """Check the origin of the package, its build and its version."""
    assert Path(journal.__file__).is_relative_to(sys.prefix), journal.__file__
    assert journal.is_compiled == (expected == "compiled")
    assert version("wasm-journal") == journal.__version__
    assert journaltool("--version").split() == ["journaltool", journal.__version__]
    package = Path(journal.__file__).parent
    assert (package / "py.typed").is_file()


def check_log(path: Path) -> None:
    """Write a journal and read it."""
    events = [journal.events.core.ProcessExit(exit_code=code) for code in range(1000)]
    with journal.Writer(path) as writer:
        for event in events:
            writer.append(event)
        writer.sync()
    with journal.Reader(path) as reader:
        assert list(reader) == events
    assert "whole" in journaltool("verify", path)


def check_engine(guest_path: Path, path: Path) -> None:
    """Record a guest, take a snapshot with its stack, and resume the guest in a second run."""
    options = SnapshotOptions(on=frozenset({Trigger.EXPLICIT}))
    with journal.record(guest_path, path, args=["prompt"], snapshots=options, cache=CACHE) as guest:
        guest.feed(b"set bread rye\nget bread\n")
        while b"rye" not in guest.stdout:
            guest.wait(timeout_seconds=0.01)
        assert guest.snapshot(timeout_seconds=TIMEOUT_SECONDS) is not None
    with journal.Reader(path) as reader:
        (info,) = journal.list_snapshots(reader)
    if platform.machine() == "x86_64":  # The extra "engine" brings Binaryen.
        assert info.has_stacks
    with journal.resume(path, cache=CACHE) as guest:
        guest.feed(b"get bread\n")
        guest.close_stdin()
        result = guest.wait()
        assert result is not None
        assert result.code == 0
        assert guest.stdout == b"1> 2> rye\n3> rye\n4> \nno more commands\n"
    assert "whole" in journaltool("verify", path)


def main() -> None:
    """Check the installed distribution."""
    guest, expected = sys.argv[1:]
    check_installation(expected)
    check_log(Path("log.journal"))
    check_engine(Path(guest), Path("guest.journal"))
    print(f"wheels: {Path(journal.__file__).parent} works: {expected}")


if __name__ == "__main__":
    main()

"""Record a guest, stop it in the middle, and resume it from its journal.

    python examples/record_and_resume.py DIRECTORY

The guest is a small shell that stores names and texts in its memory. Another process could call
``resume_guest``, at any later time and after a crash.
"""

import sys
from pathlib import Path

import journal

GUEST = Path(__file__).parents[1] / "fixtures" / "guests" / "prompt.wasm"


def record_guest(path: Path) -> bytes:
    """Start the guest in a new journal, give it two commands, and stop it. Return its output."""
    with journal.record(GUEST, path, args=["prompt"]) as guest:
        guest.feed(b"set bread rye\nget bread\n")
        while b"rye" not in guest.stdout:
            guest.wait(timeout_seconds=0.01)
        return guest.stdout


def resume_guest(path: Path) -> bytes:
    """Resume the guest, give it one more command, and let it end. Return its whole output."""
    with journal.resume(path) as guest:
        guest.feed(b"get bread\n")
        guest.close_stdin()
        result = guest.wait()
        assert result is not None
        assert result.code == 0
        return guest.stdout


def main(folder: Path) -> None:
    """Record and resume in a directory, and print the output of both runs."""
    path = folder / "shell.journal"
    print("before:", record_guest(path))
    print("after: ", resume_guest(path))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

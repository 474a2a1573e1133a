"""Writer in another process, which can be killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

_PROGRAM = """
import sys
import journal
from journal.events.inputs import ClockRead

roll = journal.log.RollPolicy(size_bytes=int(sys.argv[2])) if len(sys.argv) > 2 else None
with journal.Writer(sys.argv[1], roll=roll, compress=False) as writer:
    print(0, flush=True)
    for line in sys.stdin:
        for _ in range(int(line)):
            writer.append(ClockRead(clock=0, time=writer.next_seq))
        writer.sync()
        print(writer.next_seq, flush=True)
"""


class LiveWriter:
    """Process that writes ClockRead events; ``time`` is the sequence number. Writes are durable."""

    def __init__(self, path: Path, roll_size: int | None = None) -> None:
        more = [] if roll_size is None else [str(roll_size)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(path), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def write(self, count: int) -> int:
        """Write events, and return the next sequence number."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Close the journal, and wait for the end of the process."""
        assert self._process.communicate()[0] == ""
        assert self._process.returncode == 0

    def kill(self) -> None:
        """Kill the process by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

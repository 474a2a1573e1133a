"""A compaction in a process of its own, so that whoever writes the journal goes on meanwhile.

It gives way to others, and ends with whoever asked for it.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

from journal.compaction.compactor import CompactionResult, KindCounts, compact
from journal.compaction.retention import RetentionPolicy
from journal.errors import JournalError
from journal.log.appender import RollPolicy

_CODE = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]);"
    "from journal.compaction.worker_process import main; main(sys.argv[1])"
)
_NICENESS = 10
_POLL_PERIOD_SECONDS = 0.05
_EXIT_TIMEOUT_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1
_MESSAGE_SIZE_MAX = 1 << 12


class WorkerFailed(JournalError):
    """A compaction in a process of its own did not come to its end."""


class _Task(NamedTuple):
    source: str
    target: str
    policy: tuple[int, int | None, float | None]
    roll: tuple[int, float | None] | None
    parent: int


def compact_in_worker(
    source: Path,
    target: Path,
    policy: RetentionPolicy,
    roll: RollPolicy | None = None,
    stop: threading.Event | None = None,
) -> CompactionResult:
    """Do what ``compact`` does, in a process of its own; ``stop`` gives it up.

    Raises Unfinished for whatever goes wrong there: nothing is left behind then.
    """
    wishes = policy.keep_last, policy.keep_every, policy.keep_within_seconds
    rolls = (roll.size_bytes, roll.age_seconds) if roll is not None else None
    task = _Task(str(source), str(target), wishes, rolls, os.getpid())
    command = [sys.executable, "-I", "-c", _CODE, json.dumps(task), json.dumps(sys.path)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        said, complaint = _communicate(process, stop)
    if process.returncode:
        raise WorkerFailed(_failure_reason(process.returncode, complaint))
    fields = json.loads(said)
    return CompactionResult(
        bytes.fromhex(fields["journal_id"]),
        fields["next_seq"],
        fields["upto"],
        tuple(fields["snapshots"]),
        tuple(fields["dropped_snapshots"]),
        tuple(KindCounts(*kind) for kind in fields["kinds"]),
        fields["reason"],
    )


def _communicate(
    process: "subprocess.Popen[bytes]", stop: threading.Event | None
) -> tuple[bytes, bytes]:
    """Wait for its end, and give what it said; it is gone when this raises."""
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=_POLL_PERIOD_SECONDS)
            if stop is not None and stop.is_set():
                raise WorkerFailed("it was given up")
    except BaseException:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_EXIT_TIMEOUT_SECONDS)
        process.kill()
        raise


def _failure_reason(code: int, complaint: bytes) -> str:
    lines = complaint[-_MESSAGE_SIZE_MAX:].decode(errors="replace").strip().splitlines()
    if lines:
        return lines[-1]
    return f"it was ended by signal {-code}" if code < 0 else f"it ended with {code}"


def main(text: str) -> None:
    """Be that process."""
    task = _Task(*json.loads(text))
    signal.signal(signal.SIGTERM, _exit_on_signal)
    with suppress(AttributeError, OSError):  # elsewhere than on Linux, it outlives a parent killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != task.parent:
        sys.exit("who asked for it is gone")
    with suppress(OSError):
        os.nice(_NICENESS)
    roll = RollPolicy(*task.roll) if task.roll is not None else None
    try:
        found = compact(task.source, task.target, policy=RetentionPolicy(*task.policy), roll=roll)
    except (JournalError, OSError) as error:
        sys.exit(str(error))
    fields = found._asdict() | {"journal_id": found.journal_id.hex()}
    os.write(sys.stdout.fileno(), json.dumps(fields).encode())


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(number)  # what was begun is taken away

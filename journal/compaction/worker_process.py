"""Compaction in a worker process, during which the process of the writer continues.

The worker runs at low priority, and ends together with its parent.
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
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from journal._platform import find_interpreter
from journal.compaction.compactor import CompactionResult, KindCounts, compact
from journal.compaction.retention import RetentionPolicy
from journal.errors import JournalError
from journal.log.roll_policy import RollPolicy
from journal.log.seal_keys import PROCESS_KEYS

if TYPE_CHECKING:
    from journal.format.seal_key import SealKey

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
    """A compaction in a worker process did not finish."""


class _Task(NamedTuple):
    """Arguments of a compaction, which the worker receives as JSON."""

    source: str
    target: str
    policy: tuple[int, int | None, float | None]
    roll: tuple[int, float | None] | None
    parent: int
    is_sealed: bool = False


def compact_in_worker(
    source: Path,
    target: Path,
    policy: RetentionPolicy,
    roll: RollPolicy | None = None,
    stop: threading.Event | None = None,
    key: "SealKey | None" = None,
) -> CompactionResult:
    """Do the work of ``compact`` in a worker process; ``stop`` cancels it.

    The worker receives ``key``, that of a sealed journal, through a pipe.

    Raises WorkerFailed for every failure of the worker, which then leaves no files.
    """
    interpreter = find_interpreter()
    if interpreter is None:
        raise WorkerFailed(
            "a frozen program has no Python interpreter for the worker: call compact() instead"
        )
    policy_fields = policy.keep_last, policy.keep_every, policy.keep_within_seconds
    roll_fields = (roll.size_bytes, roll.age_seconds) if roll is not None else None
    task = _Task(str(source), str(target), policy_fields, roll_fields, os.getpid(), key is not None)
    command = [interpreter, "-I", "-c", _CODE, json.dumps(task), json.dumps(sys.path)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if key is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        if key is not None:
            _send_key(process, key)
        output, error_output = _communicate(process, stop)
    if process.returncode:
        raise WorkerFailed(_failure_reason(process.returncode, error_output))
    fields = json.loads(output)
    return CompactionResult(
        bytes.fromhex(fields["journal_id"]),
        fields["next_seq"],
        fields["upto"],
        tuple(fields["snapshots"]),
        tuple(fields["dropped_snapshots"]),
        tuple(KindCounts(*kind) for kind in fields["kinds"]),
        fields["reason"],
    )


def _send_key(process: "subprocess.Popen[bytes]", key: "SealKey") -> None:
    """Write a key to the worker, which is smaller than the buffer of a pipe."""
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(key.serialize())
    process.stdin = None


def _communicate(
    process: "subprocess.Popen[bytes]", stop: threading.Event | None
) -> tuple[bytes, bytes]:
    """Wait until the worker ends, and return its output and error output; kill it on an error."""
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=_POLL_PERIOD_SECONDS)
            if stop is not None and stop.is_set():
                raise WorkerFailed("the compaction was cancelled")
    except BaseException:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_EXIT_TIMEOUT_SECONDS)
        process.kill()
        raise


def _failure_reason(code: int, error_output: bytes) -> str:
    lines = error_output[-_MESSAGE_SIZE_MAX:].decode(errors="replace").strip().splitlines()
    if lines:
        return lines[-1]
    return f"worker killed by signal {-code}" if code < 0 else f"worker exited with code {code}"


def main(text: str) -> None:
    """Run the worker process."""
    task = _Task(*json.loads(text))
    signal.signal(signal.SIGTERM, _exit_on_signal)
    with suppress(AttributeError, OSError):  # Only Linux ends the worker with a killed parent.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != task.parent:
        sys.exit("the parent process has ended")
    with suppress(OSError):
        os.nice(_NICENESS)
    roll = RollPolicy(*task.roll) if task.roll is not None else None
    if task.is_sealed:
        from journal.format.seal_key import SealKey

        PROCESS_KEYS.reading = SealKey.deserialize(sys.stdin.buffer.read())
    try:
        result = compact(task.source, task.target, policy=RetentionPolicy(*task.policy), roll=roll)
    except (JournalError, OSError) as error:
        sys.exit(str(error))
    fields = result._asdict() | {"journal_id": result.journal_id.hex()}
    os.write(sys.stdout.fileno(), json.dumps(fields).encode())


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(number)  # Unwinding removes the unfinished target.

"""Calls of a reader on arbitrary bytes: only errors of this library may result.

``python -m tests.support.reader_fuzz_calls LIMIT_MIB DEADLINE PATH...`` makes the calls in a
process of its own, with bounded memory and seconds for each path, and prints a line of JSON for
each path.
"""

import json
import resource
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from journal.errors import FormatError, JournalError, LimitExceeded
from journal.log import RecoveryMode
from journal.log.reader import Reader
from journal.log.writer import Writer

SEQS = (0, 1, 7, 1000, (1 << 32) - 1, (1 << 63) - 1, 1 << 63, 1 << 64)
READING_MAX = 3_000_000
"""Largest number of frames that one call reads."""


def _drain(items: Iterable[object]) -> None:
    deque(islice(items, READING_MAX), maxlen=0)


def _frame(seq: int, verify: bool) -> Callable[[Reader], object]:
    def ask(reader: Reader) -> object:
        try:
            frame = reader.frame(seq, verify=verify)
        except KeyError:
            return None
        assert frame.seq == seq
        return frame

    return ask


QUESTIONS: dict[str, Callable[[Reader], object]] = {
    "frames": lambda reader: _drain(reader.frames()),
    "frames from 3": lambda reader: _drain(reader.frames(3, stop=9)),
    "frames of a tag": lambda reader: _drain(reader.frames(tags={1, 200})),
    "frames since": lambda reader: _drain(reader.frames(since=1_700_000_000_000_005)),
    "backward": lambda reader: _drain(reader.backward()),
    "backward of a tag": lambda reader: _drain(reader.backward(5, tags={2})),
    "last": lambda reader: reader.last(3),
    "blocks": lambda reader: _drain(block.times for block in reader.blocks()),
    "summary": lambda reader: reader.summary(),
    "verify": lambda reader: _drain(reader.verify(decode=False)),
    "events": lambda reader: _drain(reader),
    "follow": lambda reader: _drain(reader.follow(timeout_seconds=0)),
    **{f"frame {seq}": _frame(seq, True) for seq in SEQS},
    **{f"frame {seq} unverified": _frame(seq, False) for seq in SEQS},
}


def check_message(error: JournalError) -> JournalError:
    """Check that an error is one line, and that a FormatError names its offset."""
    text = str(error)
    assert text, type(error)
    assert "\n" not in text, text
    assert len(text) < 500, text
    if isinstance(error, FormatError) and not isinstance(error, LimitExceeded):
        assert f"at offset {error.offset}" in text
        assert error.offset >= 0
    return error


def query_reader(
    path: Path, modes: Iterable[RecoveryMode] = RecoveryMode, verify: bool = True
) -> dict[str, JournalError]:
    """Make all calls of a reader in each mode, and return the errors by call."""
    errors: dict[str, JournalError] = {}
    for mode in modes:
        for name, question in QUESTIONS.items():
            try:
                with Reader(path, mode=mode, verify=verify) as reader:
                    question(reader)
            except JournalError as error:
                errors[f"{mode}: {name}"] = check_message(error)
    return errors


def continue_writing(
    path: Path, modes: Iterable[RecoveryMode] = (RecoveryMode.STRICT, RecoveryMode.POINT_IN_TIME)
) -> None:
    """Append to copies of a journal, and read the new event back."""
    for mode in modes:
        copy = path.with_name(f"{path.name}.{mode}.copy")
        if path.is_dir():
            shutil.copytree(path, copy, symlinks=True)
        else:
            shutil.copyfile(path, copy)
        try:
            with Writer(copy, mode=mode) as writer:
                seq = writer.append_frame(1, b"written on")
                writer.sync()
            with Reader(copy, mode=RecoveryMode.POINT_IN_TIME) as reader:
                found = reader.frame(seq)
            assert (found.tag, found.payload) == (1, b"written on")
        except JournalError as error:
            check_message(error)
        finally:
            (shutil.rmtree if copy.is_dir() else Path.unlink)(copy)


def _run_queries(path: Path) -> dict[str, Any]:
    errors = query_reader(path)
    if path.is_dir() or path.is_file():
        continue_writing(path)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "path": str(path),
        "kib": used,
        "errors": {name: f"{type(error).__name__}: {error}" for name, error in errors.items()},
    }


def _limit_memory(mib: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (mib << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    limit_mib, deadline, *paths = sys.argv[1:]
    from journal.events import codec  # Import it now, because its memory does not count.

    assert codec
    _limit_memory(int(limit_mib))
    for name in paths:
        signal.alarm(int(deadline))  # SIGALRM kills this process, and the test reports the path.
        print(json.dumps(_run_queries(Path(name))), flush=True)

"""A process that forks writers, each to be stopped, traced, and killed at one of its calls.

A request is one line of JSON on standard input, an answer is one on standard output. A writer
records its promises in a file of its own. Run by ``stracing.Forks``.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from journal.errors import JournalError, StorageError
from journal.log.writer import Writer
from tests.rigs import api
from tests.rigs.promise import Promise, Row

EVENTS = 24
CODE_REFUSED = 3
"""Exit code of a writer after an error of the journal."""
_PR_SET_PTRACER = 0x59616D61
_ANYBODY = ctypes.c_ulong(-1)


def row(seq: int) -> Row:
    """Return the event with a number."""
    return 1 + seq % 199, b"%d:" % seq + b"event" * (seq % 7 * 40)


def rows() -> list[Row]:
    """Return all events that a writer can write."""
    return [row(seq) for seq in range(2 * EVENTS)]


class Refused(Exception):
    """The journal cannot be opened: this neither makes nor breaks a promise."""


def _opened(path: Path, plan: api.Plan) -> Writer:
    try:
        return api.open_writer(path, plan)
    except (OSError, JournalError) as error:
        raise Refused from error


def write(path: Path, plan: api.Plan, promise: Promise) -> None:
    """Write events, sync some, close; reopen and write as many again."""
    for _ in range(2):
        with _opened(path, plan) as writer:
            promise.acknowledge(writer.next_seq)
            for _ in range(EVENTS):
                seq = writer.append_frame(*row(writer.next_seq))
                if plan.level == "every":
                    promise.acknowledge(seq + 1)
                elif seq % 4 == 3:
                    writer.sync()
                    promise.acknowledge(seq + 1)
        promise.acknowledge(seq + 1)


def stop() -> None:
    """Wait for a tracer, and for its signal to continue."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANYBODY, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)


def _run(path: Path, plan: api.Plan, told: Path) -> int:
    descriptor = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(acknowledged: int, created: bool) -> None:
        os.write(descriptor, b"%d %d\n" % (acknowledged, created))

    promise = Promise(listener=tell)
    stop()
    try:
        write(path, plan, promise)
    except StorageError as error:
        promise.failed(error)
        return CODE_REFUSED
    except Refused:
        return CODE_REFUSED
    return 0


def _child(question: dict[str, str], plan: api.Plan) -> int:
    try:
        return _run(Path(question["path"]), plan, Path(question["told"]))
    except BaseException:
        with Path(question["told"] + ".error").open("w") as file:
            traceback.print_exc(file=file)
        return 1


def _start(question: dict[str, str], plan: api.Plan) -> int:
    child = os.fork()
    if not child:
        os._exit(_child(question, plan))
    os.waitpid(child, os.WUNTRACED)
    return child


def main() -> None:
    """Fork on request until the input ends."""
    plans = {plan: plan for plan in map(api.Plan._make, json.loads(sys.argv[1]))}
    for plan in plans:  # Imports everything that a writer imports lazily.
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / "a.journal", plan, Promise())
    for line in sys.stdin:
        question = json.loads(line)
        if question["do"] == "start":
            answer = _start(question, plans[api.Plan._make(question["plan"])])
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(question["child"], 0)[1])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

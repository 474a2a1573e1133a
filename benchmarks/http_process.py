"""Process of an HTTP server in Go: native, recorded in several ways, or without a journal.

`python -m benchmarks.http_process WAY WASM FOLDER` listens at a free port, prints it, and serves
until it is killed.
"""

from __future__ import annotations

import os
import socket
import sys
from enum import StrEnum
from pathlib import Path

import journal
from benchmarks.journal_runs import make_unwritten
from benchmarks.peers import Peer, Plan
from benchmarks.stopwatch import module_folder
from journal.engine import Durability
from journal.events.process import Listener, RecordingLevel

BACKLOG = 128


class Way(StrEnum):
    """How the server runs."""

    RECORDED = "recorded"  # journal.record with its defaults, without saved stacks
    NONE = "durability none"  # synced at the end only
    STATE = "level state"  # without inputs
    UNWRITTEN = "unwritten"  # the same engine and host, without writing
    NATIVE = "native"  # a program of the machine


_DURABILITY = {Way.NONE: Durability.NONE}
_LEVEL = {Way.STATE: RecordingLevel.STATE}


def _listen() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    print(listener.getsockname()[1], flush=True)
    return listener


def _serve_natively(program: str) -> None:
    """Become the program, with a listener as descriptor 3."""
    listener = _listen()
    os.dup2(listener.fileno(), 3)
    os.set_inheritable(3, True)
    os.execv(program, [program])


def _serve_unwritten(wasm: str, folder: Path) -> None:
    listener = _listen()
    listener.setblocking(False)
    plan = Plan(peer=Peer.UNWRITTEN, wasm=wasm, folder=str(folder))
    with (folder / "output").open("wb") as output, make_unwritten(plan, output, [listener]) as run:
        run.wait()


def _serve_recorded(way: Way, wasm: str, folder: Path) -> None:
    path = folder / "journal"
    with (folder / "output").open("wb") as output:
        recorder = journal.record(
            wasm,
            path,
            listeners=["127.0.0.1:0"],
            stdin=b"",
            stdout=output,
            durability=_DURABILITY.get(way, Durability.OUTPUT),
            level=_LEVEL.get(way, RecordingLevel.FULL),
            cache=module_folder(),
        )
        with recorder:
            with journal.Reader(path) as reader:
                (event,) = (event for event in reader if isinstance(event, Listener))
            print(event.addr.port, flush=True)
            recorder.wait()


def main() -> None:
    """Serve in the way that the command line says."""
    way, wasm, folder = Way(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    if way is Way.NATIVE:
        _serve_natively(wasm)
    elif way is Way.UNWRITTEN:
        _serve_unwritten(wasm, folder)
    else:
        _serve_recorded(way, wasm, folder)


if __name__ == "__main__":
    main()

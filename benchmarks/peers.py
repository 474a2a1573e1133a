"""The peers: five ways to run one module once, and what each of them took.

`measure` makes one run in a process of its own, so that no run finds what another left behind;
`python -m benchmarks.peers PLAN` is that process.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Peer(StrEnum):
    """Who runs the module."""

    RECORDED = "recorded"  # journal.record
    UNWRITTEN = "unwritten"  # the same engine and host, and nothing is written
    WASI = "wasi"  # wasmtime's own WASI and plain configuration
    WASI_REPEATABLE = "wasi-repeatable"  # wasmtime's own WASI in the engine that we run guests in
    RESUMED = "resumed"  # journal.resume of a journal that stands in the folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run: ``folder`` takes the journal, the output and a directory of the host."""

    peer: Peer
    wasm: str
    folder: str
    arguments: tuple[str, ...] = ("program",)
    script: str = ""
    durability: str = "output"


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds of the processor, in all threads, and of the clock on the wall."""

    cpu: float
    wall: float

    def __add__(self, other: Span) -> Span:
        return Span(self.cpu + other.cpu, self.wall + other.wall)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a run took from loading its compiled module to its end, and what came out of it.

    ``opening`` is all before the guest starts, ``running`` all from there until nothing is left to
    be written. ``digest`` is of the output and the files.
    """

    opening: Span
    running: Span
    code: int
    digest: str

    @property
    def whole(self) -> Span:
        """Both together."""
        return self.opening + self.running


def journal_in(folder: Path) -> Path:
    """Where a run's journal stands."""
    return folder / "journal"


def output_in(folder: Path) -> Path:
    """Where a run's standard output stands."""
    return folder / "output"


def digest_of(folder: Path, files: dict[str, bytes]) -> str:
    """A hash of what a guest printed and of the files that it left."""
    seen = hashlib.sha256(output_in(folder).read_bytes())
    for name, data in sorted(files.items()):
        seen.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    return seen.hexdigest()


def measure(plan: Plan) -> Measured:
    """Make one run; ends the program if it fails."""
    command = [sys.executable, "-m", "benchmarks.peers", json.dumps(asdict(plan))]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"a run failed: {plan}")
    found: dict[str, Any] = json.loads(done.stdout)
    opening, running = Span(**found.pop("opening")), Span(**found.pop("running"))
    return Measured(opening=opening, running=running, **found)


def _main() -> None:
    from benchmarks import ours, theirs

    runs: dict[Peer, Callable[[Plan], Measured]] = {
        Peer.RECORDED: ours.recorded,
        Peer.UNWRITTEN: ours.unwritten,
        Peer.WASI: theirs.plain,
        Peer.WASI_REPEATABLE: theirs.repeatable,
        Peer.RESUMED: ours.resumed,
    }
    values = json.loads(sys.argv[1])
    values["peer"] = Peer(values["peer"])
    values["arguments"] = tuple(values["arguments"])
    plan = Plan(**values)
    print(json.dumps(asdict(runs[plan.peer](plan))))


if __name__ == "__main__":
    _main()

"""Peers: five ways to run one module once, and the measurements of a run.

`measure` makes each run in a process of its own (`peer_process`), so that no run inherits state
from an earlier run.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Peer(StrEnum):
    """Engine and host that run the module."""

    RECORDED = "recorded"  # journal.record
    UNWRITTEN = "unwritten"  # the same engine and host, without writing
    WASI = "wasi"  # wasmtime's own WASI with its default configuration
    WASI_REPEATABLE = "wasi-repeatable"  # wasmtime's own WASI with our engine configuration
    RESUMED = "resumed"  # journal.resume of the journal in the folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run. ``folder`` receives the journal, the output and a host directory."""

    peer: Peer
    wasm: str
    folder: str
    arguments: tuple[str, ...] = ("program",)
    script: str = ""
    durability: str = "output"


@dataclass(frozen=True, slots=True)
class Span:
    """Processor seconds of all threads, and wall-clock seconds."""

    cpu: float
    wall: float

    def __add__(self, other: Span) -> Span:
        return Span(self.cpu + other.cpu, self.wall + other.wall)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Cost of a run from loading its compiled module to its end, and its results.

    ``opening`` is the time before the guest starts, ``running`` the time until everything is
    written. ``digest`` covers the output and the files.
    """

    opening: Span
    running: Span
    code: int
    digest: str

    @property
    def whole(self) -> Span:
        """Return the sum of both spans."""
        return self.opening + self.running


def journal_path(folder: Path) -> Path:
    """Return the path of a run's journal."""
    return folder / "journal"


def output_path(folder: Path) -> Path:
    """Return the path of a run's standard output."""
    return folder / "output"


def compute_digest(folder: Path, files: dict[str, bytes]) -> str:
    """Return a hash of a guest's output and files."""
    digest = hashlib.sha256(output_path(folder).read_bytes())
    for name, data in sorted(files.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    return digest.hexdigest()


def measure(plan: Plan) -> Measurement:
    """Run a plan in a process of its own. Ends the program if the run fails."""
    command = [sys.executable, "-m", "benchmarks.peer_process", json.dumps(asdict(plan))]
    process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if process.returncode:
        sys.exit(f"a run failed: {plan}")
    values: dict[str, Any] = json.loads(process.stdout)
    opening, running = Span(**values.pop("opening")), Span(**values.pop("running"))
    return Measurement(opening=opening, running=running, **values)

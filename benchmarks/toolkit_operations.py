"""Operations of the toolkit on a journal, each run once in a process of its own.

`run_operation` runs one and returns its cost; `python -m benchmarks.toolkit_operations NAME
ARGUMENT...` is that process. The peak counts the memory of the process, without the page cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers import ROOT, Span

_PIECE_SIZE = 1 << 20


class OperationResult(NamedTuple):
    """Cost of an operation: its span, its peak in MiB, and facts that it reports."""

    span: Span
    peak: float
    facts: dict[str, int]


def run_operation(operation: str, *arguments: object) -> OperationResult:
    """Run an operation once. Ends the program if it fails."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.toolkit_operations",
        operation,
        *map(str, arguments),
    ]
    process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if process.returncode:
        sys.exit(f"operation {operation} {arguments} failed")
    values = json.loads(process.stdout)
    return OperationResult(Span(values["cpu"], values["wall"]), values["peak"], values["facts"])


# -- operations: each imports its modules before the measurement ----------------------------------


def _compact(source: str, target: str, keep_last: str) -> Callable[[], dict[str, int]]:
    from journal.compaction import RetentionPolicy, compact

    def operation() -> dict[str, int]:
        result = compact(source, target, policy=RetentionPolicy(keep_last=int(keep_last)))
        assert not result.reason, result.reason
        return {
            "events": result.events,
            "size": result.size,
            "kept_events": result.kept_events,
            "kept_size": result.kept_size,
        }

    return operation


def _filter(source: str, target: str, *tags: str) -> Callable[[], dict[str, int]]:
    from journal.operations.filter import filter
    from journal.query.selection import Query

    query = Query(tags=frozenset(map(int, tags)))
    return lambda: {"events": filter(source, target or None, query, keep_preamble=False).events}


def _count(source: str, *tags: str) -> Callable[[], dict[str, int]]:
    """Count tags in a pass over the columns."""
    from journal import Reader

    selected = list(map(int, tags))

    def operation() -> dict[str, int]:
        with Reader(source) as reader:
            return {"events": sum(sum(map(b.tags.count, selected)) for b in reader.blocks())}

    return operation


def _split(source: str, folder: str, size: str) -> Callable[[], dict[str, int]]:
    from journal.operations.split import split

    return lambda: {"parts": len(split(source, folder, size=int(size)).parts)}


def _concat(folder: str, target: str) -> Callable[[], dict[str, int]]:
    from journal.operations.concat import concat

    return lambda: {"events": concat(sorted(Path(folder).iterdir()), target).events}


def _cut(source: str, target: str, at: str) -> Callable[[], dict[str, int]]:
    from journal.operations.split import cut

    return lambda: {"events": cut(source, target, at=int(at)).events}


def _export(source: str, target: str) -> Callable[[], dict[str, int]]:
    from journal.export import export_lines

    def operation() -> dict[str, int]:
        with Path(target).open("wb") as out:
            return {"events": export_lines(source, out).events}

    return operation


def _copy(source: str, target: str) -> Callable[[], dict[str, int]]:
    """Copy the bytes, as durably as the other operations."""

    def operation() -> dict[str, int]:
        shutil.copyfile(source, target)
        with Path(target).open("rb") as file:
            os.fsync(file.fileno())
        return {}

    return operation


def _hash(source: str) -> Callable[[], dict[str, int]]:
    """Read and hash all bytes: the lower bound of any pass."""
    from xxhash import xxh3_64

    def operation() -> dict[str, int]:
        state = xxh3_64()
        with Path(source).open("rb") as file:
            while piece := file.read(_PIECE_SIZE):
                state.update(piece)
        return {}

    return operation


OPERATIONS: dict[str, Callable[..., Callable[[], dict[str, int]]]] = {
    "compact": _compact,
    "filter": _filter,
    "count": _count,
    "split": _split,
    "concat": _concat,
    "cut": _cut,
    "export": _export,
    "copy": _copy,
    "hash": _hash,
}


def _peak() -> float:
    """Return the peak memory of this process in MiB; `getrusage` may report that of its parent."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM: the peak memory is unknown")


def _main() -> None:
    from benchmarks.stopwatch import Stopwatch

    name, *arguments = sys.argv[1:]
    operation = OPERATIONS[name](*arguments)
    watch = Stopwatch()
    facts = operation()
    span = watch.lap()
    print(json.dumps({"cpu": span.cpu, "wall": span.wall, "peak": _peak(), "facts": facts}))


if __name__ == "__main__":
    _main()

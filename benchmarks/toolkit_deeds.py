"""What the toolkit does to a journal, once: each time in a process of its own.

`done` runs a deed and tells what it took; `python -m benchmarks.toolkit_deeds NAME ARGUMENT...` is
that process. Its peak is that of the memory that it had, not of a file's pages in the cache.
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


class Done(NamedTuple):
    """What a deed took: seconds, MiB at most, and what it tells of itself."""

    span: Span
    peak: float
    facts: dict[str, int]


def done(deed: str, *arguments: object) -> Done:
    """Do something once; ends the program where it fails."""
    command = [sys.executable, "-m", "benchmarks.toolkit_deeds", deed, *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if ended.returncode:
        sys.exit(f"a deed failed: {deed} {arguments}")
    found = json.loads(ended.stdout)
    return Done(Span(found["cpu"], found["wall"]), found["peak"], found["facts"])


# -- deeds: each imports what it needs before the clock runs --------------------------------------


def _compact(source: str, target: str, keep_last: str) -> Callable[[], dict[str, int]]:
    from journal.compaction import RetentionPolicy, compact

    def deed() -> dict[str, int]:
        found = compact(source, target, policy=RetentionPolicy(keep_last=int(keep_last)))
        assert not found.reason, found.reason
        return {
            "events": found.events,
            "size": found.size,
            "kept_events": found.kept_events,
            "kept_size": found.kept_size,
        }

    return deed


def _filter(source: str, target: str, *tags: str) -> Callable[[], dict[str, int]]:
    from journal.operations.filter import filter
    from journal.query.selection import Query

    which = Query(tags=frozenset(map(int, tags)))
    return lambda: {"events": filter(source, target or None, which, keep_preamble=False).events}


def _count(source: str, *tags: str) -> Callable[[], dict[str, int]]:
    """A pass over the columns that only counts tags."""
    from journal import Reader

    wanted = list(map(int, tags))

    def deed() -> dict[str, int]:
        with Reader(source) as reader:
            return {"events": sum(sum(map(b.tags.count, wanted)) for b in reader.blocks())}

    return deed


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

    def deed() -> dict[str, int]:
        with Path(target).open("wb") as out:
            return {"events": export_lines(source, out).events}

    return deed


def _copy(source: str, target: str) -> Callable[[], dict[str, int]]:
    """The bytes alone, as durable as the others are."""

    def deed() -> dict[str, int]:
        shutil.copyfile(source, target)
        with Path(target).open("rb") as file:
            os.fsync(file.fileno())
        return {}

    return deed


def _hash(source: str) -> Callable[[], dict[str, int]]:
    """All bytes read and hashed: what no pass can do without."""
    from xxhash import xxh3_64

    def deed() -> dict[str, int]:
        state = xxh3_64()
        with Path(source).open("rb") as file:
            while piece := file.read(_PIECE_SIZE):
                state.update(piece)
        return {}

    return deed


DEEDS: dict[str, Callable[..., Callable[[], dict[str, int]]]] = {
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
    """The most memory of this process in MiB; what `getrusage` has may be its parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("the system does not tell how much memory a process had")


def _main() -> None:
    from benchmarks.stopwatch import Stopwatch

    name, *arguments = sys.argv[1:]
    deed = DEEDS[name](*arguments)
    watch = Stopwatch()
    facts = deed()
    span = watch.lap()
    print(json.dumps({"cpu": span.cpu, "wall": span.wall, "peak": _peak(), "facts": facts}))


if __name__ == "__main__":
    _main()

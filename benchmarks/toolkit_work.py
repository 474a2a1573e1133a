"""Toolkit operations on one large journal: compaction, filters, pieces, and lines."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import toolkit_journal
from benchmarks.figures import RATIO, Figure, Side, ratios
from benchmarks.peers import Span
from benchmarks.stopwatch import FOLDER
from benchmarks.toolkit_journal import Made, Size
from benchmarks.toolkit_operations import OperationResult, run_operation
from journal import Reader
from journal.events.snapshots import Snapshot
from journal.events.streams import StreamWrite

GIGABYTES_MIN = 0.5
MILLIONS_MIN = 1.0
PEAK_MEBIBYTES_MAX = 256
COLUMNS_RATIO_MIN = 1.0

_FREE_SPACE_FACTOR = 4
"""Free space that a folder needs, in multiples of the journal's size, for copies and page files."""
_PARTS = 8
_MEBIBYTE = 1 << 20


@contextmanager
def open_journal(size: Size) -> Iterator[tuple[Path, Made]]:
    """Yield a journal in a folder of its own, with enough free space for its derivatives."""
    needed = _FREE_SPACE_FACTOR * (size.pages * 4096 + size.events * 64)
    with tempfile.TemporaryDirectory(dir=find_folder(needed)) as folder:
        path = Path(folder) / "journal"
        yield path, toolkit_journal.make(path, size)


def find_folder(size: int) -> Path:
    """Return the first folder with enough free space, starting with the benchmarks' own."""
    places = [FOLDER, Path(tempfile.gettempdir())]
    for place in places:
        if shutil.disk_usage(place).free >= size:
            return place
    raise SystemExit(f"{size} bytes are needed, and there is no room for them")


def _words(made: Made) -> str:
    return f"{made.events} events, {made.raw_size / 1e6:.0f} MB in {made.size / 1e6:.0f} MB"


# -- compaction -----------------------------------------------------------------------------------


def compaction(rounds: int, size: Size) -> Iterator[Figure]:
    """Yield the rate of a compaction that keeps the newest snapshot, beside a hash of the bytes."""
    with open_journal(size) as (path, made):
        target = path.with_name("compacted")
        runs: list[OperationResult] = []
        hashes: list[OperationResult] = []
        for index in range(rounds + 1):
            target.unlink(missing_ok=True)
            hashed, ran = run_operation("hash", path), run_operation("compact", path, target, 1)
            assert (ran.facts["events"], ran.facts["size"]) == (made.events, made.raw_size)
            if index:
                hashes.append(hashed)
                runs.append(ran)
        group = f"toolkit: compaction of {_words(made)}, for the newest snapshot"
        yield from _rates(group, made, runs)
        yield Figure(
            group=group,
            name="peak memory",
            unit="MiB",
            values=tuple(run.peak for run in runs),
            limit=PEAK_MEBIBYTES_MAX,
            note=f"{runs[0].facts['kept_events']} events stay",
        )
        yield Figure(
            group=group,
            name="file / file before",
            unit=RATIO,
            values=(target.stat().st_size / made.size,),
        )
        over, under = _walls(runs), _walls(hashes)
        name = "compaction / reading and hashing its bytes, wall"
        yield Figure(group=group, name=name, unit=RATIO, values=ratios(over, under))


def _rates(group: str, made: Made, runs: list[OperationResult]) -> Iterator[Figure]:
    for name, unit, amount, floor in (
        ("payloads", "GB/s", made.raw_size / 1e9, GIGABYTES_MIN),
        ("file", "GB/s", made.size / 1e9, None),
        ("events", "M/s", made.events / 1e6, MILLIONS_MIN),
    ):
        for clock, spans in (("wall", _walls(runs)), ("cpu", _cpus(runs))):
            yield Figure(
                group=group,
                name=f"{name}, {clock}",
                unit=unit,
                values=tuple(amount / span for span in spans),
                floor=floor if clock == "wall" else None,
                side=Side.OURS if clock == "wall" and floor is not None else Side.NONE,
            )


def _walls(runs: list[OperationResult]) -> tuple[float, ...]:
    return tuple(run.span.wall for run in runs)


def _cpus(runs: list[OperationResult]) -> tuple[float, ...]:
    return tuple(run.span.cpu for run in runs)


# -- filters --------------------------------------------------------------------------------------


def filters(rounds: int, size: Size) -> Iterator[Figure]:
    """Yield the rates of listing and writing events of one tag, beside a count of tags."""
    with open_journal(size) as (path, made):
        for kind in (StreamWrite, Snapshot):
            group = f"toolkit: filter by tag, {kind.__name__} alone, of {_words(made)}"
            yield from _filtered(group, path, made, kind.tag, rounds)


def _filtered(group: str, path: Path, made: Made, tag: int, rounds: int) -> Iterator[Figure]:
    target = path.with_name("filtered")
    operations: dict[str, tuple[object, ...]] = {
        "filter, told": ("filter", path, "", tag),
        "filter, written": ("filter", path, target, tag),
        "count of its tags": ("count", path, tag),
    }
    found: dict[str, list[OperationResult]] = {name: [] for name in operations}
    for index in range(rounds + 1):
        for name, (operation, *arguments) in operations.items():
            target.unlink(missing_ok=True)
            ran = run_operation(str(operation), *arguments)
            if index:
                found[name].append(ran)
    target.unlink(missing_ok=True)
    assert len({run.facts["events"] for runs in found.values() for run in runs}) == 1
    counting = _cpus(found["count of its tags"])
    for name, runs in found.items():
        values = tuple(made.events / 1e6 / span for span in _cpus(runs))
        side = Side.LIMIT if name.startswith("count") else Side.OURS
        yield Figure(group=group, name=name, unit="M/s", values=values, side=side)
    for name in ("filter, told", "filter, written"):
        yield Figure(
            group=group,
            name=f"{name} / count of its tags, cpu",
            unit=RATIO,
            values=ratios(counting, _cpus(found[name])),
            floor=COLUMNS_RATIO_MIN,
        )


# -- pieces ---------------------------------------------------------------------------------------


def pieces(rounds: int, size: Size) -> Iterator[Figure]:
    """Yield the rates of split, concat and cut, beside a copy of the file."""
    with open_journal(size) as (path, made):
        with Reader(path) as reader:
            at = [frame.seq for frame in reader.frames(tags={Snapshot.tag})]
        found: dict[str, list[Span]] = {}
        for index in range(rounds + 1):
            for name, span in _measure_pieces(path, made, at[len(at) // 2]):
                if index:
                    found.setdefault(name, []).append(span)
    group = f"toolkit: pieces of {_words(made)}, written and synced"
    for name, spans in found.items():
        values = tuple(made.size / 1e9 / span.wall for span in spans)
        side = Side.LIMIT if name == "copy" else Side.OURS
        yield Figure(group=group, name=f"{name}, wall", unit="GB/s", values=values, side=side)
    for name in found:
        if name != "copy":
            values = tuple(made.size / 1e9 / span.cpu for span in found[name])
            yield Figure(group=group, name=f"{name}, cpu", unit="GB/s", values=values)


def _measure_pieces(path: Path, made: Made, at: int) -> Iterator[tuple[str, Span]]:
    """Run each operation once. A cut counts as much of the file as it keeps."""
    folder, target = path.with_name("parts"), path.with_name("target")
    yield "copy", run_operation("copy", path, target).span
    target.unlink()
    yield "split", run_operation("split", path, folder, made.size // _PARTS).span
    yield "concat", run_operation("concat", folder, target).span
    shutil.rmtree(folder)
    target.unlink()
    cut = run_operation("cut", path, target, at).span
    share = target.stat().st_size / made.size
    yield "cut", Span(cut.cpu / share, cut.wall / share)
    target.unlink()


# -- lines ----------------------------------------------------------------------------------------


def lines(rounds: int, size: Size) -> Iterator[Figure]:
    """Yield the rate of an export as JSON lines, to nowhere."""
    with open_journal(size) as (path, made):
        runs = [run_operation("export", path, "/dev/null") for _ in range(rounds + 1)][1:]
    group = f"toolkit: JSON lines of {_words(made)}"
    for clock, spans in (("wall", _walls(runs)), ("cpu", _cpus(runs))):
        for name, unit, amount in (
            ("lines", "M/s", made.events / 1e6),
            ("payloads", "GB/s", made.raw_size / 1e9),
        ):
            yield Figure(
                group=group,
                name=f"{name}, {clock}",
                unit=unit,
                values=tuple(amount / span for span in spans),
                side=Side.OURS if clock == "wall" else Side.NONE,
            )

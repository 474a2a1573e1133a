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
from benchmarks.toolkit_journal import JournalContents, Size
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
def open_journal(size: Size) -> Iterator[tuple[Path, JournalContents]]:
    """Yield a journal in a folder of its own, with enough free space for its derivatives."""
    needed = _FREE_SPACE_FACTOR * (size.pages * 4096 + size.events * 64)
    with tempfile.TemporaryDirectory(dir=find_folder(needed)) as folder:
        path = Path(folder) / "journal"
        yield path, toolkit_journal.make(path, size)


def find_folder(size: int) -> Path:
    """Return the first folder with enough free space, starting with the benchmarks' own."""
    folders = [FOLDER, Path(tempfile.gettempdir())]
    for folder in folders:
        if shutil.disk_usage(folder).free >= size:
            return folder
    raise SystemExit(f"no folder has {size} bytes of free space")


def _words(contents: JournalContents) -> str:
    raw, size = contents.raw_size / 1e6, contents.size / 1e6
    return f"{contents.events} events, {raw:.0f} MB in {size:.0f} MB"


# -- compaction -----------------------------------------------------------------------------------


def compaction(rounds: int, size: Size) -> Iterator[Figure]:
    """Yield the rate of a compaction that keeps the newest snapshot, and of a hash of the bytes."""
    with open_journal(size) as (path, contents):
        target = path.with_name("compacted")
        runs: list[OperationResult] = []
        hashes: list[OperationResult] = []
        for index in range(rounds + 1):
            target.unlink(missing_ok=True)
            hash_result, result = (
                run_operation("hash", path),
                run_operation("compact", path, target, 1),
            )
            assert (result.facts["events"], result.facts["size"]) == (
                contents.events,
                contents.raw_size,
            )
            if index:
                hashes.append(hash_result)
                runs.append(result)
        group = f"toolkit: compaction of {_words(contents)}, for the newest snapshot"
        yield from _rates(group, contents, runs)
        yield Figure(
            group=group,
            name="peak memory",
            unit="MiB",
            values=tuple(run.peak for run in runs),
            limit=PEAK_MEBIBYTES_MAX,
            note=f"{runs[0].facts['kept_events']} events retained",
        )
        yield Figure(
            group=group,
            name="file / original file",
            unit=RATIO,
            values=(target.stat().st_size / contents.size,),
        )
        over, under = _walls(runs), _walls(hashes)
        name = "compaction / reading and hashing its bytes, wall"
        yield Figure(group=group, name=name, unit=RATIO, values=ratios(over, under))


def _rates(group: str, contents: JournalContents, runs: list[OperationResult]) -> Iterator[Figure]:
    for name, unit, amount, floor in (
        ("payloads", "GB/s", contents.raw_size / 1e9, GIGABYTES_MIN),
        ("file", "GB/s", contents.size / 1e9, None),
        ("events", "M/s", contents.events / 1e6, MILLIONS_MIN),
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
    """Yield the rates of listing and writing events of one tag, and of a count of tags."""
    with open_journal(size) as (path, contents):
        for kind in (StreamWrite, Snapshot):
            group = f"toolkit: filter by tag, {kind.__name__} alone, of {_words(contents)}"
            yield from _measure_filter(group, path, contents, kind.tag, rounds)


def _measure_filter(
    group: str, path: Path, contents: JournalContents, tag: int, rounds: int
) -> Iterator[Figure]:
    target = path.with_name("filtered")
    operations: dict[str, tuple[object, ...]] = {
        "filter, counted": ("filter", path, "", tag),
        "filter, written": ("filter", path, target, tag),
        "count of its tags": ("count", path, tag),
    }
    results_by_name: dict[str, list[OperationResult]] = {name: [] for name in operations}
    for index in range(rounds + 1):
        for name, (operation, *arguments) in operations.items():
            target.unlink(missing_ok=True)
            result = run_operation(str(operation), *arguments)
            if index:
                results_by_name[name].append(result)
    target.unlink(missing_ok=True)
    assert len({run.facts["events"] for runs in results_by_name.values() for run in runs}) == 1
    counting = _cpus(results_by_name["count of its tags"])
    for name, runs in results_by_name.items():
        values = tuple(contents.events / 1e6 / span for span in _cpus(runs))
        side = Side.LIMIT if name.startswith("count") else Side.OURS
        yield Figure(group=group, name=name, unit="M/s", values=values, side=side)
    for name in ("filter, counted", "filter, written"):
        yield Figure(
            group=group,
            name=f"{name} / count of its tags, cpu",
            unit=RATIO,
            values=ratios(counting, _cpus(results_by_name[name])),
            floor=COLUMNS_RATIO_MIN,
        )


# -- pieces ---------------------------------------------------------------------------------------


def pieces(rounds: int, size: Size) -> Iterator[Figure]:
    """Yield the rates of split, concat and cut, and of a copy of the file."""
    with open_journal(size) as (path, contents):
        with Reader(path) as reader:
            at = [frame.seq for frame in reader.frames(tags={Snapshot.tag})]
        results_by_name: dict[str, list[Span]] = {}
        for index in range(rounds + 1):
            for name, span in _measure_pieces(path, contents, at[len(at) // 2]):
                if index:
                    results_by_name.setdefault(name, []).append(span)
    group = f"toolkit: pieces of {_words(contents)}, written and synced"
    for name, spans in results_by_name.items():
        values = tuple(contents.size / 1e9 / span.wall for span in spans)
        side = Side.LIMIT if name == "copy" else Side.OURS
        yield Figure(group=group, name=f"{name}, wall", unit="GB/s", values=values, side=side)
    for name in results_by_name:
        if name != "copy":
            values = tuple(contents.size / 1e9 / span.cpu for span in results_by_name[name])
            yield Figure(group=group, name=f"{name}, cpu", unit="GB/s", values=values)


def _measure_pieces(path: Path, contents: JournalContents, at: int) -> Iterator[tuple[str, Span]]:
    """Run each operation once. The time of a cut is scaled to the size of the whole file."""
    folder, target = path.with_name("parts"), path.with_name("target")
    yield "copy", run_operation("copy", path, target).span
    target.unlink()
    yield "split", run_operation("split", path, folder, contents.size // _PARTS).span
    yield "concat", run_operation("concat", folder, target).span
    shutil.rmtree(folder)
    target.unlink()
    cut = run_operation("cut", path, target, at).span
    share = target.stat().st_size / contents.size
    yield "cut", Span(cut.cpu / share, cut.wall / share)
    target.unlink()


# -- lines ----------------------------------------------------------------------------------------


def lines(rounds: int, size: Size) -> Iterator[Figure]:
    """Yield the rate of an export as JSON lines to /dev/null."""
    with open_journal(size) as (path, contents):
        runs = [run_operation("export", path, "/dev/null") for _ in range(rounds + 1)][1:]
    group = f"toolkit: JSON lines of {_words(contents)}"
    for clock, spans in (("wall", _walls(runs)), ("cpu", _cpus(runs))):
        for name, unit, amount in (
            ("lines", "M/s", contents.events / 1e6),
            ("payloads", "GB/s", contents.raw_size / 1e9),
        ):
            yield Figure(
                group=group,
                name=f"{name}, {clock}",
                unit=unit,
                values=tuple(amount / span for span in spans),
                side=Side.OURS if clock == "wall" else Side.NONE,
            )

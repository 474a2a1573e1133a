"""The toolkit over one large journal: compaction, filters, pieces, and lines."""

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
from benchmarks.toolkit_deeds import Done, done
from benchmarks.toolkit_journal import Made, Size
from journal import Reader
from journal.events.snapshots import Snapshot
from journal.events.streams import StreamWrite

GIGABYTES_MIN = 0.5
MILLIONS_MIN = 1.0
PEAK_MEBIBYTES_MAX = 256
COLUMNS_RATIO_MIN = 1.0

_ROOM = 4
"""How many times a journal's size a folder must have free: copies of it, and pages in a file."""
_PARTS = 8
_MEBIBYTE = 1 << 20


@contextmanager
def journal_of(size: Size) -> Iterator[tuple[Path, Made]]:
    """A journal in a folder of its own, where there is room for what is made of it."""
    needed = _ROOM * (size.pages * 4096 + size.events * 64)
    with tempfile.TemporaryDirectory(dir=roomy(needed)) as folder:
        path = Path(folder) / "journal"
        yield path, toolkit_journal.make(path, size)


def roomy(size: int) -> Path:
    """The first folder that has so many bytes free: that of the benchmarks, if it does."""
    places = [FOLDER, Path(tempfile.gettempdir())]
    for place in places:
        if shutil.disk_usage(place).free >= size:
            return place
    raise SystemExit(f"{size} bytes are needed, and there is no room for them")


def _words(made: Made) -> str:
    return f"{made.events} events, {made.raw_size / 1e6:.0f} MB in {made.size / 1e6:.0f} MB"


# -- compaction -----------------------------------------------------------------------------------


def compaction(rounds: int, size: Size) -> Iterator[Figure]:
    """How fast a journal is compacted for its newest snapshot, beside a hash of its bytes."""
    with journal_of(size) as (path, made):
        target = path.with_name("compacted")
        runs: list[Done] = []
        hashes: list[Done] = []
        for index in range(rounds + 1):
            target.unlink(missing_ok=True)
            hashed, ran = done("hash", path), done("compact", path, target, 1)
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


def _rates(group: str, made: Made, runs: list[Done]) -> Iterator[Figure]:
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


def _walls(runs: list[Done]) -> tuple[float, ...]:
    return tuple(run.span.wall for run in runs)


def _cpus(runs: list[Done]) -> tuple[float, ...]:
    return tuple(run.span.cpu for run in runs)


# -- filters --------------------------------------------------------------------------------------


def filters(rounds: int, size: Size) -> Iterator[Figure]:
    """Events of one tag told and written, beside a pass over the columns that counts them."""
    with journal_of(size) as (path, made):
        for kind in (StreamWrite, Snapshot):
            group = f"toolkit: filter by tag, {kind.__name__} alone, of {_words(made)}"
            yield from _filtered(group, path, made, kind.tag, rounds)


def _filtered(group: str, path: Path, made: Made, tag: int, rounds: int) -> Iterator[Figure]:
    target = path.with_name("filtered")
    deeds: dict[str, tuple[object, ...]] = {
        "filter, told": ("filter", path, "", tag),
        "filter, written": ("filter", path, target, tag),
        "count of its tags": ("count", path, tag),
    }
    found: dict[str, list[Done]] = {name: [] for name in deeds}
    for index in range(rounds + 1):
        for name, (deed, *arguments) in deeds.items():
            target.unlink(missing_ok=True)
            ran = done(str(deed), *arguments)
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
    """Split, joined again and cut, beside a copy of the file."""
    with journal_of(size) as (path, made):
        with Reader(path) as reader:
            at = [frame.seq for frame in reader.frames(tags={Snapshot.tag})]
        found: dict[str, list[Span]] = {}
        for index in range(rounds + 1):
            for name, span in _in_pieces(path, made, at[len(at) // 2]):
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


def _in_pieces(path: Path, made: Made, at: int) -> Iterator[tuple[str, Span]]:
    """Each once, and what it took; a cut counts as much as it keeps of the file."""
    folder, target = path.with_name("parts"), path.with_name("target")
    yield "copy", done("copy", path, target).span
    target.unlink()
    yield "split", done("split", path, folder, made.size // _PARTS).span
    yield "concat", done("concat", folder, target).span
    shutil.rmtree(folder)
    target.unlink()
    cut = done("cut", path, target, at).span
    share = target.stat().st_size / made.size
    yield "cut", Span(cut.cpu / share, cut.wall / share)
    target.unlink()


# -- lines ----------------------------------------------------------------------------------------


def lines(rounds: int, size: Size) -> Iterator[Figure]:
    """Exported as JSON lines, to nowhere."""
    with journal_of(size) as (path, made):
        runs = [done("export", path, "/dev/null") for _ in range(rounds + 1)][1:]
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

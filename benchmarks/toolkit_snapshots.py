"""Size of the journal of a process that changes one percent of its memory between snapshots.

The lower bound is the set of needed pages, each once, as one zstd frame. The sizes of common tools
for an image of each snapshot are reported, too.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

from benchmarks import log_events
from benchmarks.figures import RATIO, Figure, Side
from benchmarks.peers import Span
from benchmarks.stopwatch import Stopwatch
from benchmarks.toolkit_journal import Output, preamble, snapshot_of
from benchmarks.toolkit_operations import run_operation
from benchmarks.toolkit_work import find_folder
from journal.events import codec
from journal.events.memory import PAGE_SIZE
from journal.pages.encoding import ZERO_PAGE, ChangedPage, encode_pages

SPACE_RATIO_MAX = 1.10
LEVEL = 1
"""Compression level, the same as for blocks of a journal."""
_TOOL_LEVEL = 3
_SHARE = 100
_POOL = 1024
_PIECE_SIZE = 16
_MEBIBYTE = 1 << 20


class ChangingMemory:
    """Memory in pages. Each turn changes one percent of the pages, half of these in few bytes."""

    def __init__(self, mebibytes: int) -> None:
        self._generator = random.Random(4)
        pool = log_events.make_pages(_POOL).payloads
        self.pages = [self._shuffle(pool[n % _POOL]) for n in range(mebibytes << 8)]
        self._pool = [page for page in pool if any(page)]

    def turn(self) -> list[ChangedPage]:
        """Change pages, and return them."""
        count = len(self.pages)
        changed = []
        for number in sorted(self._generator.sample(range(count), max(1, count // _SHARE))):
            old_page = self.pages[number]
            if number % 2:
                at = self._generator.randrange(PAGE_SIZE - 64)
                page = old_page[:at] + self._generator.randbytes(64) + old_page[at + 64 :]
            else:
                page = self._shuffle(self._generator.choice(self._pool))
            self.pages[number] = page
            changed.append(ChangedPage(number, page, old_page))
        return changed

    def whole(self) -> list[ChangedPage]:
        """Return all pages."""
        return [
            ChangedPage(n, page, ZERO_PAGE)
            for n, page in enumerate(self.pages)
            if page != ZERO_PAGE
        ]

    def _shuffle(self, page: bytes) -> bytes:
        """Return the content of a page, permuted to be unique; zeros remain zeros."""
        if page == ZERO_PAGE:
            return page
        pieces = [page[at : at + _PIECE_SIZE] for at in range(0, PAGE_SIZE, _PIECE_SIZE)]
        self._generator.shuffle(pieces)
        return b"".join(pieces)


class DistinctPages:
    """Distinct pages as one frame; stores only their hashes and the size of the frame."""

    def __init__(self, level: int) -> None:
        self.count = self.size = 0
        self._seen: set[bytes] = set()
        self._frame = zstandard.ZstdCompressor(level=level).compressobj()

    def add(self, pages: Iterable[bytes]) -> None:
        """Add the pages that are new."""
        for page in pages:
            if page != ZERO_PAGE and page not in self._seen:
                self._seen.add(page)
                self.count += 1
                self.size += len(self._frame.compress(page))

    def end(self) -> int:
        """Return the size of the frame."""
        self.size += len(self._frame.flush())
        return self.size


def figures(mebibytes: int, count: int) -> Iterator[Figure]:
    """Yield sizes, which are equal in each round, and the time of the tools, measured once."""
    needed = (count + 4) * mebibytes * _MEBIBYTE
    with tempfile.TemporaryDirectory(dir=find_folder(needed)) as name:
        folder = Path(name)
        path, every, last = folder / "journal", DistinctPages(LEVEL), DistinctPages(LEVEL)
        memory = ChangingMemory(mebibytes)
        with _Images(folder, mebibytes) as images, Output(path) as output:
            for event in preamble():
                output.put(event.tag, codec.encode(event))
            for number in range(count):
                changed = memory.turn() if number else memory.whole()
                every.add(page.now for page in changed)
                parts = encode_pages(0, mebibytes * _MEBIBYTE, changed)
                for event in snapshot_of(number, parts, whole=not number):
                    output.put(event.tag, codec.encode(event))
                images.take(memory.pages)
        last.add(memory.pages)
        yield from _measure_compaction(path, mebibytes, count, every, last)
        yield from images.figures(count)


def _measure_compaction(
    path: Path, mebibytes: int, count: int, every: DistinctPages, last: DistinctPages
) -> Iterator[Figure]:
    group = f"toolkit: {count} snapshots of {mebibytes} MiB, one page in {_SHARE} changed between"
    yield _size(group, "the journal", path.stat().st_size, Side.OURS)
    target = path.with_name("compacted")
    for keep, pages in ((count, every), (1, last)):
        result = run_operation("compact", path, target, keep)
        size, needed = target.stat().st_size, pages.end()
        target.unlink()
        words = f"compacted, {keep} retained"
        note = f"{result.span.wall:.1f} s wall, {result.span.cpu:.1f} s cpu, {result.peak:.0f} MiB"
        yield _size(group, words, size, Side.OURS, note)
        yield _size(group, f"{pages.count} distinct pages of {keep}, zstd", needed, Side.LIMIT)
        yield Figure(
            group=group,
            name=f"{words} / its distinct pages, zstd",
            unit=RATIO,
            values=(size / needed,),
            limit=SPACE_RATIO_MAX,
        )


def _size(group: str, name: str, size: int, side: Side, note: str = "") -> Figure:
    values = (size / _MEBIBYTE,)
    return Figure(group=group, name=name, unit="MiB", values=values, side=side, note=note)


class _Images:
    """Sizes of other tools' archives of an image of each snapshot; a context manager."""

    def __init__(self, folder: Path, mebibytes: int) -> None:
        self._image, self._borg = folder / "image", folder / "borg"
        self._mebibytes = mebibytes
        # zstd finds earlier pages only within this window.
        window = min(31, (2 * mebibytes * _MEBIBYTE).bit_length())
        values = zstandard.ZstdCompressionParameters.from_level(
            _TOOL_LEVEL, window_log=max(window, 10), enable_ldm=True
        )
        self._each = zstandard.ZstdCompressor(level=_TOOL_LEVEL)
        self._long = zstandard.ZstdCompressor(compression_params=values).compressobj()
        self._sizes = {"zstd of each image": 0, "zstd --long of all images": 0}
        self._spans = {name: Span(0, 0) for name in self._sizes}
        self._has_borg = shutil.which("borg") is not None

    def __enter__(self) -> _Images:
        if self._has_borg:
            self._run("init", "--encryption=none", str(self._borg))
        return self

    def __exit__(self, *_: object) -> None:
        self._image.unlink(missing_ok=True)

    def take(self, pages: list[bytes]) -> None:
        """Add an image."""
        image = b"".join(pages)
        watch = Stopwatch()
        self._count("zstd of each image", len(self._each.compress(image)), watch)
        self._count("zstd --long of all images", len(self._long.compress(image)), watch)
        if self._has_borg:
            self._image.write_bytes(image)
            watch = Stopwatch()
            self._run("create", "--compression=zstd,1", f"{self._borg}::{{now}}", str(self._image))
            self._count("borg create of each image", 0, watch)

    def figures(self, count: int) -> Iterator[Figure]:
        """Yield the sizes."""
        self._count("zstd --long of all images", len(self._long.flush()), Stopwatch())
        if self._has_borg:
            files = [path for path in self._borg.rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files)
            self._count("borg create of each image", size, Stopwatch())
        group = f"toolkit: other tools, {count} images of {self._mebibytes} MiB"
        for name, size in self._sizes.items():
            span = self._spans[name]
            note = f"{span.wall:.1f} s wall"
            if "borg" not in name:  # borg runs in another process.
                note += f", {span.cpu:.1f} s cpu"
            yield _size(group, name, size, Side.PEER, note)

    def _count(self, name: str, size: int, watch: Stopwatch) -> None:
        self._spans[name] = self._spans.get(name, Span(0, 0)) + watch.lap()
        self._sizes[name] = self._sizes.get(name, 0) + size

    def _run(self, *arguments: str) -> None:
        subprocess.run(["borg", *arguments], check=True, capture_output=True)


def list_absent() -> Iterator[str]:
    """Yield a sentence for each tool that is not installed."""
    if shutil.which("borg") is None:
        yield "borg is not installed, so its row is omitted"

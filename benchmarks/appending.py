"""The journal's file alone: how fast events of 60 bytes go in and come out."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.peers import Span
from benchmarks.stopwatch import FOLDER, Stopwatch
from journal import Reader, Writer
from journal.events.descriptors import FileDescriptorWrite

COUNT = 500_000
SIZE = 60
_TAG = FileDescriptorWrite.tag


def _appended(path: Path, payloads: list[bytes]) -> None:
    with Writer(path) as writer:
        append = writer.append_frame
        for payload in payloads:
            append(_TAG, payload)


def _scanned(path: Path) -> None:
    with Reader(path) as reader:
        assert sum(1 for _ in reader.frames()) == COUNT


def _walked(path: Path) -> None:
    with Reader(path) as reader:
        assert sum(len(block.payloads()) for block in reader.blocks()) == COUNT


def _summarized(path: Path) -> None:
    with Reader(path) as reader:
        assert reader.summary().events == COUNT


def figures(rounds: int) -> Iterator[Figure]:
    """Events that repeat themselves, as most do, and events of noise."""
    chance = random.Random(1)
    text = [f"round {n} record {n % 977}".ljust(SIZE, "x").encode() for n in range(COUNT)]
    noise = [chance.randbytes(SIZE) for _ in range(COUNT)]
    yield from _of("text", text, rounds)
    yield from _of("noise", noise, rounds)


def _of(words: str, payloads: list[bytes], rounds: int) -> Iterator[Figure]:
    deeds: dict[str, Callable[[Path], None]] = {
        "append and close": partial(_appended, payloads=payloads),
        "frames()": _scanned,
        "blocks() with payloads": _walked,
        "summary()": _summarized,
    }
    found: dict[str, list[Span]] = {name: [] for name in deeds}
    for index in range(rounds + 1):
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            for name, deed in deeds.items():
                watch = Stopwatch()
                deed(Path(folder) / "journal")
                span = watch.lap()
                if index:
                    found[name].append(span)
    group = f"journal: {COUNT} events of {SIZE} bytes of {words}"
    for name, spans in found.items():
        cpu = tuple(span.cpu / COUNT * 1e9 for span in spans)
        wall = tuple(span.wall / COUNT * 1e9 for span in spans)
        yield Figure(group=group, name=f"{name}, CPU", unit="ns", values=cpu)
        yield Figure(group=group, name=f"{name}, wall", unit="ns", values=wall)

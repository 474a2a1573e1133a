"""`journaltool verify --jobs 2` over many journals of 1 MiB, relative to one job."""

from __future__ import annotations

import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import RATIO, Figure, Side, ratios
from benchmarks.peers import ROOT, Span
from benchmarks.stopwatch import FOLDER
from journal import Writer
from journal.events.descriptors import FileDescriptorWrite

COUNT = 1000
QUICK_COUNT = 60
RATIO_MIN = 1.8

_SIZE = 1 << 20
_WRITE_SIZE = 1 << 7
_JOBS = (1, 2)
_DIFFERENT = 100


def figures(rounds: int, count: int) -> Iterator[Figure]:
    """Yield the figures of the part."""
    spans: dict[int, list[Span]] = {jobs: [] for jobs in _JOBS}
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        paths = _write_journals(folder, count)
        for index in range(rounds + 1):
            for jobs in _JOBS if index % 2 else reversed(_JOBS):
                span = _verify(paths, jobs, folder)
                if index:  # The first round reads the journals from the disk.
                    spans[jobs].append(span)
    group = f"verify of {count} journals of 1 MiB"
    for jobs, found in spans.items():
        for clock in ("wall", "cpu"):
            values = tuple(getattr(span, clock) for span in found)
            name = f"{jobs} job" if jobs == 1 else f"{jobs} jobs"
            yield Figure(
                group=group, name=f"{name}, {clock}", unit="s", values=values, side=Side.OURS
            )
    one, two = ([span.wall for span in spans[jobs]] for jobs in _JOBS)
    yield Figure(
        group=group,
        name="speed of 2 jobs / 1 job, wall",
        unit=RATIO,
        values=ratios(one, two),
        floor=RATIO_MIN,
    )


def _write_journals(folder: Path, count: int) -> list[Path]:
    """Write journals of a guest that appends lines to a file. The first hundred differ."""
    paths = [folder / f"{number:05}.journal" for number in range(count)]
    for number, path in enumerate(paths):
        if number >= _DIFFERENT:
            shutil.copy(paths[number % _DIFFERENT], path)
            continue
        data = random.Random(number)
        with Writer(path) as writer:
            for at in range(_SIZE // _WRITE_SIZE):
                content = data.randbytes(_WRITE_SIZE)
                writer.append(
                    FileDescriptorWrite(fd=4, offset=at * _WRITE_SIZE, is_64bit=False, data=content)
                )
    return paths


def _verify(paths: Sequence[Path], jobs: int, folder: Path) -> Span:
    """Verify all journals in a new process, and return its time and that of its workers."""
    command = [sys.executable, "-m", "journaltool", "verify", "--quiet", "--again"]
    arguments = ["--jobs", str(jobs), *map(str, paths)]
    environment = {"XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": f"{ROOT}:{ROOT}/cli"}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*command, *arguments], cwd=ROOT, env=environment, check=True)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Span(cpu, wall)

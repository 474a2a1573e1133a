"""Events of a small tree of files, and checks of its replay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from journal.events import descriptors, paths, process
from journal.events.definition import Event
from journal.events.process import MountKind
from journal.replay import DirectoryHost, ModelHost, ReplayError, play
from tests.support.sample_events import frames_of_events, open_path

WEST, EAST = 3, 4


MOUNTS = (
    process.Mount(fd=WEST, kind=MountKind.MEMORY, guest="/west", host=""),
    process.Mount(fd=EAST, kind=MountKind.MEMORY, guest="/lands/east", host=""),
)


TREE = (
    *MOUNTS,
    paths.CreateDirectory(fd=WEST, path="d"),
    paths.CreateDirectory(fd=WEST, path="d/d"),
    open_path(5, WEST, "a", 1),
    open_path(6, WEST, "d", 2),
    open_path(7, EAST, "b", 1),
    descriptors.FileDescriptorWrite(fd=5, offset=0, data=b"abc"),
)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def open_descriptors() -> list[Path]:
    return sorted(Path("/proc/self/fd").iterdir())


def refusal_of(host: ModelHost | DirectoryHost, events: Sequence[Event]) -> str:
    with pytest.raises(ReplayError) as caught:
        play(frames_of_events(events), host)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)

"""Replay into a real directory, which no content of a journal can leave."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal import OptionError
from journal.events import descriptors, paths, process
from journal.events.definition import Event
from journal.events.paths import FileType
from journal.events.process import MountKind
from journal.replay import DirectoryHost, ModelHost, ReplayLimits, play
from tests.support.replayed_files import MOUNTS, WEST, files_below, open_descriptors, refusal_of
from tests.support.sample_events import frames_of_events, open_path

SECRET = b"SECRET: nobody may read this, or write to it"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return an empty directory with a secret file in its parent directory."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "outside").mkdir()
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


# -- hostile journals ---------------------------------------------------------------------------

ESCAPING_PATHS = [
    "../secret",
    "d/../../secret",
    "/etc/passwd",
    "link",
    "up/secret",
    "",
    "a\0b",
    "n" * 256,
    "n/" * 2048 + "n",
    "loop",
    "loop/a",
]


def hostile_tree() -> Iterator[Event]:
    """Return events of a directory, and of links that leave it or form a cycle."""
    yield from MOUNTS
    yield paths.CreateDirectory(fd=WEST, path="d")
    yield paths.CreateSymbolicLink(fd=WEST, old_path="../secret", new_path="link")
    yield paths.CreateSymbolicLink(fd=WEST, old_path="..", new_path="up")
    yield paths.CreateSymbolicLink(fd=WEST, old_path="loop", new_path="loop")
    yield paths.FilePlaced(
        kind=FileType.SYMBOLIC_LINK, offset=0, path="/west/absolute", data=b"/etc/passwd"
    )


@pytest.mark.parametrize("path", [*ESCAPING_PATHS, "absolute"])
def test_no_path_leaves_the_directory(path: str, target: Path) -> None:
    tree = list(hostile_tree())
    attempts: list[Event] = [
        open_path(5, WEST, path, 1),
        open_path(5, WEST, path, 8),
        paths.PathSetTimes(fd=WEST, flags=1, st_atim=1, st_mtim=1, fst_flags=5, path=path),
        paths.CreateDirectory(fd=WEST, path=path + "/" if path == "absolute" else path),
    ]
    for attempt in attempts:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            with DirectoryHost(folder) as real:
                refusal = refusal_of(real, [*tree, attempt])
            assert (
                refusal == refusal_of(ModelHost(), [*tree, attempt])
                or "refused the operation" in refusal
            )
            assert f"event {len(tree)} cannot be replayed: " in refusal
    assert (target.parent / "secret").read_bytes() == SECRET
    assert sorted(path.name for path in target.parent.iterdir()) == ["outside", "secret", "target"]


@pytest.mark.parametrize("path", ["/", "/../secret", "/west/../../secret", "/west/..", "west/a"])
def test_no_file_is_placed_outside(path: str, target: Path) -> None:
    placed = paths.FilePlaced(kind=FileType.REGULAR_FILE, offset=0, path=path, data=b"x")
    with DirectoryHost(target) as real:
        refusal_of(real, [*MOUNTS, placed])
    assert files_below(target) == {}
    assert (target.parent / "secret").read_bytes() == SECRET


def test_a_file_is_not_placed_through_a_link(target: Path) -> None:
    events = [
        *MOUNTS,
        paths.FilePlaced(kind=FileType.SYMBOLIC_LINK, offset=0, path="/west/l", data=b"../.."),
        paths.FilePlaced(kind=FileType.REGULAR_FILE, offset=0, path="/west/l/secret", data=b"x"),
    ]
    with DirectoryHost(target) as real:
        refusal_of(real, events)
    refusal_of(ModelHost(), events)
    assert (target.parent / "secret").read_bytes() == SECRET


@pytest.mark.parametrize("guest", ["..", "../outside", "/a/../../outside", "a\0b", "n" * 300])
def test_no_mount_lies_outside(guest: str, target: Path) -> None:
    mount = process.Mount(fd=3, kind=MountKind.MEMORY, guest=guest, host="")
    with DirectoryHost(target) as real:
        refusal_of(real, [mount, open_path(4, 3, "a", 1)])
    assert list(target.iterdir()) == []
    assert list((target.parent / "outside").iterdir()) == []


def test_a_directory_replaced_by_a_link_meanwhile_is_not_followed(target: Path) -> None:
    with DirectoryHost(target) as real:
        play(frames_of_events([*MOUNTS, paths.CreateDirectory(fd=WEST, path="d")]), real)
        (target / "west/d").rmdir()
        (target / "west/d").symlink_to(target.parent / "outside")
        for event in (
            open_path(5, WEST, "d/a", 1, 1),
            paths.CreateDirectory(fd=WEST, path="d/a"),
            paths.CreateSymbolicLink(fd=WEST, old_path="x", new_path="d/a"),
        ):
            refusal_of(real, [event])
        (target / "west/f").symlink_to(target.parent / "secret")
        refusal_of(real, [open_path(5, WEST, "f", 8, 0)])
        refusal_of(real, [open_path(5, WEST, "f", 8, 1)])
    assert list((target.parent / "outside").iterdir()) == []
    assert (target.parent / "secret").read_bytes() == SECRET


def test_a_pipe_in_place_of_a_file_does_not_block(target: Path) -> None:
    with DirectoryHost(target) as real:
        play(frames_of_events(MOUNTS), real)
        os.mkfifo(target / "west/f")
        refusal_of(real, [open_path(5, WEST, "f", 0)])


def test_a_file_of_absurd_size_is_refused(target: Path) -> None:
    limits = ReplayLimits(files_size_max=1 << 20)
    for event in (
        descriptors.FileDescriptorSetSize(fd=5, st_size=(1 << 64) - 1),
        descriptors.FileDescriptorWrite(fd=5, offset=(1 << 64) - 1, data=b"x"),
        descriptors.FileDescriptorWrite(fd=5, offset=1 << 62, data=b"x"),
        descriptors.FileDescriptorAllocate(fd=5, offset=1 << 63, len=1 << 63),
    ):
        with tempfile.TemporaryDirectory() as folder, DirectoryHost(folder, limits) as real:
            refusal_of(real, [*MOUNTS, open_path(5, WEST, "a", 1), event])
        refusal_of(ModelHost(limits), [*MOUNTS, open_path(5, WEST, "a", 1), event])


def test_the_size_limit_counts_names() -> None:
    events = [paths.CreateDirectory(fd=WEST, path=f"d{number}") for number in range(100)]
    assert "the limit is 65536" in refusal_of(
        ModelHost(ReplayLimits(files_size_max=1 << 16)), [*MOUNTS, *events]
    )


def test_more_open_files_than_the_system_allows_are_refused(target: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 100 + max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    opened = [open_path(5 + number, WEST, f"f{number}", 1) for number in range(limit)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        with DirectoryHost(target) as real:
            refusal = refusal_of(real, [*MOUNTS, *opened])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "Too many open files" in refusal


# -- the directory itself -----------------------------------------------------------------------


def test_the_directory_must_be_there_and_empty(target: Path) -> None:
    (target / "file").write_bytes(b"")
    with pytest.raises(OptionError, match="not empty"):
        DirectoryHost(target)
    with pytest.raises(OptionError, match=r"cannot open .*: No such file or directory"):
        DirectoryHost(target / "nothing")
    with pytest.raises(OptionError, match=r"cannot open .*: Not a directory"):
        DirectoryHost(target / "file")


def test_a_mount_at_the_root_is_the_directory_itself(target: Path) -> None:
    mount = process.Mount(fd=3, kind=MountKind.MEMORY, guest="/", host="")
    with DirectoryHost(target) as real:
        play(frames_of_events([mount, open_path(4, 3, "a", 1)]), real)
    assert files_below(target) == {"a": b""}


@pytest.mark.parametrize(
    ("one", "other"), [("/", "/work"), ("/a/b", "/a"), (".", "/"), ("a", "/a/")]
)
def test_nested_mounts_are_refused(one: str, other: str, target: Path) -> None:
    two = [
        process.Mount(fd=fd, kind=MountKind.MEMORY, guest=guest, host="")
        for fd, guest in ((3, one), (4, other))
    ]
    with DirectoryHost(target) as real:
        assert "cannot" in refusal_of(real, two)


def test_a_directory_of_the_host_is_unchanged(target: Path) -> None:
    outside = target.parent / "outside"
    mount = process.Mount(fd=3, kind=MountKind.HOST, guest="/", host=str(outside))
    events = [mount, open_path(4, 3, "a", 1), paths.CreateDirectory(fd=3, path="d")]
    with DirectoryHost(target) as real:
        play(frames_of_events(events), real)
    assert list(target.iterdir()) == []
    assert list(outside.iterdir()) == []


def test_a_closed_host_leaves_no_descriptor_open(target: Path) -> None:
    before = open_descriptors()
    events = [*MOUNTS, open_path(5, WEST, "a", 1), open_path(6, WEST, ".", 2)]
    with DirectoryHost(target) as real:
        play(frames_of_events(events), real)
        refusal_of(real, [paths.CreateDirectory(fd=WEST, path="a/../b/c")])
        refusal_of(real, [open_path(7, WEST, "../a", 1)])
    assert open_descriptors() == before

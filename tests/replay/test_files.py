"""Replay of files onto values and into a real directory gives the same tree."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal.events import descriptors, paths
from journal.events.definition import Event
from journal.events.descriptors import Whence
from journal.events.paths import FileType
from journal.replay import DirectoryHost, Host, ModelHost, ReplayError, ReplayLimits, play
from tests.support.replayed_files import EAST, MOUNTS, TREE, WEST, files_below, refusal_of
from tests.support.sample_events import frames_of_events, open_path

FEW_NAMES = 6
SECOND = 1_000_000_000

plain = st.sampled_from(["a", "b", "c", "d", "d/a", "d/b", "d/d", "c/a"])
some_paths = plain | st.builds(
    lambda parts, slash: "/".join(parts) + slash,
    st.lists(st.sampled_from(["a", "b", "d", ".", ".."]), min_size=1, max_size=3),
    st.sampled_from(["", "", "", "/"]),
)
west = st.just(WEST)
directories = st.sampled_from([WEST, WEST, WEST, 6, EAST, 5])
files = st.sampled_from([5, 5, 7, 6, 8])
new_fds = st.sampled_from([5, 6, 7, 8, 9, 10])
sizes = st.integers(0, 20)
flags = st.integers(0, 15)
times = st.integers(0, 1 << 40)
some_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(open_path, new_fds, directories, some_paths, flags, st.integers(0, 1)),
    st.builds(open_path, new_fds, directories, some_paths, st.just(1), st.just(1)),
    st.builds(descriptors.CloseFileDescriptor, fd=new_fds),
    st.builds(descriptors.RenumberFileDescriptor, old_fd=new_fds, new_fd=new_fds),
    st.builds(descriptors.DuplicateFileDescriptor, original_fd=new_fds, copied_fd=new_fds),
    st.builds(descriptors.FileDescriptorWrite, fd=files, offset=sizes, data=st.binary(max_size=5)),
    st.builds(descriptors.FileDescriptorSetSize, fd=files, st_size=sizes),
    st.builds(
        descriptors.FileDescriptorAllocate,
        fd=files,
        offset=sizes,
        len=sizes | st.just(FEW_NAMES * 1024),
    ),
    st.builds(
        descriptors.FileDescriptorSetTimes,
        fd=files,
        st_atim=times,
        st_mtim=times,
        fst_flags=flags,
    ),
    st.builds(
        descriptors.FileDescriptorSeek,
        fd=files,
        offset=st.integers(-9, 9),
        whence=st.sampled_from(Whence),
    ),
    st.builds(paths.CreateDirectory, fd=directories, path=some_paths),
    st.builds(paths.RemoveDirectory, fd=directories, path=some_paths),
    st.builds(paths.UnlinkFile, fd=directories, path=some_paths),
    st.builds(paths.RemoveDirectory, fd=west, path=plain),
    st.builds(paths.UnlinkFile, fd=west, path=plain),
    st.builds(paths.PathRename, old_fd=west, new_fd=west, old_path=plain, new_path=plain),
    st.builds(
        paths.CreateHardLink,
        old_fd=west,
        old_flags=st.just(0),
        new_fd=west,
        old_path=plain,
        new_path=plain,
    ),
    st.builds(paths.CreateSymbolicLink, fd=directories, old_path=some_paths, new_path=some_paths),
    st.builds(
        paths.PathRename,
        old_fd=directories,
        new_fd=directories,
        old_path=some_paths,
        new_path=some_paths,
    ),
    st.builds(
        paths.CreateHardLink,
        old_fd=directories,
        old_flags=st.just(0),
        new_fd=directories,
        old_path=some_paths,
        new_path=some_paths,
    ),
    st.builds(
        paths.PathSetTimes,
        fd=directories,
        flags=st.integers(0, 1),
        st_atim=times,
        st_mtim=times,
        fst_flags=flags,
        path=some_paths,
    ),
    st.builds(
        paths.FilePlaced,
        kind=st.sampled_from(FileType),
        offset=st.sampled_from([0, 0, 3]),
        path=some_paths.map(lambda path: f"/west/{path}"),
        data=st.sampled_from([b"", b"abc", b"a/b"]),
    ),
)

FOLDERS = {"/west": "west", "/lands/east": "lands/east"}


class VisibleProperties(NamedTuple):
    """Visible properties of a name in memory and on disk. ``twins`` are hard links to one file."""

    kind: FileType
    mtime: int
    content: bytes
    twins: frozenset[str]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return an empty directory."""
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def names_by_inode(inodes: Iterable[tuple[str, int]]) -> dict[int, frozenset[str]]:
    found: dict[int, set[str]] = {}
    for name, inode in inodes:
        found.setdefault(inode, set()).add(name)
    return {inode: frozenset(names) for inode, names in found.items()}


def properties_in_model(host: ModelHost, guest: str) -> dict[str, VisibleProperties]:
    tree = host.trees[guest]
    twins = names_by_inode((name, entry.inode) for name, entry in tree.items())
    return {
        name: VisibleProperties(entry.kind, entry.mtime, entry.content, twins[entry.inode])
        for name, entry in tree.items()
    }


def properties_on_disk(root: Path) -> dict[str, VisibleProperties]:
    found = {str(path.relative_to(root)): path for path in (root, *root.rglob("*"))}
    twins = names_by_inode((name, path.lstat().st_ino) for name, path in found.items())
    return {
        name: VisibleProperties(
            kind_of(path), path.lstat().st_mtime_ns, content_of(path), twins[path.lstat().st_ino]
        )
        for name, path in found.items()
    }


def assert_same(model: ModelHost, folder: Path) -> None:
    for guest, below in FOLDERS.items():
        expected, found = properties_in_model(model, guest), properties_on_disk(folder / below)
        if not expected["."].mtime:  # No entry of the directory was ever changed.
            del expected["."], found["."]
        assert found == expected


def kind_of(path: Path) -> FileType:
    if path.is_symlink():
        return FileType.SYMBOLIC_LINK
    return FileType.DIRECTORY if path.is_dir() else FileType.REGULAR_FILE


def content_of(path: Path) -> bytes:
    if path.is_symlink():
        return os.fsencode(os.readlink(path))  # noqa: PTH115 (pathlib normalizes the target)
    return path.read_bytes() if path.is_file() else b""


@given(st.lists(some_events, min_size=8, max_size=40))
def test_a_history_gives_the_same_tree_in_memory_and_in_a_directory(events: list[Event]) -> None:
    limits = ReplayLimits(files_size_max=FEW_NAMES * 1024)
    with tempfile.TemporaryDirectory() as folder, DirectoryHost(folder, limits) as real:
        model = ModelHost(limits)
        for frame in frames_of_events([*TREE, *events]):
            before = model.state()
            refused = [False, False]
            hosts: tuple[Host, Host] = (model, real)
            for index, host in enumerate(hosts):
                try:
                    play([frame], host)
                except ReplayError:
                    refused[index] = True
            assert refused[0] == refused[1], f"{frame} is refused by only one host: {refused}"
            if refused[0]:
                assert model.state() == before, "a refused event changes nothing"
        assert_same(model, Path(folder))


def test_an_open_file_is_removed_when_it_is_unlinked(target: Path) -> None:
    events = [
        *MOUNTS,
        open_path(5, WEST, "a", 1),
        descriptors.FileDescriptorWrite(fd=5, offset=0, data=b"before"),
        paths.CreateHardLink(old_fd=WEST, old_flags=0, new_fd=WEST, old_path="a", new_path="b"),
        paths.UnlinkFile(fd=WEST, path="a"),
        descriptors.FileDescriptorWrite(fd=5, offset=6, data=b" and after"),
        open_path(6, WEST, "gone", 1),
        paths.UnlinkFile(fd=WEST, path="gone"),
        descriptors.FileDescriptorWrite(fd=6, offset=0, data=b"nowhere"),
    ]
    model = ModelHost()
    play(frames_of_events(events), model)
    with DirectoryHost(target) as real:
        play(frames_of_events(events), real)
    assert model.files == {"/west/b": b"before and after"}
    assert files_below(target) == {"west/b": b"before and after"}


def replay_on_both(
    target: Path, events: Sequence[Event], limits: ReplayLimits | None = None
) -> ModelHost:
    """Replay the events onto both hosts, which must agree."""
    model = ModelHost(limits)
    play(frames_of_events(events), model)
    with DirectoryHost(target, limits) as real:
        play(frames_of_events(events), real)
        assert_same(model, target)
    return model


def test_a_rename_changes_both_directories_and_keeps_the_file_s_time(target: Path) -> None:
    moved = paths.PathRename(old_fd=6, new_fd=WEST, old_path="f", new_path="a")
    tree = replay_on_both(
        target, [*TREE, open_path(8, 6, "f", 1), open_path(9, WEST, "late", 1), moved]
    ).trees
    assert tree["/west"]["a"].mtime < tree["/west"]["late"].mtime < tree["/west"]["d"].mtime
    assert tree["/west"]["d"].mtime == tree["/west"]["."].mtime


def test_a_file_opened_with_truncate_is_empty(target: Path) -> None:
    assert replay_on_both(target, TREE).files["/west/a"] == b"abc"
    for folder, flags, content in (("kept", 1, b"abc"), ("cut", 8, b""), ("made", 9, b"")):
        (target.parent / folder).mkdir()
        model = replay_on_both(target.parent / folder, [*TREE, open_path(8, WEST, "a", flags)])
        assert model.files["/west/a"] == content


LINK = paths.CreateSymbolicLink(fd=WEST, old_path="nothing", new_path="l")
SLASHED = paths.CreateSymbolicLink(fd=WEST, old_path="a/", new_path="l")
MOVED = paths.PathRename(old_fd=WEST, new_fd=WEST, old_path="d", new_path="c/d")
IN_CIRCLES = paths.PathRename(old_fd=WEST, new_fd=WEST, old_path="c", new_path="c/d/c")


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([LINK, open_path(8, WEST, "l", 5)], "already exists"),
        ([SLASHED, open_path(8, WEST, "l", 0)], "is not a directory"),
        ([paths.CreateDirectory(fd=WEST, path="c"), MOVED, IN_CIRCLES], "refused|into itself"),
        ([paths.RemoveDirectory(fd=WEST, path="d/d/")], "its path ends in / or a dot"),
        ([open_path(8, WEST, "new/", 1)], "it names a directory"),
    ],
)
def test_impossible_events_are_refused_by_both_hosts(
    events: list[Event], reason: str, target: Path
) -> None:
    with DirectoryHost(target) as real:
        for host in (ModelHost(), real):
            assert re.search(reason, refusal_of(host, [*TREE, *events]))


def test_a_hard_link_to_a_symbolic_link_is_a_symbolic_link(target: Path) -> None:
    events = [
        *TREE,
        paths.CreateSymbolicLink(fd=WEST, old_path="a", new_path="l"),
        paths.CreateHardLink(old_fd=WEST, old_flags=0, new_fd=WEST, old_path="l", new_path="m"),
    ]
    found = replay_on_both(target, events).trees["/west"]
    assert found["m"].kind is FileType.SYMBOLIC_LINK
    assert found["m"].inode == found["l"].inode


@pytest.mark.parametrize(
    "way",
    ["unlinked", "unlinked while open", "renamed over", "renumbered over", "cut", "opened anew"],
)
def test_removed_files_free_their_share_of_the_limit(way: str, target: Path) -> None:
    removed = {
        "unlinked": [
            descriptors.CloseFileDescriptor(fd=8),
            paths.UnlinkFile(fd=WEST, path="f"),
        ],
        "unlinked while open": [
            paths.UnlinkFile(fd=WEST, path="f"),
            descriptors.CloseFileDescriptor(fd=8),
        ],
        "renamed over": [
            descriptors.CloseFileDescriptor(fd=8),
            open_path(9, WEST, "g", 1),
            descriptors.CloseFileDescriptor(fd=9),
            paths.PathRename(old_fd=WEST, new_fd=WEST, old_path="g", new_path="f"),
        ],
        "renumbered over": [
            paths.UnlinkFile(fd=WEST, path="f"),
            open_path(9, WEST, "a", 0),
            descriptors.RenumberFileDescriptor(old_fd=9, new_fd=8),
            descriptors.CloseFileDescriptor(fd=8),
        ],
        "cut": [
            descriptors.FileDescriptorSetSize(fd=8, st_size=0),
            descriptors.CloseFileDescriptor(fd=8),
        ],
        "opened anew": [
            descriptors.CloseFileDescriptor(fd=8),
            open_path(8, WEST, "f", 8),
            descriptors.CloseFileDescriptor(fd=8),
        ],
    }
    once = [
        open_path(8, WEST, "f", 1),
        descriptors.FileDescriptorWrite(fd=8, offset=3000, data=b"x"),
        *removed[way],
    ]
    replay_on_both(target, [*TREE, *once * 5], ReplayLimits(files_size_max=9 * 1024))


def test_an_unlinked_open_file_counts_until_it_is_closed(target: Path) -> None:
    limits = ReplayLimits(files_size_max=8 * 1024)
    events = [
        *TREE,
        open_path(8, WEST, "f", 1),
        descriptors.FileDescriptorWrite(fd=8, offset=3000, data=b"x"),
        paths.UnlinkFile(fd=WEST, path="f"),
        descriptors.FileDescriptorSetSize(fd=5, st_size=3000),
    ]
    with DirectoryHost(target, limits) as real:
        assert refusal_of(real, events) == refusal_of(ModelHost(limits), events)


def test_replayed_files_are_accessible_only_to_the_owner(target: Path) -> None:
    events = [*MOUNTS, paths.CreateDirectory(fd=WEST, path="d"), open_path(5, WEST, "d/a", 1)]
    with DirectoryHost(target) as real:
        play(frames_of_events(events), real)
    assert (target / "west/d").stat().st_mode & 0o077 == 0
    assert (target / "west/d/a").stat().st_mode & 0o077 == 0

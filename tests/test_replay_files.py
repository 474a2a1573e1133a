"""Files played onto values and into a real directory: the same tree, which nothing leads out of."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import OptionError
from journal.event import Event
from journal.events import descriptors, paths, process
from journal.events.descriptors import Whence
from journal.events.paths import FileType
from journal.events.process import MountKind
from journal.replay import DirectoryHost, Host, Limits, ModelHost, NotPlayable, play
from tests.test_replay_model import frames_of_events, opening

SECRET = b"SECRET: nobody may read this, or write to it"
WEST, EAST = 3, 4
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
    st.builds(opening, new_fds, directories, some_paths, flags, st.integers(0, 1)),
    st.builds(opening, new_fds, directories, some_paths, st.just(1), st.just(1)),
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

MOUNTS = (
    process.Mount(fd=WEST, kind=MountKind.MEMORY, guest="/west", host=""),
    process.Mount(fd=EAST, kind=MountKind.MEMORY, guest="/lands/east", host=""),
)
TREE = (
    *MOUNTS,
    paths.CreateDirectory(fd=WEST, path="d"),
    paths.CreateDirectory(fd=WEST, path="d/d"),
    opening(5, WEST, "a", 1),
    opening(6, WEST, "d", 2),
    opening(7, EAST, "b", 1),
    descriptors.FileDescriptorWrite(fd=5, offset=0, data=b"abc"),
)
FOLDERS = {"/west": "west", "/lands/east": "lands/east"}


class Seen(NamedTuple):
    """What can be seen of one name, in memory and on a disk; ``twins`` are names of one file."""

    kind: FileType
    mtime: int
    content: bytes
    twins: frozenset[str]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty directory, with a secret beside it."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "outside").mkdir()
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def names_by_inode(inodes: Iterable[tuple[str, int]]) -> dict[int, frozenset[str]]:
    found: dict[int, set[str]] = {}
    for name, inode in inodes:
        found.setdefault(inode, set()).add(name)
    return {inode: frozenset(names) for inode, names in found.items()}


def on_the_model(host: ModelHost, guest: str) -> dict[str, Seen]:
    tree = host.trees[guest]
    twins = names_by_inode((name, entry.inode) for name, entry in tree.items())
    return {
        name: Seen(entry.kind, entry.mtime, entry.content, twins[entry.inode])
        for name, entry in tree.items()
        if name != "."
    }


def on_the_disk(root: Path) -> dict[str, Seen]:
    found = {str(path.relative_to(root)): path for path in root.rglob("*")}
    twins = names_by_inode((name, path.lstat().st_ino) for name, path in found.items())
    return {
        name: Seen(
            kind_of(path), path.lstat().st_mtime_ns, content_of(path), twins[path.lstat().st_ino]
        )
        for name, path in found.items()
    }


def kind_of(path: Path) -> FileType:
    if path.is_symlink():
        return FileType.SYMBOLIC_LINK
    return FileType.DIRECTORY if path.is_dir() else FileType.REGULAR_FILE


def content_of(path: Path) -> bytes:
    if path.is_symlink():
        return os.fsencode(os.readlink(path))  # noqa: PTH115 (pathlib says it another way)
    return path.read_bytes() if path.is_file() else b""


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def open_descriptors() -> list[Path]:
    return sorted(Path("/proc/self/fd").iterdir())


def refusal_of(host: ModelHost | DirectoryHost, events: Sequence[Event]) -> str:
    with pytest.raises(NotPlayable) as caught:
        play(frames_of_events(events), host)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@given(st.lists(some_events, min_size=8, max_size=40))
def test_a_history_gives_the_same_tree_in_memory_and_in_a_directory(events: list[Event]) -> None:
    limits = Limits(files_size_max=FEW_NAMES * 1024)
    with tempfile.TemporaryDirectory() as folder, DirectoryHost(folder, limits) as real:
        model = ModelHost(limits)
        for frame in frames_of_events([*TREE, *events]):
            before = model.state()
            refused = [False, False]
            hosts: tuple[Host, Host] = (model, real)
            for index, host in enumerate(hosts):
                try:
                    play([frame], host)
                except NotPlayable:
                    refused[index] = True
            assert refused[0] == refused[1], f"{frame} is refused by one alone: {refused}"
            if refused[0]:
                assert model.state() == before, "what is refused changes nothing"
        for guest, below in FOLDERS.items():
            assert on_the_model(model, guest) == on_the_disk(Path(folder) / below)


def test_a_file_that_was_unlinked_while_open_is_gone(target: Path) -> None:
    events = [
        *MOUNTS,
        opening(5, WEST, "a", 1),
        descriptors.FileDescriptorWrite(fd=5, offset=0, data=b"before"),
        paths.CreateHardLink(old_fd=WEST, old_flags=0, new_fd=WEST, old_path="a", new_path="b"),
        paths.UnlinkFile(fd=WEST, path="a"),
        descriptors.FileDescriptorWrite(fd=5, offset=6, data=b" and after"),
        opening(6, WEST, "gone", 1),
        paths.UnlinkFile(fd=WEST, path="gone"),
        descriptors.FileDescriptorWrite(fd=6, offset=0, data=b"nowhere"),
    ]
    model = ModelHost()
    play(frames_of_events(events), model)
    with DirectoryHost(target) as real:
        play(frames_of_events(events), real)
    assert model.files == {"/west/b": b"before and after"}
    assert files_below(target) == {"west/b": b"before and after"}


def test_what_a_guest_had_is_for_its_owner_alone(target: Path) -> None:
    events = [*MOUNTS, paths.CreateDirectory(fd=WEST, path="d"), opening(5, WEST, "d/a", 1)]
    with DirectoryHost(target) as real:
        play(frames_of_events(events), real)
    assert (target / "west/d").stat().st_mode & 0o077 == 0
    assert (target / "west/d/a").stat().st_mode & 0o077 == 0


# -- hostile journals ---------------------------------------------------------------------------

OUT = [
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
    """A directory, and links that lead out of it or round and round."""
    yield from MOUNTS
    yield paths.CreateDirectory(fd=WEST, path="d")
    yield paths.CreateSymbolicLink(fd=WEST, old_path="../secret", new_path="link")
    yield paths.CreateSymbolicLink(fd=WEST, old_path="..", new_path="up")
    yield paths.CreateSymbolicLink(fd=WEST, old_path="loop", new_path="loop")
    yield paths.FilePlaced(
        kind=FileType.SYMBOLIC_LINK, offset=0, path="/west/absolute", data=b"/etc/passwd"
    )


@pytest.mark.parametrize("path", [*OUT, "absolute"])
def test_no_path_leads_out_of_the_directory(path: str, target: Path) -> None:
    tree = list(hostile_tree())
    attempts: list[Event] = [
        opening(5, WEST, path, 1),
        opening(5, WEST, path, 8),
        paths.PathSetTimes(fd=WEST, flags=1, st_atim=1, st_mtim=1, fst_flags=5, path=path),
        paths.CreateDirectory(fd=WEST, path=path + "/" if path == "absolute" else path),
    ]
    for attempt in attempts:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            with DirectoryHost(folder) as real:
                said = refusal_of(real, [*tree, attempt])
            assert said == refusal_of(ModelHost(), [*tree, attempt]) or "refused it" in said
            assert f"event {len(tree)} cannot be played: " in said
    assert (target.parent / "secret").read_bytes() == SECRET
    assert sorted(path.name for path in target.parent.iterdir()) == ["outside", "secret", "target"]


@pytest.mark.parametrize("path", ["/", "/../secret", "/west/../../secret", "/west/..", "west/a"])
def test_nothing_is_placed_outside(path: str, target: Path) -> None:
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
        refusal_of(real, [mount, opening(4, 3, "a", 1)])
    assert list(target.iterdir()) == []
    assert list((target.parent / "outside").iterdir()) == []


def test_a_directory_swapped_for_a_link_meanwhile_leads_nowhere(target: Path) -> None:
    with DirectoryHost(target) as real:
        play(frames_of_events([*MOUNTS, paths.CreateDirectory(fd=WEST, path="d")]), real)
        (target / "west/d").rmdir()
        (target / "west/d").symlink_to(target.parent / "outside")
        for event in (
            opening(5, WEST, "d/a", 1, 1),
            paths.CreateDirectory(fd=WEST, path="d/a"),
            paths.CreateSymbolicLink(fd=WEST, old_path="x", new_path="d/a"),
        ):
            refusal_of(real, [event])
        (target / "west/f").symlink_to(target.parent / "secret")
        refusal_of(real, [opening(5, WEST, "f", 8, 0)])
        refusal_of(real, [opening(5, WEST, "f", 8, 1)])
    assert list((target.parent / "outside").iterdir()) == []
    assert (target.parent / "secret").read_bytes() == SECRET


def test_a_pipe_that_stands_where_a_file_should_does_not_hold_us_up(target: Path) -> None:
    with DirectoryHost(target) as real:
        play(frames_of_events(MOUNTS), real)
        os.mkfifo(target / "west/f")
        refusal_of(real, [opening(5, WEST, "f", 0)])


def test_a_file_of_absurd_size_is_refused(target: Path) -> None:
    limits = Limits(files_size_max=1 << 20)
    for event in (
        descriptors.FileDescriptorSetSize(fd=5, st_size=(1 << 64) - 1),
        descriptors.FileDescriptorWrite(fd=5, offset=(1 << 64) - 1, data=b"x"),
        descriptors.FileDescriptorWrite(fd=5, offset=1 << 62, data=b"x"),
        descriptors.FileDescriptorAllocate(fd=5, offset=1 << 63, len=1 << 63),
    ):
        with tempfile.TemporaryDirectory() as folder, DirectoryHost(folder, limits) as real:
            refusal_of(real, [*MOUNTS, opening(5, WEST, "a", 1), event])
        refusal_of(ModelHost(limits), [*MOUNTS, opening(5, WEST, "a", 1), event])


def test_many_files_are_bounded_by_what_names_cost() -> None:
    made = [paths.CreateDirectory(fd=WEST, path=f"d{number}") for number in range(100)]
    assert "the limit is 65536" in refusal_of(
        ModelHost(Limits(files_size_max=1 << 16)), [*MOUNTS, *made]
    )


def test_more_open_files_than_the_system_allows_are_refused(target: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = [opening(5 + number, WEST, f"f{number}", 1) for number in range(300)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        with DirectoryHost(target) as real:
            said = refusal_of(real, [*MOUNTS, *opened])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "Too many open files" in said


# -- the directory itself -----------------------------------------------------------------------


def test_the_directory_must_be_there_and_empty(target: Path) -> None:
    (target / "file").write_bytes(b"")
    with pytest.raises(OptionError, match="not empty"):
        DirectoryHost(target)
    with pytest.raises(OptionError, match="cannot be opened"):
        DirectoryHost(target / "nothing")
    with pytest.raises(OptionError, match="cannot be opened"):
        DirectoryHost(target / "file")


def test_a_mount_called_root_is_the_directory_itself(target: Path) -> None:
    mount = process.Mount(fd=3, kind=MountKind.MEMORY, guest="/", host="")
    with DirectoryHost(target) as real:
        play(frames_of_events([mount, opening(4, 3, "a", 1)]), real)
    assert files_below(target) == {"a": b""}


@pytest.mark.parametrize(
    ("one", "other"), [("/", "/work"), ("/a/b", "/a"), (".", "/"), ("a", "/a/")]
)
def test_mounts_in_one_another_are_refused(one: str, other: str, target: Path) -> None:
    two = [
        process.Mount(fd=fd, kind=MountKind.MEMORY, guest=guest, host="")
        for fd, guest in ((3, one), (4, other))
    ]
    with DirectoryHost(target) as real:
        assert "cannot" in refusal_of(real, two)


def test_a_host_s_directory_is_not_touched(target: Path) -> None:
    outside = target.parent / "outside"
    mount = process.Mount(fd=3, kind=MountKind.HOST, guest="/", host=str(outside))
    events = [mount, opening(4, 3, "a", 1), paths.CreateDirectory(fd=3, path="d")]
    with DirectoryHost(target) as real:
        play(frames_of_events(events), real)
    assert list(target.iterdir()) == []
    assert list(outside.iterdir()) == []


def test_a_closed_host_leaves_no_descriptor_open(target: Path) -> None:
    before = open_descriptors()
    events = [*MOUNTS, opening(5, WEST, "a", 1), opening(6, WEST, ".", 2)]
    with DirectoryHost(target) as real:
        play(frames_of_events(events), real)
        refusal_of(real, [paths.CreateDirectory(fd=WEST, path="a/../b/c")])
        refusal_of(real, [opening(7, WEST, "../a", 1)])
    assert open_descriptors() == before

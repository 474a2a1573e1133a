"""Extraction of the files, memory and environment of a guest; nothing is written outside."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import journal
from journal import Event, OptionError, Reader, Writer, play
from journal.events.descriptors import FileDescriptorWrite
from journal.events.memory import PAGE_SIZE
from journal.events.paths import (
    ChangeDirectory,
    CreateDirectory,
    CreateHardLink,
    CreateSymbolicLink,
    FilePlaced,
    FileType,
)
from journal.events.process import MountKind
from journal.operations.extract import (
    _remove_tree,
    archive_files,
    extract_environment,
    extract_files,
    extract_memory,
)
from journal.replay import ModelHost, ReplayError, ReplayLimits
from tests.rigs import needs
from tests.rigs.fused import Served
from tests.support.command_line import run_inside
from tests.support.file_journals import MTIME, mount, opening, write_events, write_small_tree
from tests.support.worker_journal import recorded, snapshot_seqs

__all__ = ["recorded"]


def tree_of(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return the kind or content, modification time and mode of each name in a directory."""
    found: dict[str, tuple[object, ...]] = {}
    for base, below, names in os.walk(folder):
        for name in (*below, *names):
            path = Path(base) / name
            stat = path.lstat()
            metadata = (stat.st_mtime_ns, stat.st_mode & 0o777)
            if path.is_symlink():
                found[str(path.relative_to(folder))] = ("link", str(path.readlink()))
            elif path.is_dir():
                found[str(path.relative_to(folder))] = ("directory", *metadata)
            else:
                found[str(path.relative_to(folder))] = (path.read_bytes(), *metadata)
    return found


def archive_to_bytes(source: Path, at: int | None = None) -> bytes:
    out = io.BytesIO()
    archive_files(source, out, at=at)
    return out.getvalue()


def unpack(data: bytes, folder: Path) -> dict[str, tuple[object, ...]]:
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(folder, filter="fully_trusted")
    return tree_of(folder)


# -- files ----------------------------------------------------------------------------------------


def test_an_extracted_directory_has_the_files_with_times_and_modes(tmp_path: Path) -> None:
    source = write_small_tree(tmp_path / "a")
    found = extract_files(source, tmp_path / "out")
    tree = tree_of(tmp_path / "out")
    assert sorted(tree) == ["again", "folder", "folder/öl\n", "inside", "link", "placed"]
    assert tree["folder/öl\n"] == tree["again"] == (b"\0\0\0oil", MTIME, 0o600)
    assert tree["link"] == ("link", "../../etc/passwd")
    assert tree["folder"][0::2] == ("directory", 0o700)
    assert (tmp_path / "out" / "again").samefile(tmp_path / "out" / "folder" / "öl\n")
    assert (found.files, found.directories, found.links, found.size) == (3, 1, 2, 12)
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_an_archive_unpacks_to_the_extracted_directory(tmp_path: Path) -> None:
    source = write_small_tree(tmp_path / "a")
    extract_files(source, tmp_path / "out")
    tree = unpack(archive_to_bytes(source), tmp_path / "unpacked")
    assert {name: stat[0] for name, stat in tree.items()} == {
        name: stat[0] for name, stat in tree_of(tmp_path / "out").items()
    }
    assert tree["placed"][2] == 0o600
    with tarfile.open(fileobj=io.BytesIO(archive_to_bytes(source))) as archive:
        members = {member.name: member for member in archive.getmembers()}
    assert members["folder/öl\n"].islnk() or members["again"].islnk()
    assert members["again"].pax_headers["mtime"] == "1700000000.123456789"


@pytest.mark.parametrize("seq", [0, 1, 2, 4, 6, 9])
def test_extracted_files_equal_the_model_at_each_event(seq: int, tmp_path: Path) -> None:
    source = write_small_tree(tmp_path / "a")
    host = ModelHost()
    with Reader(source) as reader:
        play(reader.frames(), host, upto=seq + 1)
    extract_files(source, tmp_path / "out", at=seq)
    found = {f"/{name}": metadata[0] for name, metadata in tree_of(tmp_path / "out").items()}
    contents = {name: data for name, data in found.items() if isinstance(data, bytes)}
    assert contents == host.files
    tree = unpack(archive_to_bytes(source, seq), tmp_path / "unpacked")
    assert {f"/{name}": metadata[0] for name, metadata in tree.items()} == found


def test_extracted_files_of_a_recording_equal_the_model(recorded: Path, tmp_path: Path) -> None:
    for seq in [snapshot_seqs(recorded)[2], None]:
        host = ModelHost()
        with Reader(recorded) as reader:
            play(reader.frames(), host, upto=None if seq is None else seq + 1)
        assert host.files
        extract_files(recorded, tmp_path / f"out{seq}", at=seq)
        found = tree_of(tmp_path / f"out{seq}")
        for name, data in host.files.items():
            assert found[name.removeprefix("/")][0] == data
        mtimes = {f"work/{path}": entry.mtime for path, entry in host.trees["/work"].items()}
        for name, metadata in found.items():
            if name in mtimes and metadata[0] != "link":
                assert metadata[1] == mtimes[name], name
        tree = unpack(archive_to_bytes(recorded, seq), tmp_path / f"unpacked{seq}")
        assert {name: metadata[0] for name, metadata in tree.items()} == {
            name: metadata[0] for name, metadata in found.items()
        }


def test_host_mounts_are_reported_as_missing(tmp_path: Path) -> None:
    source = write_events(tmp_path / "a", mount("/"), mount("/host", 4, MountKind.HOST))
    assert extract_files(source, tmp_path / "out").mounts == ("/host",)
    assert archive_files(source, io.BytesIO()).mounts == ("/host",)


def test_a_nested_mount_hides_the_files_below_its_path(tmp_path: Path) -> None:
    source = write_events(
        tmp_path / "a",
        mount("/"),
        CreateDirectory(fd=3, path="work"),
        opening(6, "work/hidden"),
        opening(7, "workshop"),
        mount("/work", 4),
        opening(8, "seen", 4),
    )
    tree = unpack(archive_to_bytes(source), tmp_path / "out")
    assert sorted(tree) == ["work", "work/seen", "workshop"]
    found = extract_files(source, tmp_path / "folder")
    assert (found.files, found.directories) == (2, 1)
    assert names_below(tmp_path / "folder") == sorted(tree)


def test_a_mount_path_takes_precedence_over_links_and_files_on_it(
    tmp_path: Path,
) -> None:
    outside = tmp_path / "outside"
    (outside / "b").mkdir(parents=True)
    (outside / "b" / "mine").write_text("stays")
    source = write_events(
        tmp_path / "a",
        mount("/a/b", 4),
        opening(8, "seen", 4),
        mount("/"),
        CreateSymbolicLink(fd=3, old_path="../outside", new_path="a"),
        opening(7, "c"),
        mount("/c/d", 5),
        opening(9, "below", 5),
    )
    extract_files(source, tmp_path / "folder")
    assert names_below(tmp_path / "folder") == ["a", "a/b", "a/b/seen", "c", "c/d", "c/d/below"]
    assert not any(path.is_symlink() for path in (tmp_path / "folder").rglob("*"))
    assert names_below(outside) == ["b", "b/mine"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "folder", "outside"]


def names_below(folder: Path) -> list[str]:
    """Return the relative paths of everything in a directory."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


HOSTILE: dict[str, list[Event]] = {
    "a mount above": [mount("/..")],
    "a mount far above": [mount("/a/../../b")],
    "a path above": [mount("/"), opening(6, "../out")],
    "an absolute path": [mount("/"), opening(6, "/etc/out")],
    "a link above": [
        mount("/"),
        CreateSymbolicLink(fd=3, old_path="..", new_path="up"),
        opening(6, "up/out"),
    ],
    "a link elsewhere": [
        mount("/"),
        FilePlaced(kind=FileType.SYMBOLIC_LINK, offset=0, path="/etc", data=b"/etc"),
        opening(6, "etc/out"),
    ],
    "a file placed above": [
        mount("/"),
        FilePlaced(kind=FileType.REGULAR_FILE, offset=0, path="/../out", data=b"x"),
    ],
    "a name with a NUL": [mount("/"), opening(6, "a\0b")],
    "a name without end": [mount("/"), opening(6, "n" * 300)],
    "more than there is room for": [
        mount("/"),
        opening(6, "big"),
        FileDescriptorWrite(fd=6, offset=1 << 40, data=b"x"),
    ],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_paths_are_refused_and_leave_nothing(name: str, tmp_path: Path) -> None:
    source = write_events(tmp_path / "a", *HOSTILE[name])
    with pytest.raises(ReplayError):
        extract_files(source, tmp_path / "out")
    with pytest.raises(ReplayError):
        archive_files(source, io.BytesIO())
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_files_above_the_size_limit_are_refused(tmp_path: Path) -> None:
    source = write_events(
        tmp_path / "a",
        mount("/"),
        *(opening(number, f"file{number}") for number in range(6, 40)),
    )
    with pytest.raises(ReplayError, match="limit is 9999"):
        extract_files(source, tmp_path / "out", limits=ReplayLimits(files_size_max=9999))
    with pytest.raises(ReplayError, match="limit is 9999"):
        archive_files(source, io.BytesIO(), limits=ReplayLimits(files_size_max=9999))


def test_an_existing_target_is_never_overwritten(tmp_path: Path) -> None:
    source = write_small_tree(tmp_path / "a")
    (tmp_path / "out").mkdir()
    with pytest.raises(OptionError, match="already exists"):
        extract_files(source, tmp_path / "out")
    with pytest.raises(OptionError, match="has no event 99"):
        extract_files(source, tmp_path / "new", at=99)


@pytest.mark.deep
def test_directories_deeper_than_the_recursion_limit_are_extracted_or_refused(
    tmp_path: Path,
) -> None:
    def write_nested(path: Path, depth: int) -> Path:
        return write_events(path, mount("/d" * depth))

    depth = sys.getrecursionlimit() + 100
    assert extract_files(write_nested(tmp_path / "a", depth), tmp_path / "out").directories == depth
    _remove_tree(tmp_path / "out")
    too_deep = write_nested(tmp_path / "b", 2040)
    with pytest.raises(ReplayError, match="nested too deeply"):
        extract_files(too_deep, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "b"]


def without_links(path: Path) -> Path:
    """Write a journal with a few files and directories, without symbolic links."""
    files = {f"file{number}": bytes([number]) * 9000 for number in range(6, 10)}
    story: list[Event] = [mount("/"), CreateDirectory(fd=3, path="folder")]
    story += [CreateDirectory(fd=3, path="folder/below"), opening(5, "folder/below/empty")]
    for fd, (name, data) in enumerate(files.items(), 6):
        story += [opening(fd, f"folder/{name}"), FileDescriptorWrite(fd=fd, offset=9, data=data)]
    return write_events(path, *story, CreateHardLink(
        old_fd=3, old_flags=0, new_fd=3, old_path="folder/file6", new_path="again"
    ))  # fmt: skip


def test_every_file_and_directory_is_synced_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, synced = without_links(tmp_path / "a"), list[Path]()
    fsync = os.fsync

    def record_fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record_fsync)
    extract_files(source, tmp_path / "out")
    root, *inside, last = synced
    assert root.parent == last == tmp_path
    (folder,) = [path for path in inside if path.parent == tmp_path]
    found = {str(path.relative_to(folder)) for path in inside}
    inodes = {path.lstat().st_ino for path in (tmp_path / "out").rglob("*")}
    assert {(tmp_path / "out" / name).lstat().st_ino for name in found - {"."}} == inodes
    assert "." in found
    assert "folder/below/empty" in found


@pytest.fixture(scope="module")
def fault_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served("tests.rigs.faultfs", tmp_path_factory.mktemp("faultfs") / "mount") as fault_mount:
        yield fault_mount


def contents_of(path: Path) -> dict[str, bytes | None]:
    """Return the file contents of a directory, or the bytes of an archive."""
    if not path.is_dir():
        return {"": path.read_bytes()}
    found = {str(one.relative_to(path)): one for one in path.rglob("*")}
    return {name: None if one.is_dir() else one.read_bytes() for name, one in found.items()}


@needs.mark(needs.why_no_fuse())
@pytest.mark.parametrize("option", ["--files", "--tar"])
def test_a_finished_extraction_survives_a_power_cut_and_an_unfinished_one_is_invisible(
    option: str, fault_mount: Served, tmp_path: Path
) -> None:
    source, target = without_links(tmp_path / "a"), fault_mount.mount_point / "out"
    fault_mount.ask("begin", faults=(), size_max=0, calls=0)
    assert run_inside("extract", source, option, target, at=tmp_path).returncode == 0
    expected = contents_of(target)
    fault_mount.ask("cut")
    for seed in range(40):
        fault_mount.ask("crash", seed=seed)
        assert contents_of(target) == expected, f"in state {seed}"
    states = set()
    for calls in range(5, 2000, 12):
        fault_mount.ask("begin", faults=(), size_max=0, calls=calls)
        if run_inside("extract", source, option, target, at=tmp_path).returncode == 0:
            break
        for seed in range(4):
            fault_mount.ask("crash", seed=seed)
            states.add(target.exists())
            assert not target.exists() or contents_of(target) == expected, f"at {calls}, {seed}"
    assert False in states


# -- memory ---------------------------------------------------------------------------------------


def test_extracted_memory_equals_the_model_at_each_snapshot(recorded: Path, tmp_path: Path) -> None:
    numbers = snapshot_seqs(recorded)
    for seq in numbers[:: len(numbers) // 3]:
        host = ModelHost()
        with Reader(recorded) as reader:
            play(reader.frames(), host, upto=seq + 1)
        for at in (seq, seq + 1):  # Memory is that of the last snapshot up to ``at``.
            out = io.BytesIO()
            found = extract_memory(recorded, out, at=at)
            size = host.machine.memory_size
            assert (found.snapshot, found.size, found.start) == (seq, size, 0)
            assert out.getvalue() == host.machine.read(0, size)
            assert found.pages == len(host.machine.pages)
    with (tmp_path / "memory").open("w+b") as file:
        extract_memory(recorded, file, at=numbers[-1], sparse=True)
    with Reader(recorded) as reader:
        host = ModelHost()
        play(reader.frames(), host, upto=numbers[-1] + 1)
    assert (tmp_path / "memory").read_bytes() == host.machine.read(0, size)
    assert extract_memory(recorded, io.BytesIO()).snapshot == numbers[-1]


def test_a_range_of_pages_equals_the_bytes_of_the_whole_memory(recorded: Path) -> None:
    whole, part = io.BytesIO(), io.BytesIO()
    extract_memory(recorded, whole)
    found = extract_memory(recorded, part, pages=(1, 17))
    assert part.getvalue() == whole.getvalue()[PAGE_SIZE : 18 * PAGE_SIZE]
    assert (found.start, found.size) == (PAGE_SIZE, 17 * PAGE_SIZE)


MISSING: dict[str, Callable[[Path], object]] = {
    "such a memory": lambda path: extract_memory(path, io.BytesIO(), memory=7),
    "such pages": lambda path: extract_memory(path, io.BytesIO(), pages=(5, 1 << 20)),
    "pages in order": lambda path: extract_memory(path, io.BytesIO(), pages=(5, 4)),
    "a snapshot so early": lambda path: extract_memory(path, io.BytesIO(), at=0),
    "such an event": lambda path: extract_memory(path, io.BytesIO(), at=1 << 40),
}


@pytest.mark.parametrize("name", MISSING)
def test_missing_memory_is_refused(name: str, recorded: Path) -> None:
    with pytest.raises(OptionError, match=r"has no"):
        MISSING[name](recorded)


# -- environment ----------------------------------------------------------------------------------


def test_the_extracted_environment_is_that_of_the_start(tmp_path: Path, cache_dir: Path) -> None:
    from tests.support.programs import guest

    path = tmp_path / "run.journal"
    with journal.record(
        guest("environ"),
        path,
        args=["environ", "one"],
        env={"NAME": "value", "LINES": "a\nb"},
        cache=cache_dir,
        durability=journal.engine.Durability.NONE,
    ) as recorder:
        recorder.wait()
    found = extract_environment(path)
    assert found.arguments == (b"environ", b"one")
    assert found.environment == (b"NAME=value", b"LINES=a\nb")
    assert found.directory == ""
    with Writer(path) as writer:
        seq = writer.append(ChangeDirectory(path="/work"))
    assert extract_environment(path).directory == "/work"
    assert extract_environment(path, at=seq - 1).directory == ""
    with pytest.raises(
        OptionError, match="has no ProcessStart event: it does not record a process"
    ):
        extract_environment(write_events(tmp_path / "a", mount("/")))

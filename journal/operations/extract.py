"""Extraction of a guest's files, memory or environment at an event, without executing the guest.

Files are written to a new directory or a tar archive, memory to a sparse file.
"""

import errno
import os
import secrets
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from journal._arguments import (
    check_each,
    check_flag,
    check_int,
    check_optional,
    check_output,
    check_path,
    check_type,
    refuse,
)
from journal._platform import require_linux
from journal.errors import OptionError
from journal.events import tag_sets
from journal.events.memory import PAGE_SIZE
from journal.events.paths import ChangeDirectory, FileType
from journal.events.process import ProcessStart
from journal.events.snapshots import ClearEthereal, SafePoint, Snapshot
from journal.events.wire_types import decode_path
from journal.fs import atomic_file, file_kind
from journal.log.reader import Reader
from journal.pages import PageResolver
from journal.replay.hosts.directory import FILE_TAGS, DirectoryHost
from journal.replay.hosts.model import ModelHost
from journal.replay.limits import ReplayError, ReplayLimits
from journal.replay.player import play
from journal.rewrite.block_copier import check_output_path
from journal.snapshots.catalog import list_snapshots
from journal.vfs.errors import quote_path
from journal.vfs.host_backend import DIRECTORY_MODE, FILE_MODE
from journal.vfs.path_resolution import split_path
from journal.vfs.tree_entries import TreeEntry

StrPath = str | os.PathLike[str]

_MACHINE_TAGS = tag_sets.RESETS | tag_sets.MEMORY | {SafePoint.tag, Snapshot.tag, ClearEthereal.tag}
_ENVIRONMENT_TAGS = frozenset((ProcessStart.tag, ChangeDirectory.tag))
"""Tags of the events that ``extract_environment`` reports."""
_SECOND = 1_000_000_000
_ZEROS = bytes(1 << 16)


class ExtractFilesResult(NamedTuple):
    """Counts of the extracted names, and bytes. ``mounts`` are the host mounts, whose contents are
    not in the journal.
    """

    files: int
    directories: int
    links: int
    size: int
    mounts: tuple[str, ...]


class ExtractMemoryResult(NamedTuple):
    """Extracted range of a memory at a snapshot: ``size`` bytes from byte ``start``.

    ``pages`` counts the pages that are not zero.
    """

    snapshot: int
    start: int
    size: int
    pages: int


class EnvironmentResult(NamedTuple):
    """Arguments and environment of a process, and its working directory, empty if never changed."""

    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    directory: str


# -- files ----------------------------------------------------------------------------------------


def extract_files(
    source: StrPath,
    directory: StrPath,
    *,
    at: int | None = None,
    limits: ReplayLimits | None = None,
) -> ExtractFilesResult:
    """Write the guest's files in memory mounts, as of event ``at``, to a new directory.

    A mount called ``/work`` becomes the subdirectory ``work``. Modification times are those of the
    guest; only the owner has access. Symbolic links have the targets that the guest wrote, and
    may lead anywhere. Nothing outside the directory is changed. A mount inside
    another mount hides the contents at its path. ``directory`` gets its name when everything is
    durable.

    Raises OptionError if there is no such event, ReplayError, and the errors of reading the
    journal.
    """
    path, target = check_path("source", source), check_path("directory", directory)
    check_optional("at", at, check_int)
    check_optional("limits", limits, check_type, ReplayLimits)
    require_linux("extracting files")
    check_output_path(target, [path])
    folder, whole = atomic_file.make_temporary_path(target), atomic_file.make_temporary_path(target)
    try:
        folder.mkdir(mode=DIRECTORY_MODE)
        with Reader(path) as reader, DirectoryHost(folder, limits, separate_mounts=True) as host:
            play(reader.frames(tags=host.tags), host, upto=_find_stop(reader, at))
        with _long_path_check():
            _nest_mounts(list(host.mount_paths.values()), folder, whole)
        counts = _count_and_sync(whole, _list_host_mounts(host))
        file_kind.check_absent(target)
        whole.rename(target)
    finally:
        _remove_tree(folder)
        _remove_tree(whole)
    atomic_file.sync_directory(target.parent)
    return counts


def archive_files(
    source: StrPath, out: BinaryIO, *, at: int | None = None, limits: ReplayLimits | None = None
) -> ExtractFilesResult:
    """Write the files of ``extract_files`` to ``out`` as a tar archive.

    Several names of one file become hard links. A mount inside another mount hides the contents at
    its path.
    """
    origin = check_path("source", source)
    check_output("out", out)
    check_optional("at", at, check_int)
    check_optional("limits", limits, check_type, ReplayLimits)
    with Reader(origin) as reader:
        host = _FilesHost(limits)
        play(reader.frames(tags=host.tags), host, upto=_find_stop(reader, at))
    counts = dict.fromkeys(FileType, 0)
    size, first_names = 0, dict[tuple[str, int], str]()
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for guest, path, entry in _iterate_entries(host):
            counts[entry.kind] += 1
            info = _make_tar_member(path, entry)
            first = first_names.setdefault((guest, entry.inode), info.name)
            if first != info.name and entry.kind is FileType.REGULAR_FILE:
                info.type, info.linkname, info.size = tarfile.LNKTYPE, first, 0
                archive.addfile(info)
                continue
            size += info.size
            archive.addfile(info, BytesIO(entry.content) if info.size else None)
    return ExtractFilesResult(
        counts[FileType.REGULAR_FILE],
        counts[FileType.DIRECTORY],
        counts[FileType.SYMBOLIC_LINK],
        size,
        _list_host_mounts(host),
    )


class _FilesHost(ModelHost):
    """Replay host that models files only."""

    keeps_output = False

    @property
    def tags(self) -> frozenset[int]:
        """Tags of the events that change files."""
        return FILE_TAGS


def _iterate_entries(host: ModelHost) -> Iterator[tuple[str, str, TreeEntry]]:
    """Yield every name in the guest's memory mounts: its mount, its path in the archive, and its
    entry.
    """
    trees = {guest: split_path(guest) for guest in host.trees}
    for names in trees.values():
        if not {".", ".."}.isdisjoint(names):
            raise ReplayError(
                f"mount {quote_path('/'.join(names))} has . or .. in its path, "
                "which could lead out of the archive"
            )
    for guest, tree in sorted(host.trees.items(), key=lambda item: trees[item[0]]):
        hidden = ["/".join(names) for names in trees.values() if _is_inside(names, trees[guest])]
        for path, entry in tree.items():
            names = [*trees[guest], *(name for name in split_path(path) if name != ".")]
            whole = "/".join(names)
            if whole and not any(
                whole == mount or whole.startswith(f"{mount}/") for mount in hidden
            ):
                yield guest, whole, entry


def _is_inside(names: list[str], outer: list[str]) -> bool:
    return len(names) > len(outer) and names[: len(outer)] == outer


def _make_tar_member(path: str, entry: TreeEntry) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    seconds, rest = divmod(entry.mtime, _SECOND)
    info.mtime = seconds
    if rest:
        info.pax_headers = {"mtime": f"{seconds}.{rest:09d}"}
    info.mode = FILE_MODE
    if entry.kind is FileType.DIRECTORY:
        info.type, info.mode = tarfile.DIRTYPE, DIRECTORY_MODE
    elif entry.kind is FileType.SYMBOLIC_LINK:
        info.type, info.linkname = tarfile.SYMTYPE, decode_path(entry.content)
    else:
        info.size = len(entry.content)
    return info


def _nest_mounts(mount_paths: list[list[str]], folder: Path, whole: Path) -> None:
    """Combine the separate directories of all mounts into one tree, as the guest sees it.

    A mount replaces the contents at its path. Links are not followed.
    """
    mounts = dict(enumerate(mount_paths))
    root = next((number for number, names in mounts.items() if not names), None)
    if root is None:
        whole.mkdir(mode=DIRECTORY_MODE)
    else:
        (folder / str(root)).rename(whole)
        del mounts[root]
    for number, names in sorted(mounts.items(), key=lambda item: len(item[1])):
        parent = whole
        for name in names[:-1]:
            parent = _remove_non_directory(parent / name)
            parent.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        status, target = parent.stat(), _remove_non_directory(parent / names[-1])
        _remove_tree(target)
        (folder / str(number)).rename(target)
        os.utime(parent, ns=(status.st_atime_ns, status.st_mtime_ns))
    atomic_file.sync_directory(folder)


def _remove_non_directory(path: Path) -> Path:
    """Remove anything other than a directory at a path. Return the path."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    return path


def _count_and_sync(folder: Path, mounts: tuple[str, ...]) -> ExtractFilesResult:
    """Count the contents of a directory without following links, and sync all of them."""
    files = directories = links = size = 0
    inodes: set[int] = set()
    for directory in reversed(_list_directories(folder)):
        directories += directory != folder
        with os.scandir(directory) as entries:
            for entry in entries:
                links += entry.is_symlink()
                if not entry.is_file(follow_symlinks=False):
                    continue
                files += 1
                status = entry.stat(follow_symlinks=False)
                if status.st_ino not in inodes:
                    inodes.add(status.st_ino)
                    size += status.st_size
                    atomic_file.sync_file(entry.path)
        atomic_file.sync_directory(directory)
    return ExtractFilesResult(files, directories, links, size, mounts)


def _list_directories(folder: Path) -> list[Path]:
    """Return a directory and all directories below it, each after its parent.

    > Why not ``os.walk``? ``os.walk`` recurses for each level, and a guest may create very many.
    """
    directories = [folder]
    for directory in directories:  # The list grows during the loop.
        with _long_path_check(), os.scandir(directory) as entries:
            directories += [
                Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)
            ]
    return directories


@contextmanager
def _long_path_check() -> Iterator[None]:
    """Raise ReplayError for directories nested so deeply that a path becomes too long."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ReplayError(
            "the guest's directories are nested too deeply: a path exceeds the system's limit"
        ) from None


def _remove_tree(folder: Path) -> None:
    """Remove a directory tree if it exists. Ignore OSErrors.

    > Why not ``shutil.rmtree``? ``rmtree`` recurses, as ``os.walk`` does. Each directory is moved
    to the top before it is listed.
    """
    with suppress(OSError):
        directories = [folder]
        for directory in directories:  # The list grows during the loop.
            for entry in list(os.scandir(directory)):
                if entry.is_dir(follow_symlinks=False):
                    directories.append(folder / secrets.token_hex(16))
                    Path(entry.path).rename(directories[-1])
                else:
                    Path(entry.path).unlink()
        for directory in reversed(directories):
            directory.rmdir()


def _list_host_mounts(host: DirectoryHost | ModelHost) -> tuple[str, ...]:
    mounts = host.process.mounts.values()
    return tuple(event.guest for event in mounts if event.guest not in host.backends)


# -- memory ---------------------------------------------------------------------------------------


def extract_memory(
    source: StrPath,
    out: BinaryIO,
    *,
    at: int | None = None,
    memory: int = 0,
    pages: tuple[int, int] | None = None,
    sparse: bool = False,
    limits: ReplayLimits | None = None,
) -> ExtractMemoryResult:
    """Write a memory to ``out``, as of the last snapshot up to event ``at``.

    ``pages`` selects the 4 KiB pages from the first to the last number, both included. With
    ``sparse``, zero pages become holes; ``out`` must then be an empty file. Raises OptionError if
    there is no such event, snapshot, memory or page.
    """
    path = check_path("source", source)
    check_output("out", out)
    check_optional("at", at, check_int)
    check_int("memory", memory)
    span = check_optional("pages", pages, _check_span)
    check_flag("sparse", sparse)
    check_optional("limits", limits, check_type, ReplayLimits)
    with Reader(path) as reader:
        stop = _find_stop(reader, at)
        start, seq = _find_snapshot_range(reader, stop)
        host = _MemoryHost(limits)
        frames = reader.frames(start, stop=seq + 1, tags=host.tags)
        play(frames, host, pages=PageResolver.from_reader(reader))
    machine = host.machine
    if memory not in machine.memories:
        raise OptionError(f"snapshot {seq} has no memory {memory}, only {sorted(machine.memories)}")
    first, last = span or (0, max(machine.memories[memory] // PAGE_SIZE - 1, 0))
    if not 0 <= first <= last or (span and last * PAGE_SIZE >= machine.memories[memory]):
        raise OptionError(
            f"memory {memory} has no pages {first} to {last}: it has "
            f"{machine.memories[memory] // PAGE_SIZE} pages"
        )
    pages_by_number = machine.pages_of(memory)
    selected = {
        number: pages_by_number[number] for number in pages_by_number if first <= number <= last
    }
    size = min((last + 1) * PAGE_SIZE, machine.memories[memory]) - first * PAGE_SIZE
    _write_pages(out, selected, first, max(size, 0), sparse=sparse)
    return ExtractMemoryResult(seq, first * PAGE_SIZE, max(size, 0), len(selected))


def _check_span(name: str, value: tuple[int, int]) -> tuple[int, int]:
    numbers = check_each(name, value, check_int, what="a first and a last number")
    if len(numbers) != 2:
        refuse(name, "a first and a last number", value)
    return numbers[0], numbers[1]


class _MemoryHost(ModelHost):
    """Replay host that models memory only."""

    keeps_output = False

    @property
    def tags(self) -> frozenset[int]:
        """Tags of the events that change memory."""
        return _MACHINE_TAGS


def _find_snapshot_range(reader: Reader, stop: int | None) -> tuple[int, int]:
    """Return the sequence number from which to replay, and that of the last snapshot before
    ``stop``.
    """
    start, last = 0, None
    for info in list_snapshots(reader, stop=stop, count_pages=False):
        last = info.seq
        if info.whole and info.first_seq is not None:
            start = info.first_seq
    if last is None:
        where = "" if stop is None else f" up to event {stop - 1}"
        raise OptionError(f"{reader.path} has no snapshot{where}: its memory is unknown")
    return start, last


def _write_pages(
    out: BinaryIO, pages: dict[int, bytes], first: int, size: int, *, sparse: bool
) -> None:
    skip = _skip_hole if sparse else _write_zeros
    end = 0
    for number in sorted(pages):
        position = (number - first) * PAGE_SIZE
        skip(out, position - end)
        out.write(pages[number][: size - position])
        end = min(position + PAGE_SIZE, size)
    skip(out, size - end)
    if sparse:
        out.truncate(size)


def _skip_hole(out: BinaryIO, size: int) -> None:
    out.seek(size, os.SEEK_CUR)


def _write_zeros(out: BinaryIO, size: int) -> None:
    while size > 0:
        part = _ZEROS[:size]
        out.write(part)
        size -= len(part)


# -- environment ----------------------------------------------------------------------------------


def extract_environment(source: StrPath, *, at: int | None = None) -> EnvironmentResult:
    """Return arguments, environment and working directory of the process at event ``at``."""
    path, host = check_path("source", source), ModelHost()
    check_optional("at", at, check_int)
    with Reader(path) as reader:
        play(reader.frames(stop=_find_stop(reader, at), tags=_ENVIRONMENT_TAGS), host)
    start = host.process.start
    if start is None:
        raise OptionError(f"{path} has no ProcessStart event: it does not record a process")
    return EnvironmentResult(start.arguments, start.environment, host.process.working_directory)


def _find_stop(reader: Reader, at: int | None) -> int | None:
    """Return the sequence number after event ``at``. Raises OptionError if there is none."""
    if at is None:
        return None
    try:
        reader.frame(at, verify=False)
    except KeyError:
        raise OptionError(f"{reader.path} has no event {at}") from None
    return at + 1

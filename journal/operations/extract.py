"""Extracting: a guest's files, memory or environment as they were at an event, without running it.

Files come into a new directory or a tar archive, memory into a file with holes where it is zeros.
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

from journal.errors import OptionError
from journal.events.core import InitModule, ProcessExit
from journal.events.memory import PAGE_SIZE, MemoryPages, UpdateMemoryRegion
from journal.events.paths import ChangeDirectory, FileType
from journal.events.process import ProcessStart, ProcessTrap
from journal.events.snapshots import ClearEthereal, SafePoint, Snapshot
from journal.fs import atomic_file
from journal.log.reader import Reader
from journal.pages import PageResolver
from journal.replay.filesystem.host_backend import DIRECTORY_MODE, FILE_MODE
from journal.replay.filesystem.memory_backend import TreeEntry
from journal.replay.filesystem.path_resolution import split_path
from journal.replay.hosts.directory import FILE_TAGS, DirectoryHost
from journal.replay.hosts.model import ModelHost
from journal.replay.limits import ReplayError, ReplayLimits, quote_path
from journal.replay.player import play
from journal.rewrite.block_copier import check_output_path
from journal.snapshots.catalog import list_snapshots

StrPath = str | os.PathLike[str]

_MACHINE_TAGS = frozenset(
    kind.tag
    for kind in (
        *(ProcessStart, InitModule, ProcessExit, ProcessTrap),
        *(UpdateMemoryRegion, MemoryPages, SafePoint, Snapshot, ClearEthereal),
    )
)
_IDENTITY_TAGS = frozenset((ProcessStart.tag, ChangeDirectory.tag))
_SECOND = 1_000_000_000
_ZEROS = bytes(1 << 16)


class ExtractFilesResult(NamedTuple):
    """What was extracted of the files: how many names, and bytes; ``mounts`` are those of the host.

    What is in these is not in the journal.
    """

    files: int
    directories: int
    links: int
    size: int
    mounts: tuple[str, ...]


class ExtractMemoryResult(NamedTuple):
    """What was extracted of a memory: of the snapshot with this number, so many bytes from start.

    ``pages`` are those that are not zeros.
    """

    snapshot: int
    start: int
    size: int
    pages: int


class EnvironmentResult(NamedTuple):
    """What a process was started with, and its working directory if it changed it."""

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
    """Put a guest's files in memory, as they were behind event ``at``, into a new directory.

    A mount called ``/work`` is ``work`` in it. Times of modification are the guest's; only the
    owner may read them. Symbolic links say what the guest wrote: whoever follows them may be led
    elsewhere. Nothing outside is touched. Where a mount lies in another one, it hides what that has
    there. ``directory`` gets its name when all of it is durable.
    Raises OptionError for an event that is not there, ReplayError, and what reading raises.
    """
    target = Path(directory)
    check_output_path(target, [Path(source)])
    folder, whole = atomic_file.make_temporary_path(target), atomic_file.make_temporary_path(target)
    try:
        folder.mkdir(mode=DIRECTORY_MODE)
        with Reader(source) as reader, DirectoryHost(folder, limits, separate_mounts=True) as host:
            play(reader.frames(tags=host.tags), host, upto=_find_stop(reader, at))
        with _refusing_long_paths():
            _nest_mounts(list(host.mount_paths.values()), folder, whole)
        found = _count_and_sync(whole, _list_host_mounts(host))
        if os.path.lexists(target):
            raise OptionError(f"{target} exists already")
        whole.rename(target)
    finally:
        _remove_tree(folder)
        _remove_tree(whole)
    atomic_file.sync_directory(target.parent)
    return found


def archive_files(
    source: StrPath, out: BinaryIO, *, at: int | None = None, limits: ReplayLimits | None = None
) -> ExtractFilesResult:
    """Write what ``extract_files`` puts into a directory to ``out`` as a tar archive.

    Names of one file are hard links of one another. Where a mount lies in another one, it hides
    what that has there.
    """
    with Reader(source) as reader:
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
    """A model of the files alone."""

    keeps_output = False

    @property
    def tags(self) -> frozenset[int]:
        """The kinds of events that say what becomes of files."""
        return FILE_TAGS


def _iterate_entries(host: ModelHost) -> Iterator[tuple[str, str, TreeEntry]]:
    """Every name in the guest's memory mounts: the mount, the path in the archive, what it is."""
    trees = {guest: split_path(guest) for guest in host.trees}
    for names in trees.values():
        if not {".", ".."}.isdisjoint(names):
            raise ReplayError(f"the mount {quote_path('/'.join(names))} leads out of the archive")
    for guest, tree in sorted(host.trees.items(), key=lambda item: trees[item[0]]):
        hidden = ["/".join(names) for names in trees.values() if _is_inside(names, trees[guest])]
        for path, entry in tree.items():
            names = [*trees[guest], *(name for name in split_path(path) if name != ".")]
            whole = "/".join(names)
            if whole and not any(whole == one or whole.startswith(f"{one}/") for one in hidden):
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
        info.type, info.linkname = tarfile.SYMTYPE, entry.content.decode()
    else:
        info.size = len(entry.content)
    return info


def _nest_mounts(mounted: list[list[str]], folder: Path, whole: Path) -> None:
    """Make one directory of those that mounts have apart, as the guest comes to them.

    What lies in the way of a mount is hidden by it, and goes; links are not followed.
    """
    places = dict(enumerate(mounted))
    root = next((number for number, names in places.items() if not names), None)
    if root is None:
        whole.mkdir(mode=DIRECTORY_MODE)
    else:
        (folder / str(root)).rename(whole)
        del places[root]
    for number, names in sorted(places.items(), key=lambda one: len(one[1])):
        at = whole
        for name in names[:-1]:
            at = _remove_non_directory(at / name)
            at.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        known, place = at.stat(), _remove_non_directory(at / names[-1])
        _remove_tree(place)
        (folder / str(number)).rename(place)
        os.utime(at, ns=(known.st_atime_ns, known.st_mtime_ns))
    atomic_file.sync_directory(folder)


def _remove_non_directory(path: Path) -> Path:
    """A path at which nothing other than a directory is any more."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    return path


def _count_and_sync(folder: Path, mounts: tuple[str, ...]) -> ExtractFilesResult:
    """What stands in a directory, links not followed; all of it is durable then."""
    files = directories = links = size = 0
    seen: set[int] = set()
    for directory in reversed(_list_directories(folder)):
        directories += directory != folder
        with os.scandir(directory) as entries:
            for entry in entries:
                links += entry.is_symlink()
                if not entry.is_file(follow_symlinks=False):
                    continue
                files += 1
                found = entry.stat(follow_symlinks=False)
                if found.st_ino not in seen:
                    seen.add(found.st_ino)
                    size += found.st_size
                    atomic_file.sync_file(entry.path)
        atomic_file.sync_directory(directory)
    return ExtractFilesResult(files, directories, links, size, mounts)


def _list_directories(folder: Path) -> list[Path]:
    """A directory and all below it, each behind the one that it is in.

    > Why not ``os.walk``? It calls itself for each level, and a guest may make very many of them.
    """
    found = [folder]
    for directory in found:  # which grows meanwhile
        with _refusing_long_paths(), os.scandir(directory) as entries:
            found += [Path(one.path) for one in entries if one.is_dir(follow_symlinks=False)]
    return found


@contextmanager
def _refusing_long_paths() -> Iterator[None]:
    """Refuse directories that are so deep that no path says where they are."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ReplayError("the guest's directories are deeper than a path can say") from None


def _remove_tree(folder: Path) -> None:
    """Take a directory away, if it is there, as far as that goes.

    > Why not ``shutil.rmtree``? As above. Each directory comes up before it is looked into.
    """
    with suppress(OSError):
        above = [folder]
        for directory in above:  # which grows meanwhile
            for entry in list(os.scandir(directory)):
                if entry.is_dir(follow_symlinks=False):
                    above.append(folder / secrets.token_hex(16))
                    Path(entry.path).rename(above[-1])
                else:
                    Path(entry.path).unlink()
        for directory in reversed(above):
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
    """Write a memory to ``out``, as it was at the last snapshot up to event ``at``.

    With ``pages``, those of 4 KiB from the first to the last number alone. If ``sparse``, zeros are
    holes in ``out``, which is an empty file. Raises OptionError where there is no such event,
    snapshot, memory or page.
    """
    with Reader(source) as reader:
        behind = _find_stop(reader, at)
        start, seq = _find_snapshot_range(reader, behind)
        host = _MemoryHost(limits)
        frames = reader.frames(start, stop=seq + 1, tags=host.tags)
        play(frames, host, pages=PageResolver.from_reader(reader))
    machine = host.machine
    if memory not in machine.memories:
        raise OptionError(f"snapshot {seq} has no memory {memory}")
    first, last = pages or (0, max(machine.memories[memory] // PAGE_SIZE - 1, 0))
    if not 0 <= first <= last or (pages and last * PAGE_SIZE >= machine.memories[memory]):
        raise OptionError(f"memory {memory} has no pages {first} to {last}")
    found = machine.pages_of(memory)
    kept = {number: found[number] for number in found if first <= number <= last}
    size = min((last + 1) * PAGE_SIZE, machine.memories[memory]) - first * PAGE_SIZE
    _write_pages(out, kept, first, max(size, 0), sparse=sparse)
    return ExtractMemoryResult(seq, first * PAGE_SIZE, max(size, 0), len(kept))


class _MemoryHost(ModelHost):
    """A model of memory alone."""

    keeps_output = False

    @property
    def tags(self) -> frozenset[int]:
        """The kinds of events that say what memory is."""
        return _MACHINE_TAGS


def _find_snapshot_range(reader: Reader, behind: int | None) -> tuple[int, int]:
    """Where to begin to play, and the number of the last snapshot in front of ``behind``."""
    start, found = 0, None
    for info in list_snapshots(reader, stop=behind, count_pages=False):
        found = info.seq
        if info.whole and info.first_seq is not None:
            start = info.first_seq
    if found is None:
        where = "" if behind is None else f" up to event {behind - 1}"
        raise OptionError(f"{reader.path} has no snapshot{where}, and memory stands nowhere else")
    return start, found


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
    """What the process that ran at event ``at`` was started with, and where it stood then."""
    host = ModelHost()
    with Reader(source) as reader:
        play(reader.frames(stop=_find_stop(reader, at), tags=_IDENTITY_TAGS), host)
    start = host.process.start
    if start is None:
        raise OptionError(f"{source} does not say what ran: it is not the journal of a process")
    return EnvironmentResult(start.arguments, start.environment, host.process.working_directory)


def _find_stop(reader: Reader, at: int | None) -> int | None:
    """The number behind event ``at``, which must be there."""
    if at is None:
        return None
    try:
        reader.frame(at, verify=False)
    except KeyError:
        raise OptionError(f"{reader.path} has no event {at}") from None
    return at + 1

"""Operations of events on the files of a mount, independent of the backend.

A backend creates, finds and removes one name in one directory. The meaning of paths is implemented
here, once for files in memory and for files in a real directory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, NamedTuple, Protocol, TypeVar

from journal.events.paths import FilePlaced, FileType, OpenFlags, TimeFlags
from journal.replay.filesystem.path_resolution import (
    DirectoryWalker,
    ResolvedPath,
    check_name,
    check_path,
    resolve_path,
)
from journal.replay.limits import ReplayError, quote_path

D = TypeVar("D")

LOOKUP_FOLLOW = 1
"""The only bit of WASI's lookupflags."""


class TimeUpdate(NamedTuple):
    """Requested times of a file, in nanoseconds since the epoch."""

    atime: int
    mtime: int
    flags: int

    def resolve(self, now: int, atime: int, mtime: int) -> tuple[int, int]:
        """Return the new times of a file that has the times ``atime`` and ``mtime``."""
        if self.flags & TimeFlags.ATIME_NOW:
            atime = now
        elif self.flags & TimeFlags.ATIME:
            atime = self.atime
        if self.flags & TimeFlags.MTIME_NOW:
            mtime = now
        elif self.flags & TimeFlags.MTIME:
            mtime = self.mtime
        return atime, mtime


class BackendFile(Protocol):
    """An open regular file."""

    def size(self) -> int:
        """Return the size in bytes."""

    def write(self, offset: int, data: bytes, now: int | None) -> None:
        """Write ``data`` at ``offset``, with zeros in a gap. Without ``now`` keep the times."""

    def set_size(self, size: int, now: int) -> None:
        """Truncate the file, or extend it with zeros."""

    def extend(self, size: int, now: int) -> None:
        """Extend the file, which is shorter than ``size``, with zeros."""

    def set_times(self, times: TimeUpdate, now: int) -> None:
        """Set the times of the file."""

    def close(self) -> None:
        """Close the file."""


class FileBackend(DirectoryWalker[D], Protocol[D]):
    """Backend of the files of one mount. ``name`` is a single name, or ``.`` for ``at`` itself.

    All methods raise ReplayError if they fail, and then have changed nothing.
    """

    def root(self) -> D:
        """Return the root directory of the mount."""

    def kind(self, at: D, name: str) -> FileType | None:
        """Return the type of ``name`` without following links, None if it does not exist."""

    def open_file(self, at: D, name: str) -> BackendFile:
        """Open an existing regular file."""

    def make_file(self, at: D, name: str, now: int) -> BackendFile:
        """Create and open a regular file."""

    def make_directory(self, at: D, name: str, now: int) -> None:
        """Create a directory."""

    def make_symlink(self, at: D, name: str, target: str, now: int) -> None:
        """Create a symbolic link."""

    def make_hard_link(self, at: D, name: str, to: D, to_name: str, now: int) -> None:
        """Create a hard link to a file that is not a directory."""

    def unlink(self, at: D, name: str, now: int) -> None:
        """Unlink a file or a symbolic link."""

    def remove_directory(self, at: D, name: str, now: int) -> None:
        """Remove a directory, which must be empty."""

    def rename(self, at: D, name: str, to: D, to_name: str, now: int) -> None:
        """Rename a directory entry, and replace the entry ``to_name``."""

    def set_times(self, at: D, name: str, times: TimeUpdate, now: int) -> None:
        """Set the times of ``name``."""

    def check_space(self, names: int, size: int) -> None:
        """Raise ReplayError if ``names`` new entries and ``size`` bytes exceed the limit."""

    def close(self) -> None:
        """Close the root directory of the mount."""


class MountDirectory(Generic[D]):
    """An open directory of a mount. Paths are relative to it and cannot leave it."""

    def __init__(self, backend: FileBackend[D], at: D, *, is_root: bool = False) -> None:
        self.backend, self.at = backend, at
        self._is_root = is_root

    def open(
        self, path: str, flags: int, lookup: int, now: int
    ) -> "BackendFile | MountDirectory[D]":
        """Open a file or a directory by its path. Create the file if ``flags`` request it."""
        exclusive = bool(flags & OpenFlags.CREATE and flags & OpenFlags.EXCLUSIVE)
        follow = bool(lookup & LOOKUP_FOLLOW) and not exclusive
        with resolve_path(self.at, path, self.backend, follow=follow) as location:
            kind = self._kind(location)
            if kind is None:
                if not flags & OpenFlags.CREATE:
                    raise ReplayError(f"cannot open {quote_path(path)}: it does not exist")
                if location.must_be_directory:
                    raise ReplayError(
                        f"cannot create the file {quote_path(path)}: it names a directory"
                    )
                return self.backend.make_file(location.parent, location.name, now)
            if exclusive:
                raise ReplayError(f"cannot create {quote_path(path)}: it already exists")
            if kind is FileType.DIRECTORY:
                return MountDirectory(
                    self.backend, self.backend.enter(location.parent, location.name)
                )
            if kind is not FileType.REGULAR_FILE:
                raise ReplayError(
                    f"cannot open {quote_path(path)}: it is neither a file nor a directory"
                )
            if location.must_be_directory or flags & OpenFlags.DIRECTORY:
                raise ReplayError(f"{quote_path(path)} is not a directory")
            file = self.backend.open_file(location.parent, location.name)
            if flags & OpenFlags.TRUNCATE:
                file.set_size(0, now)
            return file

    def create_directory(self, path: str, now: int) -> None:
        """Create a directory."""
        with self._resolve_free(path) as location:
            self.backend.make_directory(location.parent, location.name, now)

    def symlink(self, target: str, path: str, now: int) -> None:
        """Create a symbolic link to ``target``."""
        check_path(target)
        with self._resolve_free(path) as location:
            _refuse_directory_path(location, path)
            self.backend.make_symlink(location.parent, location.name, target, now)

    def remove_directory(self, path: str, now: int) -> None:
        """Remove an empty directory."""
        with resolve_path(self.at, path, self.backend, follow=False) as location:
            if self._get_existing_kind(location, path) is not FileType.DIRECTORY:
                raise ReplayError(f"{quote_path(path)} is not a directory")
            if location.must_be_directory:  # WASI allows no path that ends in a slash or a dot.
                raise ReplayError(
                    f"cannot remove the directory {quote_path(path)}: its path ends in / or a dot"
                )
            self.backend.remove_directory(location.parent, location.name, now)

    def unlink(self, path: str, now: int) -> None:
        """Unlink a file or a symbolic link."""
        with resolve_path(self.at, path, self.backend, follow=False) as location:
            if self._get_existing_kind(location, path) is FileType.DIRECTORY:
                raise ReplayError(f"{quote_path(path)} is a directory")
            self.backend.unlink(location.parent, location.name, now)

    def rename(self, path: str, to: "MountDirectory[D]", to_path: str, now: int) -> None:
        """Rename a file or a directory, and replace ``to_path``."""
        self._check_same_mount(to)
        with (
            resolve_path(self.at, path, self.backend, follow=False) as source,
            resolve_path(to.at, to_path, self.backend, follow=False) as target,
        ):
            kind = self._get_existing_kind(source, path)
            if "." in (source.name, target.name):
                raise ReplayError(
                    f"{quote_path(path)} cannot be renamed: an open directory has no name"
                )
            if kind is not FileType.DIRECTORY:
                _refuse_directory_path(target, to_path)
            self.backend.rename(source.parent, source.name, target.parent, target.name, now)

    def link(self, path: str, to: "MountDirectory[D]", to_path: str, now: int) -> None:
        """Create a hard link to a file."""
        self._check_same_mount(to)
        with (
            resolve_path(self.at, path, self.backend, follow=False) as source,
            to._resolve_free(to_path) as target,
        ):
            if self._get_existing_kind(source, path) is FileType.DIRECTORY:
                raise ReplayError(
                    f"cannot create a hard link to {quote_path(path)}: it is a directory"
                )
            _refuse_directory_path(target, to_path)
            self.backend.make_hard_link(source.parent, source.name, target.parent, target.name, now)

    def set_times(self, times: TimeUpdate, now: int) -> None:
        """Set the times of the directory."""
        self.backend.set_times(self.at, ".", times, now)

    def set_times_at(self, path: str, lookup: int, times: TimeUpdate, now: int) -> None:
        """Set the times of a file or a directory by its path."""
        follow = bool(lookup & LOOKUP_FOLLOW)
        with resolve_path(self.at, path, self.backend, follow=follow) as location:
            self._get_existing_kind(location, path)
            self.backend.set_times(location.parent, location.name, times, now)

    def place_file(self, names: list[str], event: FilePlaced, now: int) -> None:
        """Put a file, a directory or a link in place before the guest starts."""
        _check_placement(names, event)
        is_directory = event.kind is FileType.DIRECTORY
        at, is_missing = self.backend.enter(self.at, "."), False
        try:
            for index, name in enumerate(names if is_directory else names[:-1]):
                if self.backend.kind(at, name) is None:
                    if event.offset:
                        raise ReplayError(
                            f"cannot continue {quote_path(event.path)}: it does not exist"
                        )
                    if not is_missing:
                        self.backend.check_space(len(names) - index, len(event.data))
                    self.backend.make_directory(at, name, now)
                    is_missing = True
                parent, at = at, self.backend.enter(at, name)
                self.backend.leave(parent)
            if not is_directory and names:
                self._place_entry(at, names[-1], event, now)
        finally:
            self.backend.leave(at)

    def _place_entry(self, at: D, name: str, event: FilePlaced, now: int) -> None:
        kind = self.backend.kind(at, name)
        if kind is FileType.DIRECTORY:
            raise ReplayError(f"{quote_path(event.path)} is a directory")
        self.backend.check_space(int(kind is None), len(event.data))
        if event.offset:
            file = self.backend.open_file(at, name)
        else:
            if kind is not None:
                self.backend.unlink(at, name, now)
            if event.kind is FileType.SYMBOLIC_LINK:
                self.backend.make_symlink(at, name, _link_target(event), now)
                return
            file = self.backend.make_file(at, name, now)
        try:
            if file.size() != event.offset:
                raise ReplayError(
                    f"a part of {quote_path(event.path)} does not follow the previous part"
                )
            file.write(event.offset, event.data, None)
        finally:
            file.close()

    def close(self) -> None:
        """Close the directory, unless it is the root directory of the mount."""
        if not self._is_root:
            self.backend.leave(self.at)

    @contextmanager
    def _resolve_free(self, path: str) -> Iterator[ResolvedPath[D]]:
        """Resolve ``path``. Raises ReplayError if it exists."""
        with resolve_path(self.at, path, self.backend, follow=False) as location:
            if self._kind(location) is not None:
                raise ReplayError(f"{quote_path(path)} already exists")
            yield location

    def _check_same_mount(self, other: "MountDirectory[D]") -> None:
        if other.backend is not self.backend:
            raise ReplayError("the two paths belong to different mounts")

    def _kind(self, location: ResolvedPath[D]) -> FileType | None:
        if location.name == ".":
            return FileType.DIRECTORY
        return self.backend.kind(location.parent, location.name)

    def _get_existing_kind(self, location: ResolvedPath[D], path: str) -> FileType:
        kind = self._kind(location)
        if kind is None:
            raise ReplayError(f"{quote_path(path)} does not exist")
        if location.must_be_directory and kind is not FileType.DIRECTORY:
            raise ReplayError(f"{quote_path(path)} is not a directory")
        return kind


def _refuse_directory_path(location: ResolvedPath[D], path: str) -> None:
    if location.must_be_directory:
        raise ReplayError(f"{quote_path(path)} is a file, but its path names a directory")


def _check_placement(names: list[str], event: FilePlaced) -> None:
    """Raise ReplayError for an invalid path or an unsupported kind of file."""
    if not {".", ".."}.isdisjoint(names):
        raise ReplayError(f"the path {quote_path(event.path)} of a file contains . or ..")
    check_path("/".join(names) or ".")
    for name in names:
        check_name(name)
    if event.kind is FileType.SYMBOLIC_LINK:
        target = _link_target(event)
        check_path(target.lstrip("/") or target[:1].replace("/", "."))
    elif event.kind not in (FileType.REGULAR_FILE, FileType.DIRECTORY):
        raise ReplayError(f"{quote_path(event.path)} is neither a file nor a directory nor a link")
    if event.offset and event.kind is not FileType.REGULAR_FILE:
        raise ReplayError(
            f"{quote_path(event.path)} has a part at offset {event.offset}, but is not a file"
        )


def _link_target(event: FilePlaced) -> str:
    return event.data.decode(errors="replace")

"""Operations on the files of a mount, the same for every backend.

A backend finds, creates and removes one name in one directory. The meaning of paths and the reasons
for refusals are implemented here, once for a running guest and for a replay, for files in memory
and for files in a real directory.
"""

from typing import Any, Generic, Self, TypeVar

from journal.events import paths
from journal.events.descriptors import FileDescriptorSetTimes
from journal.events.paths import FileType, OpenFlags
from journal.vfs.backend import BackendFile, BackendNode, FileBackend
from journal.vfs.errors import FileError
from journal.vfs.open_request import OpenRequest
from journal.vfs.path_resolution import PathLocation, check_path, release_location, resolve
from journal.vfs.times import TimeUpdate
from journal.wasi_abi import SYMLINK_FOLLOW, Errno

D = TypeVar("D")

_CREATE, _DIRECTORY, _EXCLUSIVE, _TRUNCATE = map(int, OpenFlags)


class MountDirectory(Generic[D]):
    """An open directory of a mount. Paths are relative to it and cannot leave it.

    Each method checks the call, records its effect, and makes the change. It raises ``FileError``
    for a call that is refused; nothing is recorded or changed then.
    """

    def __init__(self, backend: FileBackend[D, Any], at: D, *, is_root: bool = False) -> None:
        self.backend, self.at = backend, at
        self._is_root = is_root

    def open(self, request: OpenRequest) -> BackendFile | Self:
        """Open the file or the directory at a path; create the file if the flags request it."""
        path, flags = request.path, request.flags
        exclusive = bool(flags & _CREATE and flags & _EXCLUSIVE)
        follow = bool(request.lookup & SYMLINK_FOLLOW) and not exclusive
        location = resolve(self.at, path, self.backend, follow=follow)
        try:
            node = self.backend.find(location.parent, location.name)
            is_directory = node is not None and node.filetype is FileType.DIRECTORY
            names_directory = location.must_be_directory and location.name != "."
            if flags & _CREATE and names_directory and (exclusive or not is_directory):
                raise FileError(
                    Errno.ISDIR, "cannot create the file {}: it names a directory", path
                )
            if node is None:
                return self._open_new(request, location)
            if exclusive:
                raise FileError(Errno.EXIST, "cannot create {}: it already exists", path)
            if is_directory:
                return self._open_directory(request, location)
            if node.filetype is not FileType.REGULAR_FILE:
                raise FileError(
                    Errno.LOOP, "cannot open {}: it is neither a file nor a directory", path
                )
            if location.must_be_directory or flags & _DIRECTORY:
                raise FileError(Errno.NOTDIR, "{} is not a directory", path)
            now = self._record_open(request)
            file = self.backend.open_file(location.parent, location.name)
            if flags & _TRUNCATE:
                file.resize(0, now)
            return file
        finally:
            release_location(location, self.backend)

    def _open_new(self, request: OpenRequest, location: PathLocation[D]) -> BackendFile:
        if not request.flags & _CREATE:
            raise FileError(Errno.NOENT, "cannot open {}: it does not exist", request.path)
        self._check_can_add(location)
        return self.backend.make_file(location.parent, location.name, self._record_open(request))

    def _open_directory(self, request: OpenRequest, location: PathLocation[D]) -> Self:
        self._record_open(request)
        return type(self)(self.backend, self.backend.enter(location.parent, location.name))

    def _record_open(self, request: OpenRequest) -> int:
        return self.backend.recorder.record(request.kind, *request.event_values)

    def create_directory(self, fd: int, path: str) -> None:
        """Create a directory."""
        location = resolve(self.at, path, self.backend, follow=False)
        try:
            self._check_free(location, path)
            self._check_can_add(location)
            now = self.backend.recorder.record(paths.CreateDirectory, fd, path)
            self.backend.make_directory(location.parent, location.name, now)
        finally:
            release_location(location, self.backend)

    def symlink(self, fd: int, target: str, path: str) -> None:
        """Create a symbolic link to ``target``."""
        check_path(target)
        location = resolve(self.at, path, self.backend, follow=False)
        try:
            self._check_free_for_file(location, path)
            self._check_can_add(location)
            now = self.backend.recorder.record(paths.CreateSymbolicLink, fd, target, path)
            self.backend.make_symlink(location.parent, location.name, target, now)
        finally:
            release_location(location, self.backend)

    def remove_directory(self, fd: int, path: str) -> None:
        """Remove an empty directory."""
        location = resolve(self.at, path, self.backend, follow=False)
        try:
            if self._find_existing(location, path).filetype is not FileType.DIRECTORY:
                raise FileError(Errno.NOTDIR, "{} is not a directory", path)
            if location.must_be_directory:  # wasmtime refuses a trailing slash, too.
                raise FileError(
                    Errno.INVAL,
                    "cannot remove the directory {}: its path ends in / or a dot",
                    path,
                )
            self.backend.check_empty(location.parent, location.name)
            now = self.backend.recorder.record(paths.RemoveDirectory, fd, path)
            self.backend.remove_directory(location.parent, location.name, now)
        finally:
            release_location(location, self.backend)

    def unlink(self, fd: int, path: str) -> None:
        """Unlink a file or a symbolic link."""
        location = resolve(self.at, path, self.backend, follow=False)
        try:
            if self._find_existing(location, path).filetype is FileType.DIRECTORY:
                raise FileError(Errno.ISDIR, "{} is a directory", path)
            if location.must_be_directory:
                raise FileError(Errno.NOTDIR, "{} is not a directory", path)
            now = self.backend.recorder.record(paths.UnlinkFile, fd, path)
            self.backend.unlink(location.parent, location.name, now)
        finally:
            release_location(location, self.backend)

    def rename(self, fd: int, path: str, to: object, to_fd: int, to_path: str) -> None:
        """Rename a file or a directory, and replace ``to_path``."""
        source, target = self._resolve_both(path, to, to_path)
        try:
            if "." in (source.name, target.name):
                raise FileError(
                    Errno.BUSY, "{} cannot be renamed: an open directory has no name", path
                )
            self.backend.check_rename(source, target, self._find_existing(source, path))
            now = self.backend.recorder.record(paths.PathRename, fd, to_fd, path, to_path)
            self.backend.rename(source.parent, source.name, target.parent, target.name, now)
        finally:
            release_location(source, self.backend)
            release_location(target, self.backend)

    def link(self, fd: int, lookup: int, path: str, to: object, to_fd: int, to_path: str) -> None:
        """Create a hard link to a file."""
        source, target = self._resolve_both(path, to, to_path)
        try:
            node = self._find_existing(source, path)
            self._check_free_for_file(target, to_path)
            self.backend.check_can_create(target.parent, target.name)
            if node.filetype is FileType.DIRECTORY:
                raise FileError(
                    Errno.PERM, "cannot create a hard link to {}: it is a directory", path
                )
            self.backend.check_space(1, 0)
            now = self.backend.recorder.record(
                paths.CreateHardLink, fd, lookup, to_fd, path, to_path
            )
            self.backend.make_hard_link(source.parent, source.name, target.parent, target.name, now)
        finally:
            release_location(source, self.backend)
            release_location(target, self.backend)

    def set_times(self, fd: int, times: TimeUpdate) -> None:
        """Set the times of the directory."""
        now = self.backend.recorder.record(FileDescriptorSetTimes, fd, *times)
        self.backend.set_times(self.at, ".", times, now)

    def set_times_at(self, fd: int, path: str, lookup: int, times: TimeUpdate) -> None:
        """Set the times of a file or a directory by its path."""
        location = resolve(self.at, path, self.backend, follow=bool(lookup & SYMLINK_FOLLOW))
        try:
            self._find_existing(location, path)
            now = self.backend.recorder.record(paths.PathSetTimes, fd, lookup, *times, path)
            self.backend.set_times(location.parent, location.name, times, now)
        finally:
            release_location(location, self.backend)

    def close(self) -> None:
        """Close the directory, unless it is the root directory of the mount."""
        if not self._is_root:
            self.backend.leave(self.at)

    def _resolve_both(
        self, path: str, to: object, to_path: str
    ) -> tuple[PathLocation[D], PathLocation[D]]:
        if not isinstance(to, MountDirectory) or to.backend is not self.backend:
            raise FileError(Errno.XDEV, "the two paths belong to different mounts")
        source = resolve(self.at, path, self.backend, follow=False)
        try:
            return source, resolve(to.at, to_path, self.backend, follow=False)
        except BaseException:
            release_location(source, self.backend)
            raise

    def _find_existing(self, location: PathLocation[D], path: str) -> BackendNode:
        node: BackendNode | None = self.backend.find(location.parent, location.name)
        if node is None:
            raise FileError(Errno.NOENT, "{} does not exist", path)
        if location.must_be_directory and node.filetype not in (
            FileType.DIRECTORY,
            FileType.SYMBOLIC_LINK,
        ):
            raise FileError(Errno.NOTDIR, "{} is not a directory", path)
        return node

    def _check_free(self, location: PathLocation[D], path: str) -> None:
        if self.backend.find(location.parent, location.name) is not None:
            raise FileError(Errno.EXIST, "{} already exists", path)

    def _check_free_for_file(self, location: PathLocation[D], path: str) -> None:
        """Raise ``FileError`` unless a file that is not a directory can get this name."""
        node = self.backend.find(location.parent, location.name)
        if node is not None:
            if location.must_be_directory and node.filetype is not FileType.DIRECTORY:
                raise FileError(Errno.NOTDIR, "{} is not a directory", path)
            raise FileError(Errno.EXIST, "{} already exists", path)
        if location.must_be_directory:
            raise FileError(Errno.NOENT, "{} is a file, but its path names a directory", path)

    def _check_can_add(self, location: PathLocation[D]) -> None:
        self.backend.check_can_create(location.parent, location.name)
        self.backend.check_space(1, 0)

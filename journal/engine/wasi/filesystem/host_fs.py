"""Directories of the host that are mounted in the guest.

Each change of a name is performed at most once, whenever a crash occurs: see ``_perform_once``.
"""

import os
import struct
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from journal.engine.tape import HostReply
from journal.engine.wasi.filesystem.host_files import HostFile, HostHandle, HostTree, unwrap_result
from journal.engine.wasi.filesystem.host_paths import (
    FileIdentity,
    capture_result,
    filetype_of,
    identify,
    pack_entries,
    pack_names,
    probe,
    resolve_host_path,
    resolve_times,
    stat_of,
    unpack_entries,
    unpack_identity,
    unpack_names,
)
from journal.engine.wasi.filesystem.own_files import Access
from journal.engine.wasi.filesystem.tape_recorder import (
    pack_create_directory,
    pack_link,
    pack_opening,
    pack_path_times,
    pack_remove_directory,
    pack_rename,
    pack_symlink,
    pack_unlink,
)
from journal.events import paths
from journal.events.inputs import HostCall
from journal.events.paths import FileType
from journal.vfs.open_request import OpenRequest
from journal.vfs.path_resolution import PathLocation, check_path, split_path
from journal.vfs.times import TimeUpdate
from journal.wasi_abi import (
    FILESTAT,
    SYMLINK_FOLLOW,
    DirectoryEntry,
    Errno,
    FileStat,
    OpenFlags,
    WasiError,
    to_wasi_errno,
)

_COUNT = struct.Struct("<I")
#: Flags of an open that can create a file or remove its content.
_CHANGES = OpenFlags.CREATE | OpenFlags.TRUNCATE
_HANDLE_FLAGS = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW


class HostDirectory(HostHandle):
    """An open directory of the host; ``node`` is None at the root of the mount."""

    def __init__(
        self, tree: HostTree, node: FileIdentity | None = None, handle: int | None = None
    ) -> None:
        super().__init__(tree, node, os.O_PATH | os.O_DIRECTORY, handle)

    def entries(self, fd: int) -> list[DirectoryEntry]:
        """Return the entries, sorted by name."""
        value = self._tree.query_host(
            HostCall.LIST, fd, lambda: pack_entries(self.handle, self._tree.own, self._tree.check)
        )
        return unpack_entries(value)

    def open(self, request: OpenRequest) -> "HostFile | HostDirectory":
        """Open the file or the directory at a path; create the file if the flags request it."""
        exclusive = bool(request.flags & OpenFlags.CREATE and request.flags & OpenFlags.EXCLUSIVE)
        existed = exclusive and self._probe(request.dirfd, request.path)
        handles: list[int] = []

        def perform(again: bool) -> HostReply:
            is_done = again and exclusive and not existed
            return capture_result(lambda: self._open_live(request, handles, is_made=is_done))

        node = unpack_identity(
            unwrap_result(
                self._tree.perform(
                    request.kind.tag,
                    pack_opening(request),
                    HostCall.OPEN,
                    request.dirfd,
                    perform,
                    changes_host=bool(request.flags & _CHANGES),
                )
            )
        )
        handle = handles[0] if handles else None
        if node.filetype == FileType.DIRECTORY:
            return HostDirectory(self._tree, node, handle)
        file = HostFile(self._tree, node, _access_flags(request), handle)
        if self._tree.tape.replaying:
            size = file.recorded_size
            if request.flags & OpenFlags.TRUNCATE:
                size.set(0)
        return file

    def _open_live(self, request: OpenRequest, handles: list[int], *, is_made: bool) -> bytes:
        flags = _access_flags(request)
        if request.flags & OpenFlags.CREATE:
            flags |= os.O_CREAT
        if request.flags & OpenFlags.EXCLUSIVE and not is_made:
            flags |= os.O_EXCL
        if request.flags & OpenFlags.TRUNCATE:
            flags |= os.O_TRUNC
        follow = bool(request.lookup & SYMLINK_FOLLOW) and not flags & os.O_EXCL
        access = Access.CREATE if request.flags & OpenFlags.CREATE else Access.FIND
        with self._resolve(request.path, access, follow=follow) as location:
            if location.must_be_directory or request.flags & OpenFlags.DIRECTORY:
                flags |= os.O_DIRECTORY
                if flags & os.O_CREAT:
                    already_exists = flags & os.O_EXCL and location.name == "."
                    raise WasiError(Errno.EXIST if already_exists else Errno.ISDIR)
            handle = _open_at(location, flags)
            node = identify(handle, self.names + location.names)
        if node.filetype not in (FileType.DIRECTORY, FileType.REGULAR_FILE):
            os.close(handle)
            raise WasiError(Errno.NOTSUP)
        handles.append(handle)
        return node.pack()

    def create_directory(self, fd: int, path: str) -> None:
        """Create a directory."""
        self._perform_name_change(
            paths.CreateDirectory.tag,
            pack_create_directory(fd, path),
            HostCall.MKDIR,
            fd,
            path,
            lambda location: os.mkdir(location.name, dir_fd=location.parent),
            removes=False,
        )

    def symlink(self, fd: int, target: str, path: str) -> None:
        """Create a symbolic link to ``target``."""
        check_path(target)
        self._perform_name_change(
            paths.CreateSymbolicLink.tag,
            pack_symlink(fd, target, path),
            HostCall.SYMLINK,
            fd,
            path,
            lambda location: os.symlink(target, _check_new_name(location), dir_fd=location.parent),
            removes=False,
        )

    def remove_directory(self, fd: int, path: str) -> None:
        """Remove an empty directory."""
        self._perform_name_change(
            paths.RemoveDirectory.tag,
            pack_remove_directory(fd, path),
            HostCall.RMDIR,
            fd,
            path,
            _rmdir,
            removes=True,
        )

    def unlink(self, fd: int, path: str) -> None:
        """Unlink a file or a symbolic link."""
        self._perform_name_change(
            paths.UnlinkFile.tag,
            pack_unlink(fd, path),
            HostCall.UNLINK,
            fd,
            path,
            lambda location: os.unlink(_name_with_slash(location), dir_fd=location.parent),
            removes=True,
        )
        # A path through a link names another file, which then counts as removed from outside.
        self._tree.mark_removed((*self.names, *split_path(path)))

    def read_link(self, fd: int, path: str) -> str:
        """Return the target of a symbolic link."""

        def operation() -> bytes:
            with self._resolve(path, follow=False) as location:
                if location.must_be_directory:
                    _stat_at(location)
                target = os.readlink(location.name, dir_fd=location.parent)
            return os.fsencode(target)

        return os.fsdecode(self._tree.query_host(HostCall.READLINK, fd, operation))

    def stat_at(self, fd: int, path: str, *, follow: bool) -> FileStat:
        """Return the attributes of the file at a path."""

        def operation() -> bytes:
            with self._resolve(path, follow=follow) as location:
                return _stat_at(location).pack()

        return FileStat(*FILESTAT.unpack(self._tree.query_host(HostCall.STAT, fd, operation)))

    def set_times_at(self, fd: int, path: str, lookup: int, times: TimeUpdate) -> None:
        """Set the access and modification times of the file at a path."""

        def operation() -> bytes:
            with self._resolve(path, follow=bool(lookup & SYMLINK_FOLLOW)) as location:
                resolved = resolve_times(times, _stat_at(location))
                os.utime(location.name, ns=resolved, dir_fd=location.parent, follow_symlinks=False)
            return b""

        effect = pack_path_times(fd, lookup, *times, path)
        self._perform(paths.PathSetTimes.tag, effect, HostCall.TIMES, fd, operation)

    def rename(self, fd: int, path: str, to: object, to_fd: int, to_path: str) -> None:
        """Rename a file or a directory, replacing an existing file at the new path."""
        other = self._same_mount(to)
        existed = self._probe(fd, path)

        def operation(again: bool) -> bytes:
            with (
                self._resolve(path, Access.REMOVE, follow=False) as source,
                other._resolve(to_path, Access.REMOVE, follow=False) as target,
            ):
                names = (
                    pack_names(self.names + source.names),
                    pack_names(other.names + target.names),
                )
                try:
                    os.rename(
                        _name_with_slash(source),
                        _name_with_slash(target),
                        src_dir_fd=source.parent,
                        dst_dir_fd=target.parent,
                    )
                except FileNotFoundError:
                    if not (again and existed and probe(target) == b"\x01"):
                        raise
                return _COUNT.pack(len(names[0])) + b"".join(names)

        def perform(again: bool) -> HostReply:
            return capture_result(lambda: operation(again))

        effect = pack_rename(fd, to_fd, path, to_path)
        record = self._tree.perform
        value = unwrap_result(record(paths.PathRename.tag, effect, HostCall.RENAME, fd, perform))
        (size,) = _COUNT.unpack_from(value)
        old, new = value[_COUNT.size : _COUNT.size + size], value[_COUNT.size + size :]
        self._tree.update_names(unpack_names(old), unpack_names(new))

    def link(self, fd: int, lookup: int, path: str, to: object, to_fd: int, to_path: str) -> None:
        """Create a hard link."""
        if lookup & SYMLINK_FOLLOW:
            raise WasiError(Errno.INVAL)
        other = self._same_mount(to)

        def operation() -> None:
            with (
                self._resolve(path, follow=False) as source,
                other._resolve(to_path, Access.CREATE, follow=False) as target,
            ):
                _stat_at(source)
                os.link(
                    source.name,
                    _check_new_name(target),
                    src_dir_fd=source.parent,
                    dst_dir_fd=target.parent,
                    follow_symlinks=False,
                )

        effect = pack_link(fd, lookup, to_fd, path, to_path)
        existed = other._probe(to_fd, to_path)
        self._perform_once(
            paths.CreateHardLink.tag, effect, HostCall.LINK, to_fd, operation, existed, False
        )

    def _resolve(
        self, path: str, access: Access = Access.FIND, *, follow: bool
    ) -> AbstractContextManager[PathLocation[int]]:
        return resolve_host_path(self.handle, path, self._tree.own, access, follow=follow)

    def _same_mount(self, other: object) -> "HostDirectory":
        if not isinstance(other, HostDirectory) or other._tree is not self._tree:
            raise WasiError(Errno.XDEV)
        return other

    def _probe(self, fd: int, path: str) -> bool:
        """Return whether a file exists at ``path``. The result is recorded before the change."""

        def operation() -> bytes:
            with self._resolve(path, follow=False) as location:
                return probe(location)

        _, value = self._tree.tape.request_host_result(
            HostCall.PROBE, fd, lambda: capture_result(operation)
        )
        return value == b"\x01"

    def _perform_name_change(
        self,
        tag: int,
        effect: bytes,
        call: HostCall,
        fd: int,
        path: str,
        operation: Callable[[PathLocation[int]], None],
        *,
        removes: bool,
    ) -> None:
        """Create or remove the name ``path``, at most once."""
        existed = self._probe(fd, path)
        access = Access.REMOVE if removes else Access.CREATE
        self._perform_once(
            tag, effect, call, fd, lambda: self._call_at(path, access, operation), existed, removes
        )

    def _call_at(
        self, path: str, access: Access, operation: Callable[[PathLocation[int]], None]
    ) -> None:
        with self._resolve(path, access, follow=False) as location:
            operation(location)

    def _perform_once(
        self,
        tag: int,
        effect: bytes,
        call: HostCall,
        fd: int,
        operation: Callable[[], None],
        existed: bool,
        removes: bool,
    ) -> None:
        """Perform a change that creates or removes a name, at most once.

        After a crash the change is repeated, and fails if the first attempt succeeded. If
        the probe shows that the first attempt could succeed, this failure is reported as
        success.
        """
        expected_errno = Errno.NOENT if removes else Errno.EXIST

        def live() -> bytes:
            operation()
            return b""

        def perform(again: bool) -> HostReply:
            errno, value = capture_result(live)
            if again and existed is removes and errno == expected_errno:
                return 0, b""
            return errno, value

        unwrap_result(self._tree.perform(tag, effect, call, fd, perform))


def read_host_file(tree: HostTree, path: str) -> bytes:
    """Return the data of the regular file that ``path`` is for a guest, below the mount ``tree``.

    Raises ``WasiError`` with the errno that the guest would get. Safe from any thread.
    """
    try:
        with ExitStack() as stack:
            root = tree.open_root()
            stack.callback(os.close, root)
            location = stack.enter_context(resolve_host_path(root, path, tree.own, follow=True))
            flags = os.O_DIRECTORY if location.must_be_directory else 0
            handle = _open_at(location, os.O_RDONLY | flags)
            file = stack.enter_context(open(handle, "rb"))  # noqa: PTH123 (a descriptor)
            if filetype_of(os.fstat(handle).st_mode) is not FileType.REGULAR_FILE:
                raise WasiError(Errno.NOTSUP)
            return file.read()
    except OSError as error:
        raise WasiError(to_wasi_errno(error)) from error


def _access_flags(request: OpenRequest) -> int:
    if request.is_readable and request.is_writable:
        return os.O_RDWR
    return os.O_WRONLY if request.is_writable else os.O_RDONLY


def _stat_at(location: PathLocation[int]) -> FileStat:
    stat = stat_of(os.stat(location.name, dir_fd=location.parent, follow_symlinks=False))
    if location.must_be_directory and stat.filetype != FileType.DIRECTORY:
        raise WasiError(Errno.NOTDIR)
    return stat


def _rmdir(location: PathLocation[int]) -> None:
    if location.must_be_directory:
        _stat_at(location)
        raise WasiError(Errno.INVAL)  # wasmtime refuses a trailing slash, too.
    os.rmdir(location.name, dir_fd=location.parent)


def _open_at(location: PathLocation[int], flags: int) -> int:
    try:
        return os.open(location.name, flags | _HANDLE_FLAGS, 0o666, dir_fd=location.parent)
    except NotADirectoryError as error:
        # O_NOFOLLOW with O_DIRECTORY fails with ENOTDIR for a link: LOOP is more precise.
        if _is_link(location):
            raise WasiError(Errno.LOOP) from error
        raise


def _is_link(location: PathLocation[int]) -> bool:
    try:
        os.readlink(location.name, dir_fd=location.parent)
    except OSError:
        return False
    return True


def _name_with_slash(location: PathLocation[int]) -> str:
    """Return the name, with a slash if the path ended with one: the host checks the type then."""
    return (
        location.name + "/"
        if location.must_be_directory and location.name != "."
        else location.name
    )


def _check_new_name(location: PathLocation[int]) -> str:
    """Return the name of a new link; refuse a path that requires a directory."""
    if location.must_be_directory and location.name != ".":
        try:
            stat = os.stat(location.name, dir_fd=location.parent, follow_symlinks=False)
        except OSError as error:
            raise WasiError(to_wasi_errno(error)) from error
        is_directory = filetype_of(stat.st_mode) is FileType.DIRECTORY
        raise WasiError(Errno.EXIST if is_directory else Errno.NOTDIR)
    return location.name

"""Directories of the host that a guest has: what it does with names there.

Each change of names is done at most once, whatever crash comes between: see ``_once``.
"""

import os
import struct
import time
from collections.abc import Callable

from journal.engine.tape import HostReply
from journal.engine.wasi.filesystem.host_files import HostFile, HostHandle, HostTree, unwrap_result
from journal.engine.wasi.filesystem.host_paths import (
    HOST_WALKER,
    FileIdentity,
    capture_result,
    identify,
    pack_entries,
    pack_names,
    probe,
    resolve_host_path,
    stat_of,
    unpack_entries,
    unpack_identity,
    unpack_names,
)
from journal.engine.wasi.filesystem.interfaces import (
    GuestDirectory,
    OpenRequest,
    RequestedTimes,
    pack_create_directory,
    pack_link,
    pack_path_times,
    pack_remove_directory,
    pack_rename,
    pack_symlink,
    pack_unlink,
)
from journal.engine.wasi.filesystem.path_resolution import PathLocation
from journal.engine.wasi_abi import (
    FILESTAT,
    SYMLINK_FOLLOW,
    DirectoryEntry,
    Errno,
    FileStat,
    OpenFlags,
    WasiError,
    to_wasi_errno,
)
from journal.events import descriptors, paths
from journal.events.inputs import HostCall
from journal.events.paths import FileType

_COUNT = struct.Struct("<I")
_HANDLE_FLAGS = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW


class HostDirectory(HostHandle):
    """An open directory of the host; ``node`` is ``None`` at the mount's root."""

    def __init__(
        self, tree: HostTree, node: FileIdentity | None = None, handle: int | None = None
    ) -> None:
        super().__init__(tree, node, os.O_PATH | os.O_DIRECTORY, handle)

    def entries(self, fd: int) -> list[DirectoryEntry]:
        """What is in it, by name."""
        value = self._tree.query_host(HostCall.LIST, fd, lambda: pack_entries(self.handle))
        return unpack_entries(value)

    def open(self, opening: OpenRequest) -> "HostFile | HostDirectory":
        """Open what a path leads to, making a file if it is to be made."""
        exclusive = bool(opening.flags & OpenFlags.CREATE and opening.flags & OpenFlags.EXCLUSIVE)
        was_there = exclusive and self._probe(opening.dirfd, opening.path)
        handles: list[int] = []

        def perform(again: bool) -> HostReply:
            done = again and exclusive and not was_there
            return capture_result(lambda: self._open_live(opening, handles, made_already=done))

        node = unpack_identity(
            unwrap_result(
                self._tree.tape.perform(
                    descriptors.OpenFileDescriptor.tag,
                    opening.effect,
                    HostCall.OPEN,
                    opening.dirfd,
                    perform,
                )
            )
        )
        handle = handles[0] if handles else None
        if node.filetype == FileType.DIRECTORY:
            return HostDirectory(self._tree, node, handle)
        return HostFile(self._tree, node, _access_flags(opening), handle)

    def _open_live(self, opening: OpenRequest, handles: list[int], *, made_already: bool) -> bytes:
        flags = _access_flags(opening)
        if opening.flags & OpenFlags.CREATE:
            flags |= os.O_CREAT
        if opening.flags & OpenFlags.EXCLUSIVE and not made_already:
            flags |= os.O_EXCL
        if opening.flags & OpenFlags.TRUNCATE:
            flags |= os.O_TRUNC
        follow = bool(opening.lookup & SYMLINK_FOLLOW) and not flags & os.O_EXCL
        with resolve_host_path(self.handle, opening.path, follow=follow) as place:
            if place.must_be_directory or opening.flags & OpenFlags.DIRECTORY:
                flags |= os.O_DIRECTORY
                if flags & os.O_CREAT:
                    there = flags & os.O_EXCL and place.name == "."
                    raise WasiError(Errno.EXIST if there else Errno.ISDIR)
            handle = _open_at(place, flags)
            node = identify(handle, self.names + place.names)
        if node.filetype not in (FileType.DIRECTORY, FileType.REGULAR_FILE):
            os.close(handle)
            raise WasiError(Errno.NOTSUP)
        handles.append(handle)
        return node.pack()

    def create_directory(self, fd: int, path: str) -> None:
        """Make a directory."""
        self._change_name(
            paths.CreateDirectory.tag,
            pack_create_directory(fd, path),
            HostCall.MKDIR,
            fd,
            path,
            lambda place: os.mkdir(place.name, dir_fd=place.parent),
            removes=False,
        )

    def symlink(self, fd: int, target: str, path: str) -> None:
        """Make a link that says ``target``."""
        self._change_name(
            paths.CreateSymbolicLink.tag,
            pack_symlink(fd, target, path),
            HostCall.SYMLINK,
            fd,
            path,
            lambda place: os.symlink(target, _check_new_name(place), dir_fd=place.parent),
            removes=False,
        )

    def remove_directory(self, fd: int, path: str) -> None:
        """Remove an empty directory."""
        self._change_name(
            paths.RemoveDirectory.tag,
            pack_remove_directory(fd, path),
            HostCall.RMDIR,
            fd,
            path,
            _rmdir,
            removes=True,
        )

    def unlink(self, fd: int, path: str) -> None:
        """Remove a file or a link."""
        self._change_name(
            paths.UnlinkFile.tag,
            pack_unlink(fd, path),
            HostCall.UNLINK,
            fd,
            path,
            lambda place: os.unlink(_name_with_slash(place), dir_fd=place.parent),
            removes=True,
        )

    def read_link(self, fd: int, path: str) -> str:
        """What a link says."""

        def deed() -> bytes:
            with resolve_host_path(self.handle, path, follow=False) as place:
                if place.must_be_directory:
                    _stat_at(place)
                target = os.readlink(place.name, dir_fd=place.parent)
            try:
                return target.encode()
            except UnicodeEncodeError as error:
                raise WasiError(Errno.ILSEQ) from error

        return self._tree.query_host(HostCall.READLINK, fd, deed).decode()

    def stat_at(self, fd: int, path: str, *, follow: bool) -> FileStat:
        """Attributes of what a path leads to."""

        def deed() -> bytes:
            with resolve_host_path(self.handle, path, follow=follow) as place:
                return _stat_at(place).pack()

        return FileStat(*FILESTAT.unpack(self._tree.query_host(HostCall.STAT, fd, deed)))

    def set_times_at(self, fd: int, path: str, lookup: int, times: RequestedTimes) -> None:
        """Set the times of what a path leads to."""

        def deed() -> bytes:
            with resolve_host_path(
                self.handle, path, follow=bool(lookup & SYMLINK_FOLLOW)
            ) as place:
                resolved = times.resolved(time.time_ns(), _stat_at(place))
                os.utime(place.name, ns=resolved, dir_fd=place.parent, follow_symlinks=False)
            return b""

        effect = pack_path_times(fd, lookup, *times, path)
        self._change(paths.PathSetTimes.tag, effect, HostCall.TIMES, fd, deed)

    def rename(self, fd: int, path: str, to: GuestDirectory, to_fd: int, to_path: str) -> None:
        """Give something another name, replacing what had it."""
        other = self._same_mount(to)
        was_there = self._probe(fd, path)

        def deed(again: bool) -> bytes:
            with (
                resolve_host_path(self.handle, path, follow=False) as source,
                resolve_host_path(other.handle, to_path, follow=False) as target,
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
                    if not (again and was_there and probe(target) == b"\x01"):
                        raise
                return _COUNT.pack(len(names[0])) + b"".join(names)

        def perform(again: bool) -> HostReply:
            return capture_result(lambda: deed(again))

        effect = pack_rename(fd, to_fd, path, to_path)
        record = self._tree.tape.perform
        value = unwrap_result(record(paths.PathRename.tag, effect, HostCall.RENAME, fd, perform))
        (size,) = _COUNT.unpack_from(value)
        old, new = value[_COUNT.size : _COUNT.size + size], value[_COUNT.size + size :]
        self._tree.update_names(unpack_names(old), unpack_names(new))

    def link(
        self, fd: int, lookup: int, path: str, to: GuestDirectory, to_fd: int, to_path: str
    ) -> None:
        """Give a file one more name."""
        if lookup & SYMLINK_FOLLOW:
            raise WasiError(Errno.INVAL)
        other = self._same_mount(to)

        def deed() -> None:
            with (
                resolve_host_path(self.handle, path, follow=False) as source,
                resolve_host_path(other.handle, to_path, follow=False) as target,
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
        was_there = other._probe(to_fd, to_path)
        self._once(paths.CreateHardLink.tag, effect, HostCall.LINK, to_fd, deed, was_there, False)

    def _same_mount(self, other: GuestDirectory) -> "HostDirectory":
        if not isinstance(other, HostDirectory) or other._tree is not self._tree:
            raise WasiError(Errno.XDEV)
        return other

    def _probe(self, fd: int, path: str) -> bool:
        """Whether something is at ``path``, before it is changed."""

        def deed() -> bytes:
            with resolve_host_path(self.handle, path, follow=False) as place:
                return probe(place)

        _, value = self._tree.tape.request_host_result(
            HostCall.PROBE, fd, lambda: capture_result(deed)
        )
        return value == b"\x01"

    def _change_name(
        self,
        tag: int,
        effect: bytes,
        call: HostCall,
        fd: int,
        path: str,
        deed: Callable[[PathLocation[int]], None],
        *,
        removes: bool,
    ) -> None:
        """A change that must find something at ``path`` to remove it, or nothing to make it."""
        was_there = self._probe(fd, path)
        self._once(tag, effect, call, fd, lambda: self._at(path, deed), was_there, removes)

    def _at(self, path: str, deed: Callable[[PathLocation[int]], None]) -> None:
        with resolve_host_path(self.handle, path, follow=False) as place:
            deed(place)

    def _once(
        self,
        tag: int,
        effect: bytes,
        call: HostCall,
        fd: int,
        deed: Callable[[], None],
        was_there: bool,
        removes: bool,
    ) -> None:
        """A change after which something is there if it was not, or the other way round.

        Done once more after a crash, it is refused if it had been done; where the probe says that
        it could have been done, that refusal is the success it was.
        """
        refused_with = Errno.NOENT if removes else Errno.EXIST

        def live() -> bytes:
            deed()
            return b""

        def perform(again: bool) -> HostReply:
            errno, value = capture_result(live)
            if again and was_there is removes and errno == refused_with:
                return 0, b""
            return errno, value

        unwrap_result(self._tree.tape.perform(tag, effect, call, fd, perform))


def _access_flags(opening: OpenRequest) -> int:
    if opening.is_readable and opening.is_writable:
        return os.O_RDWR
    return os.O_WRONLY if opening.is_writable else os.O_RDONLY


def _stat_at(place: PathLocation[int]) -> FileStat:
    found = stat_of(os.stat(place.name, dir_fd=place.parent, follow_symlinks=False))
    if place.must_be_directory and found.filetype != FileType.DIRECTORY:
        raise WasiError(Errno.NOTDIR)
    return found


def _rmdir(place: PathLocation[int]) -> None:
    if place.must_be_directory:
        _stat_at(place)
        raise WasiError(Errno.INVAL)  # as wasmtime has it: the name must stand alone
    os.rmdir(place.name, dir_fd=place.parent)


def _open_at(place: PathLocation[int], flags: int) -> int:
    try:
        return os.open(place.name, flags | _HANDLE_FLAGS, 0o666, dir_fd=place.parent)
    except NotADirectoryError as error:
        # A link that is not followed is no directory either; what it is counts more.
        if HOST_WALKER.link_target(place.parent, place.name) is not None:
            raise WasiError(Errno.LOOP) from error
        raise


def _name_with_slash(place: PathLocation[int]) -> str:
    """The name with the slash that its path ended with, so that the host judges it."""
    return place.name + "/" if place.must_be_directory and place.name != "." else place.name


def _check_new_name(place: PathLocation[int]) -> str:
    """The name of something that is not a directory; refuses one that must be."""
    if place.must_be_directory and place.name != ".":
        try:
            os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)
        except OSError as error:
            raise WasiError(to_wasi_errno(error)) from error
        raise WasiError(Errno.EXIST)
    return place.name

"""The interface of a backend: one name at a time in one directory of a mount."""

from typing import Protocol, TypeVar

from journal.events.paths import FileType
from journal.vfs.effects import EffectRecorder
from journal.vfs.path_resolution import PathLocation, PathWalker
from journal.vfs.times import TimeUpdate


class BackendNode(Protocol):
    """A file, directory or link that a backend has found."""

    @property
    def filetype(self) -> FileType:
        """Type of the node."""


D = TypeVar("D")
N = TypeVar("N", bound=BackendNode)


class BackendFile(Protocol):
    """An open regular file. A method with ``fd`` records an effect of the guest on that descriptor.

    Methods take offsets, because the descriptor has the position.
    """

    def size(self, fd: int) -> int:
        """Return the size in bytes."""

    def write(self, fd: int, offset: int, data: bytes) -> int:
        """Write ``data`` at ``offset``, with zeros in a gap, and return the count of bytes."""

    def append(self, data: bytes) -> None:
        """Append a part of a file that is put in place before the guest starts."""

    def set_size(self, fd: int, size: int) -> None:
        """Truncate the file, or extend it with zeros."""

    def resize(self, size: int, now: int) -> None:
        """Change the size at the time ``now``, as part of an effect that is already recorded."""

    def extend(self, size: int, now: int) -> None:
        """Extend the file, which is shorter than ``size``, with zeros."""

    def set_times(self, fd: int, times: TimeUpdate) -> None:
        """Set the access and modification times."""

    def close(self) -> None:
        """Close the file."""


class FileBackend(PathWalker[D], Protocol[D, N]):
    """Backend of the files of one mount. ``name`` is a single name, or ``.`` for ``at`` itself.

    All methods raise ``FileError`` if they fail, and then have changed nothing. The checks precede
    the change that they are for. A backend that only replays effects may omit them, and fail when
    it makes the change.
    """

    recorder: EffectRecorder

    def root(self) -> D:
        """Return the root directory of the mount."""

    def close(self) -> None:
        """Close the root directory of the mount."""

    def find(self, at: D, name: str) -> N | None:
        """Return the node ``name`` without following links, None if it does not exist."""

    def check_space(self, names: int, size: int) -> None:
        """Raise ``FileError`` with ``NOSPC`` if new names and bytes exceed the size limit."""

    def check_can_create(self, at: D, name: str) -> None:
        """Raise ``FileError`` with ``NOENT`` if the directory ``at`` was removed."""

    def check_empty(self, at: D, name: str) -> None:
        """Raise ``FileError`` with ``NOTEMPTY`` if the directory ``name`` has entries."""

    def check_rename(self, source: PathLocation[D], target: PathLocation[D], node: N) -> None:
        """Raise ``FileError`` unless ``node`` at ``source`` can be renamed to ``target``."""

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
        """Remove an empty directory."""

    def rename(self, at: D, name: str, to: D, to_name: str, now: int) -> None:
        """Rename a directory entry, and replace the entry ``to_name``."""

    def set_times(self, at: D, name: str, times: TimeUpdate, now: int) -> None:
        """Set the times of ``name``."""

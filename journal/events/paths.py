"""Events of names in the guest's file tree. A path is relative to the descriptor beside it."""

from enum import IntEnum, IntFlag
from typing import Annotated

import construct as cs

from journal.events.definition import Event, Group, Keep, Names, event
from journal.events.wire_types import U16, U32, U64, Blob, Enumerated, Fd, Text


class FileType(IntEnum):
    """WASI's file types, by its numbers."""

    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_DGRAM = 5
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


class OpenFlags(IntFlag):
    """WASI's ``oflags`` of path_open."""

    CREATE = 1
    DIRECTORY = 2
    EXCLUSIVE = 4
    TRUNCATE = 8


class TimeFlags(IntFlag):
    """WASI's ``fstflags``: which times to set, and whether to now."""

    ATIME = 1
    ATIME_NOW = 2
    MTIME = 4
    MTIME_NOW = 8


FileTypeField = Annotated[FileType, Enumerated(cs.Int8ul, FileType)]


@event(tag=14, group=Group.FILES, rule=Names())
class CreateDirectory(Event):
    """The guest made a directory with path_create_directory."""

    fd: Fd
    path: Text


@event(tag=15, group=Group.FILES, rule=Names())
class RemoveDirectory(Event):
    """The guest removed an empty directory with path_remove_directory."""

    fd: Fd
    path: Text


@event(tag=16, group=Group.FILES, rule=Names())
class PathSetTimes(Event):
    """The guest set the times of what a path names, with path_filestat_set_times.

    ``flags`` are WASI's lookupflags (1: follow a symbolic link), ``fst_flags`` its fstflags (which
    of the times are set, and which of them to the present); times are in nanoseconds since the
    epoch.
    """

    fd: Fd
    flags: U32
    st_atim: U64
    st_mtim: U64
    fst_flags: U16
    path: Text


@event(tag=23, group=Group.FILES, rule=Names(("old_path", "new_path")))
class CreateHardLink(Event):
    """The guest gave a file a second name with path_link. ``old_flags`` are lookupflags."""

    old_fd: Fd
    old_flags: U32
    new_fd: Fd
    old_path: Text
    new_path: Text


@event(tag=24, group=Group.FILES, rule=Names(("new_path",)))
class CreateSymbolicLink(Event):
    """The guest made ``new_path`` a symbolic link to ``old_path`` with path_symlink."""

    fd: Fd
    old_path: Text
    new_path: Text


@event(tag=25, group=Group.FILES, rule=Names())
class UnlinkFile(Event):
    """The guest removed the name of a file with path_unlink_file."""

    fd: Fd
    path: Text


@event(tag=26, group=Group.FILES, rule=Names(("old_path", "new_path")))
class PathRename(Event):
    """The guest renamed a file or a directory with path_rename, over what had the new name."""

    old_fd: Fd
    new_fd: Fd
    old_path: Text
    new_path: Text


@event(tag=27, group=Group.FILES, rule=Keep())
class ChangeDirectory(Event):
    """The guest changed its working directory with chdir.

    Relative paths before and behind it mean different places: so all of them are kept.
    """

    path: Text


@event(tag=150, group=Group.FILES, rule=Keep())
class FilePlaced(Event):
    """Contents put into a file system in memory before the guest starts.

    ``path`` is absolute in the guest's tree. A large file comes in several events, each with the
    ``offset`` of its ``data``; for a symbolic link ``data`` is what it points to.
    """

    kind: FileTypeField
    offset: U64
    path: Text
    data: Blob

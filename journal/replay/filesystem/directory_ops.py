"""What events do to the names and files of a mount, whoever keeps them.

A keeper knows how to make, find and remove one name in one directory; everything that a path means
is decided here, once for files in memory and for files in a real directory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, NamedTuple, Protocol, TypeVar

from journal.events.paths import FilePlaced, FileType, OpenFlags, TimeFlags
from journal.replay.filesystem.path_resolution import Place, Steps, check_name, check_path, place_of
from journal.replay.limits import NotPlayable, shown

D = TypeVar("D")

LOOKUP_FOLLOW = 1
"""The one bit of WASI's lookupflags."""


class Times(NamedTuple):
    """What the guest wants a file's times to be, in nanoseconds since the epoch."""

    atime: int
    mtime: int
    flags: int

    def resolved(self, now: int, atime: int, mtime: int) -> tuple[int, int]:
        """The times that result if they were ``atime`` and ``mtime``."""
        if self.flags & TimeFlags.ATIME_NOW:
            atime = now
        elif self.flags & TimeFlags.ATIME:
            atime = self.atime
        if self.flags & TimeFlags.MTIME_NOW:
            mtime = now
        elif self.flags & TimeFlags.MTIME:
            mtime = self.mtime
        return atime, mtime


class File(Protocol):
    """An open regular file."""

    def size(self) -> int:
        """Its size in bytes."""

    def write(self, offset: int, data: bytes, now: int | None) -> None:
        """Put ``data`` at ``offset``, behind zeros if it is shorter; its times stay if no now."""

    def set_size(self, size: int, now: int) -> None:
        """Cut it, or lengthen it with zeros."""

    def lengthen(self, size: int, now: int) -> None:
        """Lengthen it with zeros: it is shorter."""

    def set_times(self, times: Times, now: int) -> None:
        """Set its times."""

    def close(self) -> None:
        """It is not needed any more."""


class Keeper(Steps[D], Protocol[D]):
    """Who keeps the files of one mount. ``name`` is one name, or ``.`` for ``at`` itself.

    All refuse with NotPlayable, and then have changed nothing.
    """

    def root(self) -> D:
        """The mount's own directory."""

    def kind(self, at: D, name: str) -> FileType | None:
        """What ``name`` is, never through a link."""

    def open_file(self, at: D, name: str) -> File:
        """Open a regular file that is there."""

    def make_file(self, at: D, name: str, now: int) -> File:
        """Make a regular file, and open it."""

    def make_directory(self, at: D, name: str, now: int) -> None:
        """Make a directory."""

    def make_link(self, at: D, name: str, target: str, now: int) -> None:
        """Make a symbolic link."""

    def add_name(self, at: D, name: str, to: D, to_name: str, now: int) -> None:
        """Give what is no directory one more name."""

    def remove(self, at: D, name: str, now: int) -> None:
        """Remove the name of what is no directory."""

    def remove_directory(self, at: D, name: str, now: int) -> None:
        """Remove a directory, which must be empty."""

    def rename(self, at: D, name: str, to: D, to_name: str, now: int) -> None:
        """Give something another name, in the place of what had it."""

    def set_times(self, at: D, name: str, times: Times, now: int) -> None:
        """Set the times of what a name stands for."""

    def check_room(self, names: int, size: int) -> None:
        """Refuse what there is no room for: so many names more, and so many bytes in files."""

    def close(self) -> None:
        """Give back the mount's own directory."""


class Directory(Generic[D]):
    """An open directory of a mount; paths are relative to it and stay inside it."""

    def __init__(self, keeper: Keeper[D], at: D, *, is_root: bool = False) -> None:
        self.keeper, self.at = keeper, at
        self._is_root = is_root

    def open(self, path: str, flags: int, lookup: int, now: int) -> "File | Directory[D]":
        """Open what a path leads to, making a file if it is to be made."""
        exclusive = bool(flags & OpenFlags.CREATE and flags & OpenFlags.EXCLUSIVE)
        follow = bool(lookup & LOOKUP_FOLLOW) and not exclusive
        with place_of(self.at, path, self.keeper, follow=follow) as place:
            kind = self._kind(place)
            if kind is None:
                if not flags & OpenFlags.CREATE:
                    raise NotPlayable(f"there is no {shown(path)} to open")
                if place.must_be_directory:
                    raise NotPlayable(f"{shown(path)} cannot be made: it is to be a directory")
                return self.keeper.make_file(place.parent, place.name, now)
            if exclusive:
                raise NotPlayable(f"{shown(path)} is to be made, and is there already")
            if kind is FileType.DIRECTORY:
                return Directory(self.keeper, self.keeper.enter(place.parent, place.name))
            if kind is not FileType.REGULAR_FILE:
                raise NotPlayable(f"{shown(path)} cannot be opened: it is no file")
            if place.must_be_directory or flags & OpenFlags.DIRECTORY:
                raise NotPlayable(f"{shown(path)} is not a directory")
            file = self.keeper.open_file(place.parent, place.name)
            if flags & OpenFlags.TRUNCATE:
                file.set_size(0, now)
            return file

    def create_directory(self, path: str, now: int) -> None:
        """Make a directory."""
        with self._free(path) as place:
            self.keeper.make_directory(place.parent, place.name, now)

    def symlink(self, target: str, path: str, now: int) -> None:
        """Make a link that says ``target``."""
        check_path(target)
        with self._free(path) as place:
            _must_not_be_directory(place, path)
            self.keeper.make_link(place.parent, place.name, target, now)

    def remove_directory(self, path: str, now: int) -> None:
        """Remove an empty directory."""
        with place_of(self.at, path, self.keeper, follow=False) as place:
            if self._existing(place, path) is not FileType.DIRECTORY:
                raise NotPlayable(f"{shown(path)} is not a directory")
            if place.must_be_directory:  # as WASI has it: the name must stand alone
                raise NotPlayable(f"the directory {shown(path)} cannot be removed by this name")
            self.keeper.remove_directory(place.parent, place.name, now)

    def unlink(self, path: str, now: int) -> None:
        """Remove a file or a link."""
        with place_of(self.at, path, self.keeper, follow=False) as place:
            if self._existing(place, path) is FileType.DIRECTORY:
                raise NotPlayable(f"{shown(path)} is a directory")
            self.keeper.remove(place.parent, place.name, now)

    def rename(self, path: str, to: "Directory[D]", to_path: str, now: int) -> None:
        """Give something another name, replacing what had it."""
        self._same_mount(to)
        with (
            place_of(self.at, path, self.keeper, follow=False) as source,
            place_of(to.at, to_path, self.keeper, follow=False) as target,
        ):
            kind = self._existing(source, path)
            if "." in (source.name, target.name):
                raise NotPlayable(f"{shown(path)} cannot be renamed: an open directory has no name")
            if kind is not FileType.DIRECTORY:
                _must_not_be_directory(target, to_path)
            self.keeper.rename(source.parent, source.name, target.parent, target.name, now)

    def link(self, path: str, to: "Directory[D]", to_path: str, now: int) -> None:
        """Give a file one more name."""
        self._same_mount(to)
        with (
            place_of(self.at, path, self.keeper, follow=False) as source,
            to._free(to_path) as target,
        ):
            if self._existing(source, path) is FileType.DIRECTORY:
                raise NotPlayable(f"{shown(path)} is a directory: it has one name only")
            _must_not_be_directory(target, to_path)
            self.keeper.add_name(source.parent, source.name, target.parent, target.name, now)

    def set_times(self, times: Times, now: int) -> None:
        """Set its own times."""
        self.keeper.set_times(self.at, ".", times, now)

    def set_times_at(self, path: str, lookup: int, times: Times, now: int) -> None:
        """Set the times of what a path leads to."""
        follow = bool(lookup & LOOKUP_FOLLOW)
        with place_of(self.at, path, self.keeper, follow=follow) as place:
            self._existing(place, path)
            self.keeper.set_times(place.parent, place.name, times, now)

    def place(self, names: list[str], event: FilePlaced, now: int) -> None:
        """Put a file, a directory or a link where it is before the guest starts."""
        _check_placed(names, event)
        is_directory = event.kind is FileType.DIRECTORY
        at, missing = self.keeper.enter(self.at, "."), False
        try:
            for index, name in enumerate(names if is_directory else names[:-1]):
                if self.keeper.kind(at, name) is None:
                    if event.offset:
                        raise NotPlayable(f"there is no {shown(event.path)} to go on with")
                    if not missing:
                        self.keeper.check_room(len(names) - index, len(event.data))
                    self.keeper.make_directory(at, name, now)
                    missing = True
                outer, at = at, self.keeper.enter(at, name)
                self.keeper.leave(outer)
            if not is_directory and names:
                self._place_in(at, names[-1], event, now)
        finally:
            self.keeper.leave(at)

    def _place_in(self, at: D, name: str, event: FilePlaced, now: int) -> None:
        kind = self.keeper.kind(at, name)
        if kind is FileType.DIRECTORY:
            raise NotPlayable(f"{shown(event.path)} is a directory")
        self.keeper.check_room(int(kind is None), len(event.data))
        if event.offset:
            file = self.keeper.open_file(at, name)
        else:
            if kind is not None:
                self.keeper.remove(at, name, now)
            if event.kind is FileType.SYMBOLIC_LINK:
                self.keeper.make_link(at, name, _target_of(event), now)
                return
            file = self.keeper.make_file(at, name, now)
        try:
            if file.size() != event.offset:
                raise NotPlayable(f"a part of {shown(event.path)} does not follow the one before")
            file.write(event.offset, event.data, None)
        finally:
            file.close()

    def close(self) -> None:
        """It is not needed any more."""
        if not self._is_root:
            self.keeper.leave(self.at)

    @contextmanager
    def _free(self, path: str) -> Iterator[Place[D]]:
        """Where ``path`` leads, which must be nowhere yet."""
        with place_of(self.at, path, self.keeper, follow=False) as place:
            if self._kind(place) is not None:
                raise NotPlayable(f"{shown(path)} is there already")
            yield place

    def _same_mount(self, other: "Directory[D]") -> None:
        if other.keeper is not self.keeper:
            raise NotPlayable("the two names lie in different mounts")

    def _kind(self, place: Place[D]) -> FileType | None:
        if place.name == ".":
            return FileType.DIRECTORY
        return self.keeper.kind(place.parent, place.name)

    def _existing(self, place: Place[D], path: str) -> FileType:
        kind = self._kind(place)
        if kind is None:
            raise NotPlayable(f"there is no {shown(path)}")
        if place.must_be_directory and kind is not FileType.DIRECTORY:
            raise NotPlayable(f"{shown(path)} is not a directory")
        return kind


def _must_not_be_directory(place: Place[D], path: str) -> None:
    if place.must_be_directory:
        raise NotPlayable(f"{shown(path)} would be a directory")


def _check_placed(names: list[str], event: FilePlaced) -> None:
    """Refuse what is placed nowhere, or is nothing that can be placed."""
    if not {".", ".."}.isdisjoint(names):
        raise NotPlayable(f"{shown(event.path)} is no place for a file")
    check_path("/".join(names) or ".")
    for name in names:
        check_name(name)
    if event.kind is FileType.SYMBOLIC_LINK:
        target = _target_of(event)
        check_path(target.lstrip("/") or target[:1].replace("/", "."))
    elif event.kind not in (FileType.REGULAR_FILE, FileType.DIRECTORY):
        raise NotPlayable(f"{shown(event.path)} is neither a file nor a directory nor a link")
    if event.offset and event.kind is not FileType.REGULAR_FILE:
        raise NotPlayable(f"{shown(event.path)} comes in parts, and is not a file")


def _target_of(event: FilePlaced) -> str:
    return event.data.decode(errors="replace")

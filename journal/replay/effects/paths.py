"""Effects of events on names in the guest's file tree."""

from typing import Any

from journal.events import paths
from journal.replay.dispatch import apply_effect
from journal.replay.host import Host
from journal.replay.limits import ReplayError
from journal.vfs.directory import MountDirectory
from journal.vfs.times import TimeUpdate


@apply_effect.register
def _(event: paths.CreateDirectory, host: Host) -> None:
    directory = host.table.directory(event.fd)
    if directory is not None:
        directory.create_directory(event.fd, event.path)


@apply_effect.register
def _(event: paths.RemoveDirectory, host: Host) -> None:
    directory = host.table.directory(event.fd)
    if directory is not None:
        directory.remove_directory(event.fd, event.path)


@apply_effect.register
def _(event: paths.PathSetTimes, host: Host) -> None:
    directory = host.table.directory(event.fd)
    if directory is not None:
        times = TimeUpdate(event.st_atim, event.st_mtim, event.fst_flags)
        directory.set_times_at(event.fd, event.path, event.flags, times)


@apply_effect.register
def _(event: paths.CreateHardLink, host: Host) -> None:
    directories = _both_directories(event.old_fd, event.new_fd, host)
    if directories is not None:
        old, new = directories
        old.link(event.old_fd, event.old_flags, event.old_path, new, event.new_fd, event.new_path)


@apply_effect.register
def _(event: paths.CreateSymbolicLink, host: Host) -> None:
    directory = host.table.directory(event.fd)
    if directory is not None:
        directory.symlink(event.fd, event.old_path, event.new_path)


@apply_effect.register
def _(event: paths.UnlinkFile, host: Host) -> None:
    directory = host.table.directory(event.fd)
    if directory is not None:
        directory.unlink(event.fd, event.path)


@apply_effect.register
def _(event: paths.PathRename, host: Host) -> None:
    directories = _both_directories(event.old_fd, event.new_fd, host)
    if directories is not None:
        old, new = directories
        old.rename(event.old_fd, event.old_path, new, event.new_fd, event.new_path)


@apply_effect.register
def _(event: paths.ChangeDirectory, host: Host) -> None:
    host.process.working_directory = event.path


@apply_effect.register
def _(event: paths.FilePlaced, host: Host) -> None:
    host.place_file(event)


def _both_directories(
    old_fd: int, new_fd: int, host: Host
) -> tuple[MountDirectory[Any], MountDirectory[Any]] | None:
    """Return two directories of mounts in memory, or None if both belong to the former host."""
    old, new = host.table.directory(old_fd), host.table.directory(new_fd)
    if old is None and new is None:
        return None
    if old is None or new is None:
        raise ReplayError(f"descriptors {old_fd} and {new_fd} belong to different mounts")
    return old, new

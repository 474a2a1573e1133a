"""Comparison of the host directories of a resumed guest with their recording."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from journal._arguments import to_line
from journal.engine.wasi.filesystem.host_files import HostFile, HostHandle, HostTree
from journal.engine.wasi.filesystem.reopening import is_born_after
from journal.wasi_abi import WasiError

_CLOCK_TICK_NS = 10_000_000
"""Longest time by which the time of an inode is behind the clock: one tick of the kernel."""


class UnfinishedChange(NamedTuple):
    """Change of a file whose result is not recorded, so the host may have performed it.

    ``file`` is None if the call may change any file. A change that ``extends`` makes no file
    shorter.
    """

    file: HostFile | None
    extends: bool = False

    def concerns(self, file: HostFile) -> bool:
        """Return whether this change may concern ``file``."""
        return self.file is None or self.file.identifies(file)


def compare_mount(
    tree: HostTree, unfinished: UnfinishedChange | None = None, *, is_named: bool = False
) -> list[str]:
    """Return one sentence for each difference of a mount and its open files from the recording.

    ``unfinished`` is the last change of the recording if its result is unknown. ``is_named`` means
    that the user named the present directory. Opens all files, and raises ``HostMismatch`` if the
    host refuses one.
    """
    found = []
    if not is_named and tree.is_other_root and not _is_accepted(tree):
        found.append(
            f"{to_line(tree.path)}, mounted as {tree.guest_path(())}, is not the directory of the "
            "recording: files that the guest had open are found by their names"
        )
    for handle in sorted(tree.open_handles, key=lambda handle: handle.names):
        found += _compare_handle(tree, handle, unfinished)
    return list(dict.fromkeys(found))


def _is_accepted(tree: HostTree) -> bool:
    """Return whether the present directory is already that of the last recorded session."""
    times = tree.times
    return is_born_after(tree.root, times.started) and not is_born_after(tree.root, times.session)


def _compare_handle(
    tree: HostTree, handle: HostHandle, unfinished: UnfinishedChange | None
) -> Iterator[str]:
    """Yield the differences of one open file or directory."""
    names = handle.names
    path = tree.guest_path(names)
    try:
        fd = handle.handle
    except WasiError:
        yield _explain_absence(tree, handle, path)
        return
    if handle.names != names and not handle.is_removed:
        yield f"{path}, which the guest had open, is now {tree.guest_path(handle.names)}"
    if isinstance(handle, HostFile):
        is_unfinished = unfinished is not None and unfinished.concerns(handle)
        change = _describe_change(tree, handle, os.fstat(fd), unfinished if is_unfinished else None)
        if change:
            yield f"{path}, which the guest had open, {change}"


def _explain_absence(tree: HostTree, handle: HostHandle, path: str) -> str:
    answer = "its descriptor answers ESTALE"
    if handle.is_removed:
        return f"{path} had been removed by the guest and cannot be opened again: {answer}"
    if tree.has_name(handle.names):
        return f"{path}, which the guest had open, was replaced by another file: {answer}"
    return f"{path}, which the guest had open, is gone: {answer}"


def _describe_change(
    tree: HostTree, file: HostFile, status: os.stat_result, unfinished: UnfinishedChange | None
) -> str:
    """Return how a file has changed since the recording; empty if it has not.

    The time of the last change of an inode cannot be set, so a file whose inode did not change
    after the end of the recording is the same. The times of a copy say nothing. Less than a tick
    after the end of the recording, only the size shows a change.
    """
    ended, recorded = tree.times.ended, file.recorded_size
    is_copy = tree.is_moved or tree.is_other_root
    if not is_copy and status.st_ctime_ns <= ended - _CLOCK_TICK_NS:
        return ""
    is_shorter = status.st_size < recorded.size
    is_longer = status.st_size > recorded.size and recorded.is_exact
    if unfinished is not None:
        is_shorter, is_longer = is_shorter and unfinished.extends, False
    if is_shorter or is_longer:
        return f"has {status.st_size} bytes: the recording has {recorded.size}"
    if not is_copy and unfinished is None and tree.times.is_after_end(status.st_mtime_ns):
        return "was changed after the end of the recording"
    return ""

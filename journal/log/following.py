"""Iteration over the frames of a growing journal, across its replacement by a compaction."""

import time
from collections.abc import Callable, Container, Iterator

from journal.errors import FormatError, JournalChanged
from journal.format.frame import Frame
from journal.fs.file_watcher import FileWatcher
from journal.log.damage_policy import DamagePolicy
from journal.log.frame_selection import FrameSelection
from journal.log.segment_files import SegmentFiles
from journal.log.tail_follower import TailFollower


class FrameFollower:
    """Frames with one of ``tags`` from the position of ``follower`` on, and new ones later.

    ``on_replaced`` receives the files of each journal that replaces the present one.
    """

    def __init__(
        self,
        files: SegmentFiles,
        follower: TailFollower,
        tags: Container[int] | None,
        policy: DamagePolicy,
        on_replaced: Callable[[SegmentFiles], None],
    ) -> None:
        self._files = files
        self._follower = follower
        self._tags = tags
        self._policy = policy
        self._on_replaced = on_replaced

    def frames(
        self, stop: Callable[[], bool] | None, timeout_seconds: float | None
    ) -> Iterator[Frame]:
        """Yield the frames until ``stop()`` is true or nothing is appended for the timeout."""
        deadline = _deadline_after(timeout_seconds)
        while True:
            with FileWatcher(self._files.path) as watch:
                while True:
                    # Check this first, so that everything appended before a replacement is read.
                    is_moved, has_new = self._files.is_moved, False
                    for frame in self._new_frames():
                        has_new = True
                        yield frame
                    if is_moved:
                        break
                    if self._follower.is_finished:
                        return
                    if has_new:
                        deadline = _deadline_after(timeout_seconds)
                    elif (stop is not None and stop()) or _is_past(deadline):
                        return
                    else:
                        watch.wait(None if deadline is None else deadline - time.monotonic())
            self._open_replacement()

    def _open_replacement(self) -> None:
        """Open the journal at the path. Raises JournalChanged if it does not continue this one."""
        try:
            files = self._files.reopen()
        except (FileNotFoundError, NotADirectoryError):
            reason = f"{self._files.path} was removed or renamed"
            raise JournalChanged(reason, self._follower.next_seq) from None
        self._follower = self._follower.continue_in(files)
        self._files = files
        self._on_replaced(files)

    def _new_frames(self) -> Iterator[Frame]:
        follower, policy, tags = self._follower, self._policy, self._tags
        try:
            for scanned in follower.scan_new():
                start = follower.next_seq
                block, selection = policy.unpack(scanned, start), FrameSelection(start, None, tags)
                if block is not None:
                    yield from policy.select(scanned.segment.name, block, selection.frames)
                    follower.next_seq = block.last_seq + 1
        except (FormatError, JournalChanged):
            # A replaced directory loses its files.
            if not self._files.is_moved:
                raise


def _is_past(moment: float | None) -> bool:
    return moment is not None and time.monotonic() >= moment


def _deadline_after(seconds: float | None) -> float | None:
    return None if seconds is None else time.monotonic() + seconds

"""Switchover of a live writer to another journal, which replaces the open journal."""

import os
from pathlib import Path
from typing import NamedTuple

from journal.errors import OptionError, StorageError
from journal.fs import atomic_file
from journal.log import segment_files
from journal.log.appender import Appender
from journal.log.opening import OpenOptions
from journal.log.scan import RecoveryMode
from journal.log.segment_files import SegmentFiles
from journal.log.segment_writer import DiskFull, make_disk_full_error
from journal.log.tail_follower import TailFollower

REST_SIZE_MAX = 1 << 18
"""Approximate number of bytes left to copy while the writer is paused."""
_ROUNDS_MAX = 16
_ALL_TAGS = (1 << 256) - 1


class SwitchoverStats(NamedTuple):
    """Cost of a switchover.

    ``copied_size`` bytes of blocks were copied while the writer continued, ``rest_size`` bytes
    while it was paused for ``pause_seconds``. Returned by ``Writer.switch_to``.
    """

    copied_size: int
    rest_size: int
    pause_seconds: float


class SwitchoverTarget:
    """The journal that a writer switches to: opened, locked, and brought up to date.

    The target contains the writer's events up to some sequence number, or events with the same
    effect. The target is removed unless the switchover succeeds. ``is_in_place`` is set when the
    journal's path leads to the target, or may lead to it.
    """

    def __init__(self, path: Path, sibling: Path, journal_id: bytes, old: Appender) -> None:
        self._path = Path(os.path.realpath(path))
        self._sibling = sibling
        self.is_in_place = self._is_final = False
        self.copied_size = self.rest_size = 0
        self._files = SegmentFiles(self._path, key=old.key)
        try:
            if not sibling.exists() or sibling.is_dir() != self._files.is_directory:
                kind = "directory" if self._files.is_directory else "file"
                raise OptionError(f"{sibling} is not a journal {kind} like {path}")
            segment_files.check_only_segments(self._path)
            self._status = sibling.stat()
            # It reads a header, which can fail: create it before anything must be closed.
            self._follower = TailFollower(self._files, 0, _ALL_TAGS, True)
            options = OpenOptions(
                sibling, False, True, journal_id, old.clock, RecoveryMode.STRICT, key=old.key
            )
            self.appender = Appender(options, old.roll_policy, old.keeps_unsynced)
        except StorageError:
            self._files.close()
            segment_files.remove_journal(sibling)  # It takes space that a full disk needs.
            raise
        except BaseException:
            self._files.close()
            raise
        self._follower.next_seq = self.appender.next_seq

    def catch_up(self) -> None:
        """Copy and sync new blocks until little is left to copy."""
        for _ in range(_ROUNDS_MAX):
            size = self._copy()
            self.copied_size += size
            self.appender.sync()
            if size <= REST_SIZE_MAX:
                return

    def finish(self, old: Appender) -> None:
        """Copy the rest and move the target into place. The old journal must no longer change.

        An exception means that nothing has changed, unless ``is_in_place`` is set: then the state
        after a crash is unknown, and neither journal can be written again.
        """
        new, self.rest_size = self.appender, self._copy()
        if new.next_seq != old.next_seq:
            reason = f"ends at sequence number {new.next_seq}, expected {old.next_seq}"
            raise OptionError(f"{self._sibling} {reason}")
        new.sync()
        new.written_size = old.written_size
        # An interrupt may come between any two steps, so neither is trusted until the end.
        old.failure = new.failure = InterruptedError("a switchover was interrupted")
        self.is_in_place = True
        try:
            segment_files.copy_ownership(self._sibling, self._path.stat())
            atomic_file.move_into_place(self._sibling, self._path)
        except BaseException as error:
            if not segment_files.is_same_file(self._sibling, self._status):
                new.poison(error, "the journal was replaced, but a power cut may undo it")
            self.is_in_place, old.failure = False, None
            if not isinstance(error, OSError):
                raise
            reason = f"{self._path} cannot be replaced: {error.strerror or error}"
            raise StorageError(reason, old.durable_upto, str(self._path)) from error
        new.set_path(self._path)
        new.failure, self._is_final = None, True

    def close(self) -> None:
        """Close the old journal's files; also the target, if the switchover did not succeed."""
        self._files.close()
        if not self.is_in_place:
            self.appender.close()
            segment_files.remove_journal(self._sibling)
        elif self._is_final and self._sibling.exists():
            # Directories were exchanged, so this name is now the old journal's.
            segment_files.remove_journal(self._sibling)

    def _copy(self) -> int:
        appender, size = self.appender, 0
        for scanned in self._follower.scan_new():
            block = scanned.block()
            if not block.count or block.last_seq < appender.next_seq:
                continue
            try:
                appender.write_block(block.header, block.body, block.seqs)
            except DiskFull as full:
                raise make_disk_full_error(self._sibling, full, appender.durable_upto) from full
            size += block.size
            if appender.must_sync:
                appender.sync()
            if appender.should_roll:
                appender.roll()
        return size

"""Going on in another journal, which takes the place of the one that a writer has open."""

import os
from pathlib import Path
from typing import NamedTuple

from journal.errors import OptionError, StorageError
from journal.format.block import Block
from journal.fs import atomic_file as durable
from journal.log import scan, segment_files
from journal.log.appender import Appender, DiskFull
from journal.log.scan import RecoveryMode
from journal.log.segment_files import SegmentFiles
from journal.log.tail_follower import TailFollower
from journal.log.tail_recovery import OpenOptions

REST_SIZE_MAX = 1 << 18
"""What is left to be copied while the writer stands still: about as much, in bytes."""
_ROUNDS_MAX = 16
_ALL_TAGS = (1 << 256) - 1


class SwitchoverStats(NamedTuple):
    """What going on in another journal took.

    ``copied_size`` bytes of blocks were copied while the writer went on, ``rest_size`` while it
    stood still, which it did for ``pause_seconds``.
    """

    copied_size: int
    rest_size: int
    pause_seconds: float


class SwitchoverTarget:
    """What a writer is to go on in: open and locked, and brought up to what that has written.

    Its events are the writer's, up to some number, or what those lead to; it is gone when it does
    not take the place. ``is_in_place`` when the journal's name leads here, or may.
    """

    def __init__(self, path: Path, beside: Path, journal_id: bytes, old: Appender) -> None:
        self._path = Path(os.path.realpath(path))
        self._sibling = beside
        self.is_in_place = self._is_final = False
        self.copied_size = self.rest_size = 0
        self._files = SegmentFiles(self._path)
        try:
            if not beside.exists() or beside.is_dir() != self._files.is_directory:
                raise OptionError(f"{beside} is no journal like {path}")
            segment_files.check_only_segments(self._path)
            self._known = beside.stat()
            wish = OpenOptions(beside, False, True, journal_id, old.clock, RecoveryMode.STRICT)
            self.appender = Appender(wish, old.roll_policy, old.keeps_unsynced)
        except BaseException:
            self._files.close()
            raise
        self._follower = TailFollower(self._files, self.appender.next_seq, _ALL_TAGS, True)

    def catch_up(self) -> None:
        """Copy what has been written meanwhile, until there is little left, and make it durable."""
        for _ in range(_ROUNDS_MAX):
            size = self._copy()
            self.copied_size += size
            self.appender.sync()
            if size <= REST_SIZE_MAX:
                return

    def finish(self, old: Appender) -> None:
        """Copy the rest, and take the place; nothing is written to the old one any more.

        Raises before it has changed anything; or when nobody can know what would be there after a
        crash: then, too, it ``is_in_place``, and neither can ever be written again.
        """
        new, self.rest_size = self.appender, self._copy()
        if new.next_seq != old.next_seq:
            reason = f"goes on with number {new.next_seq}, not {old.next_seq}"
            raise OptionError(f"{self._sibling} {reason}")
        new.sync()
        new.on_poison, new.written_size = old.on_poison, old.written_size
        # an interrupt may come between any two steps: neither is believed until it is known which
        self.is_in_place = True
        old.failure = new.failure = InterruptedError("the one takes the place of the other")
        try:
            segment_files.copy_ownership(self._sibling, self._path.stat())
            durable.move_into_place(self._sibling, self._path)
        except BaseException as error:
            if not segment_files.is_same_file(self._sibling, self._known):
                new.poison(error, "it was replaced, and that may not last")
            self.is_in_place, old.failure = False, None
            if not isinstance(error, OSError):
                raise
            reason = f"{self._path} cannot be replaced: {error.strerror or error}"
            raise StorageError(reason, old.durable_upto) from error
        new.set_path(self._path)
        new.failure, self._is_final = None, True

    def close(self) -> None:
        """Let go of the old one; of the new one as well, where it has not taken the place."""
        self._files.close()
        if not self.is_in_place:
            self.appender.close()
            segment_files.remove_journal(self._sibling)
        elif self._is_final and self._sibling.exists():
            segment_files.remove_journal(
                self._sibling
            )  # a directory: its name is the old one's now

    def _copy(self) -> int:
        appender, size = self.appender, 0
        for item in self._follower.scan_new():
            if isinstance(item, scan.Damage):
                raise item.error()
            block = Block(item.header, item.body, item.first_seq, item.offset)
            if not block.count or block.last_seq < appender.next_seq:
                continue
            try:
                appender.write_block(block.header, block.body, block.seqs)
            except DiskFull as full:
                reason = f"{self._sibling}: there is no room: {full.error.strerror}"
                raise StorageError(reason, appender.durable_upto) from full
            size += block.size
            if appender.must_sync:
                appender.sync()
            if appender.should_roll:
                appender.roll()
        return size

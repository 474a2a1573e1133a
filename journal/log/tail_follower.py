"""Position of a reader in a growing journal."""

from collections.abc import Callable, Iterator

from journal.errors import JournalChanged
from journal.format.block import BlockHeader, read_header
from journal.log import scan
from journal.log.header_scan import Segment
from journal.log.segment_files import SegmentFiles


class TailFollower:
    """Iterator over new blocks of a growing journal.

    ``next_seq`` is the next unread sequence number. ``ends_at`` receives new damage, and whether it
    may lose unread events. If it returns true, no more events can come: ``is_finished`` is set.
    """

    def __init__(
        self,
        files: SegmentFiles,
        start: int,
        bitmap: int,
        verify: bool,
        ends_at: Callable[[scan.Damage, bool], bool] = scan.raise_damage,
    ) -> None:
        self._files = files
        self._bitmap = bitmap
        self._verify = verify
        self._ends_at = ends_at
        self._tail: scan.Tail | None = None
        self._reported: set[tuple[str, int]] = set()
        self._head = files.read_first_header()
        self._last: scan.ScannedBlock | None = None
        """The last block of the journal at the last look."""
        self._seen: scan.ScannedBlock | None = None
        """The last block with events: a scan from the start must find it again."""
        self._end_seq_min = 0
        self.next_seq = start
        self.is_finished = False

    def continue_in(self, files: SegmentFiles) -> "TailFollower":
        """Return the follower of a journal that replaces this one, as after online compaction.

        Raises JournalChanged if it is another journal.
        """
        new = TailFollower(files, self.next_seq, self._bitmap, self._verify, self._ends_at)
        old_id, new_id = ((head and head.journal_id) for head in (self._head, new._head))
        if old_id is not None and new_id != old_id:
            raise JournalChanged(f"{files.path} was replaced by another journal", self.next_seq)
        new._end_seq_min = self._seen.next_seq if self._seen else 0
        if new._head == self._head:  # Compaction writes a new header, so this is a copy.
            new._seen = self._seen
        return new

    def scan_new(self) -> Iterator[scan.ScannedBlock]:
        """Yield blocks with new selected events.

        Raises JournalChanged if blocks that it has seen are no longer there.
        """
        if self._tail is not None and self._is_last_block_in_place():
            yield from self._scan_after(self._tail)
            if self._tail is not None:
                return
        # A writer may have superseded blocks that were seen, or the file may be another one.
        self._tail, names = None, self._files.names()
        if self._seen is not None and not names:
            raise self._changed()
        yield from self._recognize(self._scan(names, None, self._report))
        if self._tail is not None and self._tail.next_seq < self._end_seq_min:
            raise self._changed()

    def _scan_after(self, tail: scan.Tail) -> Iterator[scan.ScannedBlock]:
        """Yield blocks after the last look. Reset ``_tail`` if a scan from the start is needed."""
        names = self._files.names()
        if tail.segment.name not in names:
            self._tail = None
            return

        def end_at(_: scan.Damage) -> bool:
            self._tail = None
            return True

        names = names[names.index(tail.segment.name) :]
        for scanned in self._scan(names, tail, end_at):
            self._set_last(scanned)
            if scanned.is_selected:
                yield scanned

    def _recognize(self, blocks: Iterator[scan.ScannedBlock]) -> Iterator[scan.ScannedBlock]:
        """Yield the new blocks of a scan from the start that finds the last seen block again."""
        seen = self._seen
        for scanned in blocks:
            if seen is not None and scanned.header.frame_count:
                if _has_same_events(scanned, seen):
                    seen = None
                elif scanned.next_seq > seen.first_seq:
                    break
            self._set_last(scanned)
            if scanned.is_selected:
                yield scanned
        if seen is not None:
            raise self._changed()

    def _scan(
        self, names: list[str], tail: scan.Tail | None, end_at: Callable[[scan.Damage], bool]
    ) -> Iterator[scan.ScannedBlock]:
        """Yield all blocks after ``tail``; a block with new events has its body."""
        start = self.next_seq

        def select_body(_: Segment, header: BlockHeader, first_seq: int) -> bool:
            is_past = first_seq + header.frame_count <= start and not header.has_seqs
            return not is_past and bool(header.frame_count and header.tag_bitmap & self._bitmap)

        items = scan.scan_files(self._files.sources(names), select_body, self._verify, tail)
        return scan.take_blocks(items, on_damage=end_at, on_tail=self._set_tail)

    def _is_last_block_in_place(self) -> bool:
        """Return whether the file still has the block that was last at the last look."""
        if self._last is None:
            return True
        segment, header, offset, *_ = self._last
        source = self._files.open(segment.name)
        if source is None or len(source) < offset + header.size:
            return False
        return read_header(source, offset, segment.header.salt, header.offset) == header

    def _changed(self) -> JournalChanged:
        reason = f"{self._files.path} was cut, replaced or written anew"
        return JournalChanged(reason, self._seen.next_seq if self._seen else self.next_seq)

    def _set_last(self, scanned: scan.ScannedBlock) -> None:
        self._last = scanned
        if scanned.header.frame_count and (
            self._seen is None or scanned.first_seq >= self._seen.first_seq
        ):
            self._seen = scanned

    def _set_tail(self, tail: scan.Tail) -> None:
        self._tail, self.next_seq = tail, max(self.next_seq, tail.next_seq)

    def _report(self, damage: scan.Damage) -> bool:
        """Return whether the journal ends at this damage. Each scan finds the same damage again."""
        position = (damage.name, damage.offset)
        if position in self._reported:
            return False
        self._reported.add(position)
        may_lose = damage.last_seq >= self.next_seq or damage.open_ended
        self.is_finished = self._ends_at(damage, may_lose)
        return self.is_finished


def _has_same_events(block: scan.ScannedBlock, other: scan.ScannedBlock) -> bool:
    """Return whether two blocks have the same events, also if one is a copy in another place."""
    return block.first_seq == other.first_seq and all(
        getattr(block.header, name) == getattr(other.header, name)
        for name in ("frame_count", "time_first", "time_last", "tag_bitmap", "payload_raw_size")
    )

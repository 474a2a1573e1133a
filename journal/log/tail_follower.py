"""Position of a reader in a growing journal."""

from collections.abc import Callable, Iterator

from journal.format.block import BlockHeader
from journal.log import scan
from journal.log.header_scan import Segment
from journal.log.segment_files import SegmentFiles


class TailFollower:
    """Iterator over new blocks of a growing journal.

    ``next_seq`` is the next unread sequence number. ``ends_at`` receives new damage, and whether it
    loses unread events. If it returns true, no more events can come: ``is_finished`` is set.
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
        self.next_seq = start
        self.is_finished = False

    def scan_new(self) -> Iterator[scan.ScannedBlock]:
        """Yield blocks with new selected events."""
        start, resume_after = self.next_seq, self._tail
        names = self._files.names()
        if resume_after is not None:
            if resume_after.segment.name not in names:
                resume_after = None
            else:
                names = names[names.index(resume_after.segment.name) :]

        def select_body(_: Segment, header: BlockHeader, first_seq: int) -> bool:
            is_past = first_seq + header.frame_count <= start and not header.has_seqs
            return not is_past and bool(header.frame_count and header.tag_bitmap & self._bitmap)

        def end_at(damage: scan.Damage) -> bool:
            if resume_after is None:
                return self._report(damage)
            # A writer may have superseded blocks already yielded: scan from the start.
            self._tail = None
            return True

        sources = self._files.sources(names)
        items = scan.scan_files(sources, select_body, self._verify, resume_after)
        for scanned in scan.take_blocks(items, on_damage=end_at, on_tail=self._set_tail):
            if scanned.is_selected:
                yield scanned
        if resume_after is not None and self._tail is None:
            yield from self.scan_new()

    def _set_tail(self, tail: scan.Tail) -> None:
        self._tail, self.next_seq = tail, max(self.next_seq, tail.next_seq)

    def _report(self, damage: scan.Damage) -> bool:
        """Return whether the journal ends at this damage. Each scan finds the same damage again."""
        position = (damage.name, damage.offset)
        if position in self._reported:
            return False
        self._reported.add(position)
        self.is_finished = self._ends_at(damage, damage.last_seq >= self.next_seq)
        return self.is_finished

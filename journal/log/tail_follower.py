"""Position of a reader in a growing journal."""

from collections.abc import Iterator

from journal.format.block import BlockHeader
from journal.log import scan
from journal.log.header_scan import Segment
from journal.log.segment_files import SegmentFiles


class TailFollower:
    """Iterator over new blocks of a growing journal.

    ``next_seq`` is the next unread sequence number. The caller sets ``is_finished`` when no more
    events can come.
    """

    def __init__(self, files: SegmentFiles, start: int, bitmap: int, verify: bool) -> None:
        self._files = files
        self._bitmap = bitmap
        self._verify = verify
        self._tail: scan.Tail | None = None
        self._reported: set[tuple[str, int]] = set()
        self.next_seq = start
        self.is_finished = False

    def is_new(self, damage: scan.Damage) -> bool:
        """Return whether this damage was not reported before: each scan finds it again."""
        position = (damage.name, damage.offset)
        is_known = position in self._reported
        self._reported.add(position)
        return not is_known

    def scan_new(self) -> Iterator[scan.ScannedBlock | scan.Damage]:
        """Yield blocks with new selected events, and damage before them."""
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

        for item in scan.scan_files(
            self._files.sources(names), select_body, self._verify, resume_after
        ):
            if isinstance(item, scan.Tail):
                self._tail, self.next_seq = item, max(self.next_seq, item.next_seq)
            elif isinstance(item, scan.ScannedBlock):
                if item.is_selected:
                    yield item
            elif isinstance(item, scan.Damage):
                if resume_after is not None:
                    # A writer may have superseded blocks already yielded: scan from the start.
                    self._tail = None
                    yield from self.scan_new()
                    return
                yield item

"""Iteration over the blocks of an undamaged journal."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from journal.errors import FormatError
from journal.format.block import Block
from journal.log import scan
from journal.log.segment_files import SegmentFiles
from journal.rewrite.progress import ProgressCallback, ProgressScan, ignore_progress


class BlockStream:
    """Blocks of a journal, and counts of its debris. ``report`` receives the progress.

    ``journal_id``, ``created`` and ``first_seq`` are those of the first segment. They are set
    before the first block is yielded.
    """

    def __init__(
        self, path: Path, report: ProgressCallback = ignore_progress, what: str = "copying"
    ) -> None:
        self.journal_id = b""
        self.created = self.first_seq = self.size = self.torn_size = self.debris_size = 0
        self._path = path
        self._report = report
        self._what = what

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks with events. Raises FormatErrors that name the file."""
        try:
            with closing(SegmentFiles(self._path)) as files:
                progress = ProgressScan(files, self._report, self._what)
                for item in progress.items():
                    self.size = progress.size
                    block = self._take(item)
                    if block is not None:
                        yield block
        except FormatError as error:
            if not error.file.startswith(str(self._path)):
                error.file = str(self._path / error.file)
            raise

    def _take(self, item: scan.ScanItem) -> Block | None:
        if isinstance(item, scan.Damage):
            raise item.error()
        if isinstance(item, scan.Segment) and not self.journal_id:
            header = item.header
            self.journal_id, self.created = header.journal_id, header.created
            self.first_seq = header.first_seq
        elif isinstance(item, scan.Tail):
            self.torn_size += item.torn_size
        elif isinstance(item, scan.Debris):
            self.debris_size += item.size
        elif isinstance(item, scan.ScannedBlock) and item.header.frame_count:
            return Block(item.header, item.body, item.first_seq, item.offset)
        return None

"""Iteration over the blocks of an undamaged journal."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from journal.errors import FormatError
from journal.format.block import Block
from journal.log import scan
from journal.log.segment_files import SegmentFiles
from journal.rewrite.progress import ProgressCallback, ProgressScan, ignore_progress


class BlockStream(ProgressScan):
    """Scan of the journal at ``path`` for its blocks with events. Any damage is an error.

    ``journal_id`` and ``first_seq`` are set before the first block is yielded.
    """

    def __init__(
        self, path: Path, report: ProgressCallback = ignore_progress, what: str = "copying"
    ) -> None:
        super().__init__(report, what)
        self._path = path

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks with events. Raises FormatErrors that name the file."""
        try:
            with closing(SegmentFiles(self._path)) as files:
                for scanned in scan.take_blocks(self.items(files)):
                    if scanned.header.frame_count:
                        yield scanned.block()
        except FormatError as error:
            if not error.file.startswith(str(self._path)):
                error.file = str(self._path / error.file)
            raise

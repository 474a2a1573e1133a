"""Scan that reports its progress, and the type of its callbacks."""

from collections.abc import Callable, Iterator

from journal.format.block import BlockHeader
from journal.log import scan
from journal.log.segment_files import SegmentFiles

ProgressCallback = Callable[[str, int, int], object]
"""Callback that receives the name of the activity, the bytes done, and the bytes in total."""


def _select_all(segment: scan.Segment, header: BlockHeader, first_seq: int) -> bool:
    """Select every body: a BodySelector."""
    return True


def ignore_progress(what: str, done: int, size: int) -> None:
    """Do nothing: a ProgressCallback."""


class ProgressScan:
    """Scan of a journal's files that reports its progress, and by default reads all bodies."""

    def __init__(
        self,
        files: SegmentFiles,
        report: ProgressCallback,
        what: str,
        select_body: scan.BodySelector = _select_all,
    ) -> None:
        self._files = files
        self._report = report
        self._what = what
        self._select_body = select_body
        self.size = 0

    def items(self) -> Iterator[scan.ScanItem]:
        """Yield the items of the scan."""
        names = self._files.names()
        sizes = [len(data) for data in self._files.sources(names)]
        self.size, before, file = sum(sizes), 0, 0
        for item in scan.scan_files(self._files.sources(names), self._select_body):
            if isinstance(item, scan.Segment) and item.file > file:
                before, file = sum(sizes[: item.file]), item.file
            elif isinstance(item, scan.ScannedBlock):
                done = before + item.offset + item.header.size
                self._report(self._what, min(done, self.size), self.size)
            yield item
        self._report(self._what, self.size, self.size)

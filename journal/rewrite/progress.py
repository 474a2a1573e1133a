"""ProgressCallback reports of a scan."""

from collections.abc import Callable, Iterator

from journal.format.block import BlockHeader
from journal.log import scan
from journal.log.segment_files import SegmentFiles

ProgressCallback = Callable[[str, int, int], object]
"""Is told what is being done, and how many of how many bytes are."""


def _select_all(place: scan.Segment, header: BlockHeader, first_seq: int) -> bool:
    """Want every body."""
    return True


def ignore_progress(what: str, done: int, size: int) -> None:
    """Take no notice of the progress."""


class ProgressScan:
    """A walk over the files, which tells how far it is; bodies are read unless not wanted."""

    def __init__(
        self,
        files: SegmentFiles,
        report: ProgressCallback,
        what: str,
        wants: scan.BodySelector = _select_all,
    ) -> None:
        self._files = files
        self._report = report
        self._what = what
        self._select_body = wants
        self.size = 0

    def items(self) -> Iterator[scan.ScanItem]:
        """Give what stands there."""
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

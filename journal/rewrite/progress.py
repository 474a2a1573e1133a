"""Progress of long operations: the type of its callbacks, phases, and a scan that reports."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from journal._arguments import check_callable, check_optional
from journal.log import scan
from journal.log.segment_files import SegmentFiles

ProgressCallback = Callable[[str, int, int], object]
"""Callback that receives the name of a phase, how much of it is done, and its size.

The unit is that of the phase: bytes of a file, or events. A phase ends when all of it is done.
While nothing is done, the share is not known. The phases of one operation follow each other. The
callback is called from the thread that works."""


def ignore_progress(what: str, done: int, size: int) -> None:
    """Do nothing: a ProgressCallback."""


@contextmanager
def report_phase(report: ProgressCallback, what: str, size: int = 1) -> Iterator[None]:
    """Report the begin and the end of a phase, whose share is not known meanwhile.

    The phase also ends by an exception.
    """
    size = max(1, size)
    report(what, 0, size)
    try:
        yield
    finally:
        report(what, size, size)


def check_progress(progress: ProgressCallback | None) -> ProgressCallback:
    """Return a callback for the argument ``progress`` of an operation."""
    return check_optional("progress", progress, check_callable) or ignore_progress


class ProgressScan:
    """Scan of a journal that reports its progress, and by default reads all bodies.

    ``journal_id`` and ``first_seq`` are those of the first segment. ``size`` is the size of all
    files in bytes, ``torn_size`` and ``debris_size`` the sizes of what crashes left up to the last
    item.
    """

    def __init__(
        self,
        report: ProgressCallback,
        what: str,
        select_body: scan.BodySelector = scan.select_all,
    ) -> None:
        self.journal_id = b""
        self.first_seq = self.size = self.torn_size = self.debris_size = 0
        self._report = report
        self._what = what
        self._select_body = select_body

    def items(self, files: SegmentFiles) -> Iterator[scan.ScanItem]:
        """Yield the items of the scan."""
        names = files.names()
        sizes = [len(data) for data in files.sources(names)]
        self.size, before, file = sum(sizes), 0, 0
        for item in scan.scan_files(files.sources(names), self._select_body):
            if isinstance(item, scan.ScannedBlock):
                if item.segment.file > file:
                    file = item.segment.file
                    before = sum(sizes[:file])
                done = before + item.offset + item.header.size
                self._report(self._what, min(done, self.size), self.size)
            elif isinstance(item, scan.Segment) and not self.journal_id:
                self.journal_id, self.first_seq = item.header.journal_id, item.header.first_seq
            elif isinstance(item, scan.Tail):
                self.torn_size += item.torn_size
            elif isinstance(item, scan.Debris):
                self.debris_size += item.size
            yield item
        self._report(self._what, self.size, self.size)

"""Check of every byte of a journal: the items of its scan, each followed by its defects."""

from collections.abc import Callable, Iterator

from journal.errors import FormatError, MalformedEvent, UnknownEvent
from journal.format.block import BlockHeader
from journal.log import scan
from journal.log.header_scan import Segment
from journal.log.segment_files import SegmentFiles
from journal.log.summary import Finding, check_block


def find_defects(
    files: SegmentFiles, start: tuple[str, int], decode: bool, records_process: Callable[[], bool]
) -> Iterator[scan.ScanItem | Finding]:
    """Yield all items of the scan, each followed by its defects. Never raises for damage.

    Bodies from position ``start`` (file name, offset) on are checked, with ``decode`` also each
    event. An event that fits no kind is a defect only in a journal that records a process.
    """

    def select_body(segment: Segment, header: BlockHeader, _: int) -> bool:
        return (segment.name, segment.offset + header.offset) >= start

    try:
        for item in scan.scan_files(files.sources(files.names()), select_body):
            yield item
            if isinstance(item, scan.Damage):
                yield Finding(item.offset, item.size, item.first_seq, item.last_seq, item.error())
            elif isinstance(item, scan.ScannedBlock) and item.is_selected:
                for finding in check_block(item, decode):
                    is_of_event = isinstance(finding.error, MalformedEvent | UnknownEvent)
                    if not is_of_event or records_process():
                        yield finding
    except FormatError as error:
        yield Finding(error.offset, 0, 0, -1, error)

"""Numbers that a compaction has left out: from in front of them no guest can be executed."""

import os
from contextlib import closing
from itertools import pairwise

from journal.format.block import Block, BlockHeader
from journal.log import scan
from journal.log.segment_files import SegmentFiles


def find_last_gap(path: str | os.PathLike[str], stop: int) -> int:
    """The greatest number below ``upto`` that no event has, while some before it do; -1: none.

    Only blocks that say that they have holes are read. Raises as reading does.
    """
    found, following = -1, -1
    with closing(SegmentFiles(path)) as files:
        for item in scan.scan_files(files.sources(files.names()), _has_seqs):
            if isinstance(item, scan.Damage):
                raise item.error()
            if not isinstance(item, scan.ScannedBlock) or not item.header.frame_count:
                continue
            if 0 <= following < min(item.first_seq, stop):
                found = min(item.first_seq, stop) - 1
            following = item.first_seq + item.header.frame_count
            if item.is_selected:
                numbers = Block(item.header, item.body, item.first_seq, item.offset).seqs
                for seq, behind in pairwise(numbers):
                    if seq + 1 < min(behind, stop):
                        found = min(behind, stop) - 1
                following = numbers[-1] + 1
            if following >= stop:
                break
    return found


def _has_seqs(place: scan.Segment, header: BlockHeader, first_seq: int) -> bool:
    return header.has_seqs

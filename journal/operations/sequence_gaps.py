"""Gaps in the sequence numbers, as a compaction leaves them.

No guest can be executed from an event before a gap.
"""

import os
from contextlib import closing
from itertools import pairwise

from journal.format.block import BlockHeader
from journal.log import scan
from journal.log.segment_files import SegmentFiles


def find_last_gap(path: str | os.PathLike[str], stop: int) -> int:
    """Return the last missing sequence number below ``stop`` that has an event before it, or -1.

    Only blocks with a column of sequence numbers are read. Raises the errors of reading the
    journal.
    """
    gap, next_seq = -1, -1
    with closing(SegmentFiles(path)) as files:
        items = scan.scan_files(files.sources(files.names()), _has_seqs)
        for scanned in scan.take_blocks(items):
            if not scanned.header.frame_count:
                continue
            if 0 <= next_seq < min(scanned.first_seq, stop):
                gap = min(scanned.first_seq, stop) - 1
            next_seq = scanned.first_seq + scanned.header.frame_count
            if scanned.is_selected:
                seqs = scanned.block().seqs
                for seq, next_one in pairwise(seqs):
                    if seq + 1 < min(next_one, stop):
                        gap = min(next_one, stop) - 1
                next_seq = seqs[-1] + 1
            if next_seq >= stop:
                break
    return gap


def _has_seqs(segment: scan.Segment, header: BlockHeader, first_seq: int) -> bool:
    return header.has_seqs

"""Forking: a new journal that begins as another one does, up to some event."""

import os
from bisect import bisect_right
from pathlib import Path

from journal.errors import OptionError
from journal.events.process import ParentLink
from journal.format.block_slice import slice_block
from journal.log.commit_policy import CommitPolicy
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.rewrite.block_copier import check_output_path


def fork(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, upto: int
) -> ParentLink:
    """Write the events of ``source`` up to number ``upto`` to ``target``, a new journal.

    It has the numbers and times of its parent, which its last event names. ``target`` gets its name
    when it is whole and durable. Raises OptionError where ``source`` has no such event, and what
    reading raises.
    """
    check_output_path(Path(target), [Path(source)])
    time = 0  # the link has the time of the event before it: nobody ran meanwhile
    with (
        Reader(source) as reader,
        Writer(target, publish=False, commit=CommitPolicy.NONE, clock=lambda: time) as writer,
    ):
        link: ParentLink | None = None
        for block in reader.blocks():
            if block.first_seq > upto:
                break
            count = bisect_right(block.seqs, upto)
            time = block.time(count - 1)
            writer.append_block(slice_block(block, 0, count))
            link = ParentLink(
                journal=reader.journal_id, seq=block.seqs[count - 1], hash=block.header.body_hash
            )
        if link is None or link.seq != upto:
            raise OptionError(f"{source} has no event {upto} to go on from")
        writer.append(link)
        writer.sync()
        writer.publish()
        return link

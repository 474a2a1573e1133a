"""Fork: a new journal with the beginning of another journal."""

import os
from bisect import bisect_right

from journal._arguments import check_int, check_path
from journal.errors import OptionError
from journal.events.process import ParentLink
from journal.format.block_slice import slice_block
from journal.log.commit_policy import CommitPolicy
from journal.log.reader import Reader
from journal.log.writer import Writer
from journal.rewrite.block_copier import check_new_journal


def fork(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, upto: int
) -> ParentLink:
    """Write the events of ``source`` up to event ``upto``, included, to the new journal ``target``.

    Sequence numbers and times do not change, and a ParentLink event to the source is appended.
    ``target`` gets its name when it is complete and durable. Raises OptionError if ``source`` has
    no such event, and the errors of reading ``source``.
    """
    old, new = check_path("source", source), check_path("target", target)
    check_int("upto", upto)
    check_new_journal(new, [old])
    time = 0  # The link gets the time of the event before it, because nothing ran in between.
    with (
        Reader(old) as reader,
        Writer(new, publish=False, commit=CommitPolicy.NONE, clock=lambda: time) as writer,
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
            raise OptionError(f"{old} has no event {upto} to fork at")
        writer.append(link)
        writer.sync()
        writer.publish()
        return link

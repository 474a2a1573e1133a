"""Salvage of a damaged journal: every event that is still there, in a new file, with its number.

The source is only read. Where one bit of a block or of a segment header was turned over, it is
found again; all else that is lost is accounted for, by its bytes and by its numbers.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from journal.errors import CorruptBlock
from journal.log import scan
from journal.rewrite import bit_search
from journal.rewrite.bit_repair import BitRepair, BitRepairer
from journal.rewrite.block_copier import BlockCopier, Loss, check_output_path, last_seq_of
from journal.rewrite.progress import ProgressCallback, ProgressScan, ignore_progress


class SalvageResult(NamedTuple):
    """What a recovery found, kept and lost.

    ``size`` is that of the source in bytes, ``torn_size`` what a crash had cut short at its end,
    ``debris_size`` what earlier crashes had left: neither was ever acknowledged. ``next_seq`` is
    the number behind the last event.
    """

    journal_id: bytes
    size: int
    blocks: int
    events: int
    next_seq: int
    torn_size: int
    debris_size: int
    repairs: tuple[BitRepair, ...]
    losses: tuple[Loss, ...]

    @property
    def lost_events(self) -> int:
        """How many events are lost, as far as anything tells."""
        return sum(loss.events for loss in self.losses)

    @property
    def lost_size(self) -> int:
        """Bytes that are lost."""
        return sum(loss.size for loss in self.losses)

    @property
    def repaired_events(self) -> int:
        """How many events are there for a bit that was turned back."""
        spans = {(one.first_seq, one.last_seq) for one in self.repairs}
        return sum(max(0, last - first + 1) for first, last in spans)

    @property
    def is_whole(self) -> bool:
        """Whether no event is lost."""
        return not any(loss.events or loss.open_ended for loss in self.losses)


def salvage(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    progress: ProgressCallback | None = None,
    body_size_max: int = bit_search.BODY_SIZE_MAX,
) -> SalvageResult:
    """Write all that can be read of ``source`` to ``target``, a new file; tell what is lost.

    Events keep their numbers and times, the journal its id; numbers that are lost become holes on
    purpose. ``target`` gets its name when it is whole and durable. Bodies above ``body_size_max``
    bytes are not searched for a bit. Raises OptionError when ``target`` exists or would stand in
    the source, and a FormatError when there is no segment whose header can be believed.
    """
    check_output_path(Path(target), [Path(source)])
    report = progress or ignore_progress
    mender = BitRepairer(Path(source), body_size_max, report)
    try:
        mender.repair()
        return _copy(mender, Path(target), report)
    except CorruptBlock as error:
        reason = "more than a bit of the segment header is wrong, and without its salt no block"
        file, offset = error.file, error.offset
        raise CorruptBlock(f"{reason} can be told from noise", offset, file=file) from error


def _copy(mender: BitRepairer, target: Path, report: ProgressCallback) -> SalvageResult:
    """Write what is left of the source, block by block."""
    repairs: list[BitRepair] = []
    with closing(mender.files()) as files, BlockCopier(target) as keeper:
        walk = ProgressScan(files, report, "copying")
        for item in walk.items():
            if (
                isinstance(item, scan.Tail)
                and (item.segment.name, item.offset) in mender.unreadable_segments
            ):
                keeper.add(_make_header_damage(item))
            elif keeper.add(item):
                repairs += _list_repairs(item, mender)
        keeper.writer.publish()
        return SalvageResult(
            keeper.writer.journal_id,
            walk.size,
            keeper.blocks,
            keeper.events,
            keeper.writer.next_seq,
            keeper.torn_size,
            keeper.debris_size,
            tuple(repairs),
            tuple(keeper.losses),
        )


def _make_header_damage(tail: scan.Tail) -> scan.Damage:
    """Tell of a segment whose header is lost: it reads as if a crash had cut the journal short."""
    seq, reason = tail.next_seq, "blocks stand behind a segment header that is lost"
    return scan.Damage(
        offset=tail.offset,
        size=tail.torn_size,
        first_seq=seq,
        last_seq=seq - 1,
        acknowledged=False,
        reason=reason,
        kind=CorruptBlock,
        link=tail.link,
        name=tail.segment.name,
        open_ended=True,
    )


def _list_repairs(item: scan.ScanItem, mender: BitRepairer) -> Iterator[BitRepair]:
    """Tell of the bits of a block that is there again, or of a segment header."""
    if isinstance(item, scan.ScannedBlock):
        for repair in mender.repairs.get((item.segment.name, item.offset), ()):
            yield repair._replace(first_seq=item.first_seq, last_seq=last_seq_of(item))
    elif isinstance(item, scan.Segment):
        yield from mender.repairs.get((item.name, item.offset), ())

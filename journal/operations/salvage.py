"""Salvage of a damaged journal: copy every readable event, with its sequence number, to a new file.

The source is only read. A single flipped bit of a block or of a segment header is corrected. All
other losses are reported by their bytes and sequence numbers.
"""

import os
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, NamedTuple

from journal._arguments import check_int, check_path
from journal.errors import CorruptBlock
from journal.format import bit_search
from journal.fs import atomic_file
from journal.log import scan
from journal.rewrite.bit_repair import BitRepair, BitRepairer
from journal.rewrite.block_copier import BlockCopier, Loss, check_new_journal
from journal.rewrite.progress import ProgressCallback, ProgressScan, check_progress

_COPY_SIZE = 1 << 20


class SalvageResult(NamedTuple):
    """Result of a salvage: the events copied, the bits repaired, and the losses.

    ``size`` is that of the source in bytes, ``torn_size`` the bytes that a crash cut short at its
    end, ``debris_size`` the debris of earlier crashes. No sync had acknowledged these bytes.
    ``next_seq`` is the sequence number after the last event.
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
        """Number of lost events, as far as known."""
        return sum(loss.events for loss in self.losses)

    @property
    def lost_size(self) -> int:
        """Number of lost bytes."""
        return sum(loss.size for loss in self.losses)

    @property
    def repaired_events(self) -> int:
        """Number of events that a bit repair restored."""
        spans = {(repair.first_seq, repair.last_seq) for repair in self.repairs}
        return sum(max(0, last - first + 1) for first, last in spans)

    @property
    def is_whole(self) -> bool:
        """Return whether no event is lost."""
        return not any(loss.events or loss.open_ended for loss in self.losses)


def salvage(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    progress: ProgressCallback | None = None,
    body_size_max: int = bit_search.BODY_SIZE_MAX,
) -> SalvageResult:
    """Write all readable events of ``source`` to the new file ``target``, and return the losses.

    Events keep their sequence numbers and times, and the journal its id. Lost events become gaps.
    ``target`` gets its name when it is complete and durable. Bodies above ``body_size_max`` bytes
    are not searched for a flipped bit. Raises OptionError if ``target`` exists or would be part of
    the source, and a FormatError if no segment header is readable.

    Without the key of a sealed journal, ``target`` becomes a copy of all its bytes in which flipped
    bits are repaired: its blocks cannot be written again.
    """
    old, new = check_path("source", source), check_path("target", target)
    report = check_progress(progress)
    check_int("body_size_max", body_size_max)
    check_new_journal(new, [old])
    repairer = BitRepairer(old, body_size_max, report)
    try:
        repairer.repair()
        if _is_locked(repairer):
            return _copy_stored(repairer, new, report)
        return _copy(repairer, new, report)
    except CorruptBlock as error:
        reason = (
            "segment header has more than one wrong bit, and without its salt no block can be found"
        )
        file, offset = error.file, error.offset
        raise CorruptBlock(reason, offset, file=file) from error


def _is_locked(repairer: BitRepairer) -> bool:
    """Return whether the journal is sealed, and this process has no key."""
    with closing(repairer.files()) as files:
        return files.is_sealed and not files.has_keys


def _copy_stored(repairer: BitRepairer, target: Path, report: ProgressCallback) -> SalvageResult:
    """Copy the bytes of all files, and list what a reader with the key will not find."""
    blocks = events = next_seq = 0
    damage: list[scan.Damage] = []
    repairs = [repair for found in repairer.repairs.values() for repair in found]
    with closing(repairer.files()) as files:
        names = files.names()
        progress = ProgressScan(report, "copying")
        for scanned in scan.take_blocks(progress.items(files), on_damage=damage.append):
            blocks += scanned.header.frame_count > 0
            events += scanned.header.frame_count
            next_seq = scanned.next_seq

        def fill(file: BinaryIO) -> None:
            for source in files.sources(names):
                for start in range(0, len(source), _COPY_SIZE):
                    file.write(source[start : start + _COPY_SIZE])

        atomic_file.replace(target, fill)
    losses = BlockCopier(target)
    for one in damage:
        losses.add_damage(one)
    return SalvageResult(
        progress.journal_id,
        progress.size,
        blocks,
        events,
        next_seq,
        progress.torn_size,
        progress.debris_size,
        tuple(repairs),
        tuple(losses.losses),
    )


def _copy(repairer: BitRepairer, target: Path, report: ProgressCallback) -> SalvageResult:
    """Copy the readable blocks of the source."""
    repairs: list[BitRepair] = []
    with closing(repairer.files()) as files, BlockCopier(target) as copier:

        def add_segment(segment: scan.Segment) -> None:
            copier.add_segment(segment)
            repairs.extend(repairer.repairs.get((segment.name, segment.offset), ()))

        def add_tail(tail: scan.Tail) -> None:
            if (tail.segment.name, tail.offset) in repairer.unreadable_segments:
                progress.torn_size -= tail.torn_size
                copier.add_damage(_make_header_damage(tail))

        progress = ProgressScan(report, "copying")
        for scanned in scan.take_blocks(
            progress.items(files),
            on_damage=copier.add_damage,
            on_segment=add_segment,
            on_tail=add_tail,
        ):
            if copier.copy_block(scanned):
                first, last = scanned.first_seq, scanned.next_seq - 1
                repairs += (
                    repair._replace(first_seq=first, last_seq=last)
                    for repair in repairer.repairs.get((scanned.segment.name, scanned.offset), ())
                )
        copier.writer.publish()
        return SalvageResult(
            copier.writer.journal_id,
            progress.size,
            copier.blocks,
            copier.events,
            copier.writer.next_seq,
            progress.torn_size,
            progress.debris_size,
            tuple(repairs),
            tuple(copier.losses),
        )


def _make_header_damage(tail: scan.Tail) -> scan.Damage:
    """Return the damage for a segment whose header is lost, which a scan reads as a torn tail."""
    seq, reason = tail.next_seq, "blocks follow a damaged segment header"
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

"""Blocks of one journal into another: what can be kept is, and what cannot is accounted for."""

import os
from pathlib import Path
from typing import NamedTuple, Self

from journal.errors import CorruptBlock, DamagedJournal, FormatError, LostAcknowledged, OptionError
from journal.format.block import Block, read_last_delta
from journal.log import scan
from journal.log.commit_policy import CommitPolicy
from journal.log.writer import Writer


class Loss(NamedTuple):
    """Bytes of a journal that hold no event any more, and the events that they held.

    ``file`` is the segment file's name, empty in a journal that is a file. The events are
    ``first_seq`` to ``last_seq``, none when that is lower. Where ``open_ended``, nothing tells how
    many they were. ``acknowledged`` says that they were known to be durable.
    """

    file: str
    offset: int
    size: int
    first_seq: int
    last_seq: int
    reason: str
    acknowledged: bool
    open_ended: bool

    def error(self) -> DamagedJournal:
        """Give the exception to raise for it."""
        kind = LostAcknowledged if self.acknowledged else CorruptBlock
        size, first, last = self.size, self.first_seq, self.last_seq
        return kind(
            self.reason, self.offset, size=size, first_seq=first, last_seq=last, file=self.file
        )

    @property
    def events(self) -> int:
        """How many events are lost, as far as anything tells."""
        return max(0, self.last_seq - self.first_seq + 1)


class UnpublishedJournal:
    """A journal at ``path`` that begins when its id is known; a context manager.

    It has no name before its writer publishes it, and is gone without that. Without a path it must
    never begin.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._writer: Writer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def open_writer(self, journal_id: bytes) -> Writer:
        """Its writer, with the id that was known first."""
        if self._writer is None:
            assert self._path is not None
            # nothing is durable before all is: no need to keep blocks for a disk that fails
            self._writer = Writer(
                self._path, publish=False, journal_id=journal_id, commit=CommitPolicy.NONE
            )
        return self._writer


class BlockCopier(UnpublishedJournal):
    """Writes what walks give, block by block, to ``target``: a new journal, published when whole.

    It has the id of the first segment. ``shift`` is what the numbers of a walk grow by.
    """

    def __init__(self, target: Path) -> None:
        super().__init__(target)
        self.shift = 0
        self.losses: list[Loss] = []
        self.blocks = self.events = 0
        self.torn_size = self.debris_size = 0

    @property
    def writer(self) -> Writer:
        """The writer of the target, which begins with the first segment."""
        assert self._writer is not None, "a walk without a segment raises"
        return self._writer

    def add(self, item: scan.ScanItem) -> bool:
        """Keep a block, or account for what is none; whether nothing is lost with it."""
        before = len(self.losses)
        if isinstance(item, scan.Segment):
            self.open_writer(item.header.journal_id)
        elif isinstance(item, scan.ScannedBlock):
            self._copy(item)
        elif isinstance(item, scan.Tail):
            self.torn_size += item.torn_size
        elif isinstance(item, scan.Debris):
            self.debris_size += item.size
        else:
            name, offset, size = item.name, item.offset, item.size
            self._add_loss(name, offset, size, item.first_seq, item.last_seq, item)
        return len(self.losses) == before

    def _copy(self, item: scan.ScannedBlock) -> None:
        header = item.header
        if not header.frame_count:
            return
        try:
            block = Block(header, item.body, item.first_seq + self.shift, item.offset)
            block.payload(0)  # to know whether it can be decompressed
            self.writer.append_block(block)
        except FormatError as error:
            name, size = item.segment.name, header.size
            self._add_loss(name, item.offset, size, item.first_seq, last_seq_of(item), error)
        else:
            self.blocks += 1
            self.events += header.frame_count

    def _add_loss(
        self,
        name: str,
        offset: int,
        size: int,
        first_seq: int,
        last_seq: int,
        why: scan.Damage | FormatError,
    ) -> None:
        first, last = first_seq + self.shift, last_seq + self.shift
        durable = isinstance(why, scan.Damage) and why.acknowledged
        open_ended = isinstance(why, scan.Damage) and why.open_ended
        loss = Loss(name, offset, size, first, last, why.reason, durable, open_ended)
        self.losses.append(loss)


def last_seq_of(item: scan.ScannedBlock) -> int:
    """Give the number of the last event of a block whose body was read."""
    header = item.header
    if header.has_seqs and header.frame_count:
        return item.first_seq + read_last_delta(header, item.body)
    return item.first_seq + header.frame_count - 1


def check_output_path(target: Path, sources: list[Path]) -> None:
    """Refuse what exists, what has no place to be in, and what would stand inside a source."""
    for source in sources:
        if _is_same(target, source):
            raise OptionError(f"{target} is a source too, which is only read")
        if source.is_dir() and source.resolve() in target.resolve().parents:
            raise OptionError(f"{target} would stand in {source}, which is only read")
    if os.path.lexists(target):
        raise OptionError(f"{target} exists already")
    if not target.parent.is_dir():
        raise OptionError(
            f"{target.parent} is not a directory, so {target.name} cannot be made there"
        )


def _is_same(target: Path, source: Path) -> bool:
    try:
        return target.samefile(source)
    except OSError:
        return False

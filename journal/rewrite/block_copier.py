"""Copier of a journal's readable blocks to a new journal, with a list of the losses."""

import os
from pathlib import Path
from typing import NamedTuple, Self

from journal._platform import require_linux
from journal.errors import CorruptBlock, DamagedJournal, FormatError, LostAcknowledged, OptionError
from journal.format.block import Block, read_last_delta
from journal.log import scan
from journal.log.commit_policy import CommitPolicy
from journal.log.writer import Writer


class Loss(NamedTuple):
    """Bytes of a journal that no longer contain events, and the events they contained.

    Importable as ``journal.operations.Loss``. ``file`` is the segment file's name, empty in a
    single-file journal. The lost events are ``first_seq`` to ``last_seq``, none if ``last_seq`` is
    lower. If ``open_ended``, their number is unknown. ``acknowledged`` events were known to be
    durable.
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
        """Return the exception to raise for this loss."""
        kind = LostAcknowledged if self.acknowledged else CorruptBlock
        size, first, last = self.size, self.first_seq, self.last_seq
        return kind(
            self.reason, self.offset, size=size, first_seq=first, last_seq=last, file=self.file
        )

    @property
    def events(self) -> int:
        """Number of lost events, as far as known."""
        return max(0, self.last_seq - self.first_seq + 1)


class UnpublishedJournal:
    """A journal at ``path`` that is created when its id is known. A context manager.

    The journal is removed at the end unless its writer publishes it. Without a path, the journal
    must never be opened.
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
        """Return the writer. The first call creates the journal with this id."""
        if self._writer is None:
            assert self._path is not None
            # The journal is durable as a whole or not at all, so no block is kept for fail-over.
            self._writer = Writer(
                self._path, publish=False, journal_id=journal_id, commit=CommitPolicy.NONE
            )
        return self._writer


class BlockCopier(UnpublishedJournal):
    """Copier of the blocks of scans to a new journal at ``target``, with a list of the losses.

    The new journal has the id of the first segment. ``shift`` is added to the sequence numbers of a
    scan.
    """

    def __init__(self, target: Path) -> None:
        super().__init__(target)
        self.shift = 0
        self.losses: list[Loss] = []
        self.blocks = self.events = 0
        self.torn_size = self.debris_size = 0

    @property
    def writer(self) -> Writer:
        """Writer of the target. Available after the first segment."""
        assert self._writer is not None, "a scan without a segment raises"
        return self._writer

    def add(self, item: scan.ScanItem) -> bool:
        """Copy a block, or record a defect, and return whether nothing was lost with this item."""
        count_before = len(self.losses)
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
        return len(self.losses) == count_before

    def _copy(self, item: scan.ScannedBlock) -> None:
        header = item.header
        if not header.frame_count:
            return
        try:
            block = Block(header, item.body, item.first_seq + self.shift, item.offset)
            block.payload(0)  # Raises if the block cannot be decompressed.
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
        cause: scan.Damage | FormatError,
    ) -> None:
        first, last = first_seq + self.shift, last_seq + self.shift
        durable = isinstance(cause, scan.Damage) and cause.acknowledged
        open_ended = isinstance(cause, scan.Damage) and cause.open_ended
        loss = Loss(name, offset, size, first, last, cause.reason, durable, open_ended)
        self.losses.append(loss)


def last_seq_of(item: scan.ScannedBlock) -> int:
    """Return the sequence number of the last event of a block with its body read."""
    header = item.header
    if header.has_seqs and header.frame_count:
        return item.first_seq + read_last_delta(header, item.body)
    return item.first_seq + header.frame_count - 1


def check_new_journal(target: Path, sources: list[Path]) -> None:
    """Raise OptionError as ``check_output_path``, and on a system that cannot write journals."""
    require_linux("writing a journal")
    check_output_path(target, sources)


def check_output_path(target: Path, sources: list[Path]) -> None:
    """Raise OptionError if ``target`` exists, has no parent directory, or is inside a source."""
    for source in sources:
        if _is_same(target, source):
            raise OptionError(f"{target} is also a source: sources are not written")
        if source.is_dir() and source.resolve() in target.resolve().parents:
            raise OptionError(f"{target} would be inside {source}: sources are not written")
    if os.path.lexists(target):
        raise OptionError(f"{target} already exists")
    if not target.parent.is_dir():
        raise OptionError(
            f"{target.parent} is not a directory, so {target.name} cannot be created there"
        )


def _is_same(target: Path, source: Path) -> bool:
    try:
        return target.samefile(source)
    except OSError:
        return False

"""Copier of a journal's readable blocks to a new journal, with a list of the losses."""

from pathlib import Path
from typing import NamedTuple, Self

from journal._platform import require_linux
from journal.errors import CorruptBlock, DamagedJournal, FormatError, LostAcknowledged, OptionError
from journal.fs import file_kind
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

    @property
    def writer(self) -> Writer:
        """Writer of the target. Available after the first segment."""
        assert self._writer is not None, "a scan without a segment raises"
        return self._writer

    def add_segment(self, segment: scan.Segment) -> None:
        """Open the target if this is the first segment."""
        self.open_writer(segment.header.journal_id)

    def add_damage(self, damage: scan.Damage) -> None:
        """Record damage as a loss."""
        offset, size, first_seq, last_seq, acknowledged, reason, *_ = damage
        first, last = first_seq + self.shift, last_seq + self.shift
        self.losses.append(
            Loss(damage.name, offset, size, first, last, reason, acknowledged, damage.open_ended)
        )

    def copy_block(self, scanned: scan.ScannedBlock) -> bool:
        """Copy a block, or record it as a loss if it is inconsistent. Return whether it was copied.

        A block without events is left out.
        """
        segment, header, offset, first_seq, *_ = scanned
        if not header.frame_count:
            return True
        first = first_seq + self.shift
        try:
            block = scanned.block(self.shift)
            block.payload(0)  # Raises if the block cannot be decompressed.
            self.writer.append_block(block)
        except FormatError as error:
            last, reason = scanned.next_seq - 1 + self.shift, error.reason
            self.losses.append(
                Loss(segment.name, offset, header.size, first, last, reason, False, False)
            )
            return False
        self.blocks += 1
        self.events += header.frame_count
        return True


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
    file_kind.check_absent(target)
    if not target.parent.is_dir():
        raise OptionError(
            f"{target.parent} is not a directory, so {target.name} cannot be created there"
        )


def _is_same(target: Path, source: Path) -> bool:
    try:
        return target.samefile(source)
    except OSError:
        return False

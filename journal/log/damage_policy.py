"""Reaction of a reader to damage: raise, end before it, or skip it."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from journal.errors import FormatError, TornBlock
from journal.format.block import Block, BlockHeader
from journal.log import scan
from journal.log.scan import RecoveryMode

_Selected = TypeVar("_Selected")


class DamagePolicy:
    """Reaction to the damage of the journal at ``path`` in a recovery mode.

    ``losses`` lists the damage that was skipped in salvage mode.
    """

    __slots__ = ("_mode", "_path", "losses")

    def __init__(self, path: str, mode: RecoveryMode) -> None:
        self._path = path
        self._mode = mode
        self.losses: list[scan.Damage] = []

    def ends_at(self, damage: scan.Damage, loses_events: bool) -> bool:
        """Return whether reading ends at this damage. Raises if the mode does not accept it."""
        if self._mode is RecoveryMode.SALVAGE:
            self.losses.append(damage)
            return False
        if self._mode is RecoveryMode.POINT_IN_TIME and damage.may_end_journal:
            return True
        if loses_events or damage.is_forged or self._mode is RecoveryMode.STRICT:
            try:
                scan.raise_damage(damage)
            except FormatError as error:
                error.path = self._path
                raise
        return False

    def ends_among(self, lost: list[scan.Damage]) -> bool:
        """Return whether backward reading ends at any of this damage, as ``ends_at`` does."""
        return any([self.ends_at(damage, True) for damage in reversed(lost)])

    def check_tail(self, tail: scan.Tail) -> None:
        """Raise TornBlock for a torn tail if the mode is strict."""
        if self._mode is RecoveryMode.STRICT and tail.torn_size:
            name = tail.segment.name
            error = TornBlock("the journal has a torn tail", tail.offset, name)
            error.path = self._path
            raise error

    def skip_block(
        self, name: str, first_seq: int, header: BlockHeader, offset: int, error: FormatError
    ) -> None:
        """Record an inconsistent block as lost in salvage mode, else raise.

        No correct writer writes such a block.
        """
        if self._mode is not RecoveryMode.SALVAGE:
            error.file, error.path = name, self._path
            raise error
        last_seq, kind = first_seq + header.frame_count - 1, type(error)
        self.losses.append(
            scan.Damage(
                offset, header.size, first_seq, last_seq, False, error.reason, kind, (0, 0), name
            )
        )

    def unpack(self, scanned: scan.ScannedBlock, start: int) -> Block | None:
        """Return the block, or None if it has no event from ``start`` on.

        Skips an inconsistent block in salvage mode.
        """
        try:
            block = scanned.block()
            return block if block.last_seq >= start else None
        except FormatError as error:
            segment, header, offset, first_seq, *_ = scanned
            self.skip_block(segment.name, first_seq, header, offset, error)
            return None

    def select(
        self, name: str, block: Block, select: Callable[[Block], Iterable[_Selected]]
    ) -> Iterable[_Selected]:
        """Return ``select(block)``. Skip an inconsistent block in salvage mode."""
        try:
            return select(block)
        except FormatError as error:
            self.skip_block(name, block.first_seq, block.header, block.offset, error)
            return ()

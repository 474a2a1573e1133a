"""Descriptors by number: whose event each number, position and flag is."""

from collections.abc import Iterator
from typing import Any

from journal.compaction.liveness.dependency_graph import Ledger
from journal.replay.state.descriptor_table import (
    Description,
    HostNode,
    Number,
    OpenFile,
    Pipe,
    PipeEnd,
    Socket,
    Table,
    Thing,
)


class Trail:
    """The events that a thing is made of besides the one that opened it.

    ``cells`` are those that set something last, by what; ``all`` are those that all count. Both
    ends of a pipe have one.
    """

    __slots__ = ("all", "cells")

    def __init__(self) -> None:
        self.cells: dict[Any, int] = {}
        self.all: list[int] = []


class OwnedDescription(Description):
    """What one or more numbers stand for, opened by ``by``; most never have a trail."""

    __slots__ = ("_trail", "flagged", "positioned")

    def __init__(self, thing: Thing, flags: int, by: int, trail: Trail | None = None) -> None:
        super().__init__(thing, flags)
        self.flagged = self.positioned = by
        self._trail = trail

    @property
    def trail(self) -> Trail:
        """What else it is made of."""
        if self._trail is None:
            self._trail = Trail()
        return self._trail

    def cells(self) -> Iterator[int]:
        """Give the owners of what it has."""
        yield self.flagged
        yield self.positioned
        if self._trail is not None:
            yield from self._trail.cells.values()
            yield from self._trail.all


class OwnedNumber(Number):
    """One number, given by ``by``."""

    __slots__ = ("by", "flagged", "limited")

    def __init__(
        self, description: OwnedDescription, fd_flags: int, rights: tuple[int, int], by: int
    ) -> None:
        super().__init__(description, fd_flags, rights)
        self.by = self.flagged = self.limited = by


class SpanTable(Table):
    """The descriptors of one process. Whoever looks at one needs who gave it its number.

    Where the journal has ``no_answers``, nobody knows what there is of the former host: each event
    that has to do with it is kept.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.no_answers = False
        self._pipe: Pipe | None = None
        self._trail = Trail()
        super().__init__()

    def number(self, fd: int) -> Number:
        """What stands at ``fd``."""
        found = super().number(fd)
        assert isinstance(found, OwnedNumber)
        self.ledger.need(found.by)
        self._suspect(found.description.thing)
        return found

    def owned(self, fd: int) -> OwnedNumber:
        """What stands at ``fd``, which nobody has to look at for that."""
        found = self.used[fd]
        assert isinstance(found, OwnedNumber)
        return found

    def add(
        self,
        fd: int,
        thing: Thing,
        *,
        flags: int = 0,
        fd_flags: int = 0,
        rights: tuple[int, int] = (0, 0),
    ) -> None:
        """Open ``thing`` at ``fd``, at its beginning."""
        self.check_free(fd)
        seq = self.ledger.seq
        trail = self._trail_of(thing)
        description = OwnedDescription(thing, flags, seq, trail)
        self._put(fd, OwnedNumber(description, fd_flags, rights, seq))

    def duplicate(self, original: int, copied: int, fd_flags: int) -> None:
        """Let ``copied`` stand for the same as ``original``."""
        found, seq = self.number(original), self.ledger.seq
        assert isinstance(found, OwnedNumber)
        self.check_free(copied)
        self.ledger.need(found.limited)
        about = found.description
        assert isinstance(about, OwnedDescription)
        self._put(copied, OwnedNumber(about, fd_flags, found.rights, seq))

    def renumber(self, old: int, new: int) -> None:
        """Let ``new`` stand for what ``old`` did, and close what ``new`` stood for.

        What ``new`` stood for need not be there when this is done again without it.
        """
        found = self.number(old)
        if old == new:
            return
        if new in self.used:
            self._close(new)
        self.ledger.ends(self.owned(old).by)
        del self.used[old]
        assert isinstance(found, OwnedNumber)
        found.by = self.ledger.seq
        self.used[new] = found

    def close(self, fd: int) -> None:
        """Close ``fd``, and what it stands for if no other number does."""
        self.number(fd)
        self._close(fd)

    def cells(self) -> Iterator[int]:
        """Give the owners of all that the descriptors have."""
        for number in self.used.values():
            assert isinstance(number, OwnedNumber)
            yield number.by
            yield number.flagged
            yield number.limited
            about = number.description
            assert isinstance(about, OwnedDescription)
            yield from about.cells()

    def _close(self, fd: int) -> None:
        self.ledger.ends(self.owned(fd).by)
        description = self.used.pop(fd).description
        description.numbers -= 1
        if not description.numbers and isinstance(description.thing, OpenFile):
            description.thing.file.close()

    def _put(self, fd: int, number: Number) -> None:
        if fd in self.used:  # what nobody knows whether it is there
            self.ledger.ends(self.owned(fd).by)
        self._suspect(number.description.thing)
        super()._put(fd, number)

    def _suspect(self, thing: Thing) -> None:
        if self.no_answers and isinstance(thing, HostNode | Socket):
            self.ledger.is_pinned = True

    def _trail_of(self, thing: Thing) -> Trail:
        """A trail of its own, or that of the other end of the pipe, which was opened before."""
        pipe = thing.pipe if isinstance(thing, PipeEnd) else None
        if pipe is None or pipe is not self._pipe:
            self._trail = Trail()
        self._pipe = pipe
        return self._trail

"""Who wrote which bytes: places from 0 on without end, each owned by the event that set it last."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from journal.compaction.ledger import BASE

_CUT = -3
"""Owners at and below this cut what was there: ``_CUT - seq``. What they own is empty."""


class Spans:
    """Owners of places. A cut owns all places from somewhere on, until they are written again.

    > Why do cuts own what is beyond the end? What was written there before must not come back when
    somebody writes still further on.
    """

    __slots__ = ("_owners", "_starts")

    def __init__(self) -> None:
        self._starts = array("q", (0,))
        self._owners = array("q", (BASE,))

    def put(self, start: int, stop: int, owner: int) -> None:
        """Let places from ``start`` to before ``stop`` be written by ``owner``."""
        if start >= stop:
            return
        starts, owners = self._starts, self._owners
        if start >= starts[-1]:  # behind all that was written: most writes are
            rest = owners[-1]
            if start == starts[-1]:
                owners[-1] = owner
            else:
                starts.append(start)
                owners.append(owner)
            starts.append(stop)
            owners.append(rest)
            return
        first = bisect_left(starts, start)
        last = bisect_right(starts, stop) - 1
        behind = owners[last]
        parts = (start, stop) if starts[last] != stop or last < first else (start,)
        starts[first : last + (len(parts) == 2)] = array("q", parts)
        owners[first : last + (len(parts) == 2)] = array("q", (owner, behind)[: len(parts)])

    def cut(self, start: int, owner: int) -> None:
        """Let nothing be written from ``start`` on: ``owner`` saw to that."""
        at = bisect_left(self._starts, start)
        del self._starts[at:], self._owners[at:]
        self._starts.append(start)
        self._owners.append(_CUT - owner)

    @property
    def last_cut(self) -> int:
        """Who saw to it that nothing stands behind all that was written."""
        return _seq(self._owners[-1])

    def owners(self) -> Iterator[int]:
        """All of them, some more than once."""
        return map(_seq, self._owners)

    def parts(self, size: int) -> list[tuple[int, int]]:
        """Where each part begins of what is in front of ``size``, and whose it is; BASE: empty."""
        found: list[tuple[int, int]] = []
        for start, owner in zip(self._starts, self._owners, strict=True):
            if start >= size:
                break
            owner = max(owner, BASE)
            if not found or found[-1][1] != owner:
                found.append((start, owner))
        return found


def _seq(owner: int) -> int:
    return owner if owner > _CUT else _CUT - owner

"""Interval map from byte ranges of a file to the sequence number of their last write."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import chain

from journal.compaction.liveness.dependency_graph import BEFORE_JOURNAL

ROW_COUNT_MAX = 1 << 10
_TRUNCATED = -3
"""Owners at and below this value are truncations, stored as ``_TRUNCATED - seq``. Their ranges are
empty.
"""


class IntervalMap:
    """Owners of byte ranges. A truncation owns all bytes from its offset to the next write there.

    The intervals are stored in rows of limited length, so that a change moves few intervals.

    > Why does a truncation own the bytes after the end? Bytes written there before must not
    reappear when a later write extends the file.
    """

    __slots__ = ("_heads", "_owners", "_starts")

    def __init__(self) -> None:
        self._heads = [0]  # Start of each row.
        self._starts = [array("q", (0,))]
        self._owners = [array("q", (BEFORE_JOURNAL,))]

    def put(self, start: int, stop: int, owner: int) -> None:
        """Set the owner of the bytes from ``start`` to before ``stop``."""
        if start >= stop:
            return
        starts, owners = self._starts[-1], self._owners[-1]
        if start >= starts[-1]:  # Like most writes, at or after the end.
            rest = owners[-1]
            if start == starts[-1]:
                owners[-1] = owner
            else:
                starts.append(start)
                owners.append(owner)
            starts.append(stop)
            owners.append(rest)
            self._split(len(self._heads) - 1)
            return
        heads = self._heads
        row = bisect_right(heads, start) - 1
        starts, owners = self._starts[row], self._owners[row]
        first = bisect_left(starts, start)
        if first + 1 < len(starts) and starts[first] == start and starts[first + 1] == stop:
            owners[first] = owner  # The same range is written again.
            return
        end = bisect_right(heads, stop, row) - 1
        end_starts, end_owners = self._starts[end], self._owners[end]
        last = bisect_right(end_starts, stop) - 1
        parts = array("q", (start, stop)), array("q", (owner, end_owners[last]))
        if row == end:
            starts[first : last + 1], owners[first : last + 1] = parts
        else:
            starts[first:], owners[first:] = parts
            starts += end_starts[last + 1 :]
            owners += end_owners[last + 1 :]
            for column in (heads, self._starts, self._owners):
                del column[row + 1 : end + 1]
        heads[row] = starts[0]
        self._split(row)

    def truncate(self, start: int, owner: int) -> None:
        """Truncate at ``start``: ``owner`` then owns all bytes from ``start`` on."""
        row = bisect_right(self._heads, start) - 1
        for column in (self._heads, self._starts, self._owners):
            del column[row + 1 :]
        at = bisect_left(self._starts[row], start)
        self._starts[row][at:] = array("q", (start,))
        self._owners[row][at:] = array("q", (_TRUNCATED - owner,))

    def settle_before(self, upto: int) -> None:
        """Replace all owners before ``upto`` by one, because they are no longer distinguished."""
        if (
            len(self._heads) == 1
            and _TRUNCATED <= min(self._owners[0]) <= max(self._owners[0]) <= 0
        ):
            return  # All owners are already settled.
        starts, owners = array("q"), array("q")
        for start, owner in zip(
            chain.from_iterable(self._starts), chain.from_iterable(self._owners), strict=True
        ):
            if owner <= _TRUNCATED:
                new_owner = _TRUNCATED if _TRUNCATED - owner < upto else owner
            else:
                new_owner = 0 if 0 <= owner < upto else owner
            if not owners or owners[-1] != new_owner:
                starts.append(start)
                owners.append(new_owner)
        size = ROW_COUNT_MAX // 2
        offsets = range(0, len(starts), size)
        self._starts = [starts[at : at + size] for at in offsets]
        self._owners = [owners[at : at + size] for at in offsets]
        self._heads = [row[0] for row in self._starts]

    def _split(self, row: int) -> None:
        starts, owners = self._starts[row], self._owners[row]
        if len(starts) > ROW_COUNT_MAX:
            size = -(-len(starts) // (2 * len(starts) // ROW_COUNT_MAX))
            offsets = range(0, len(starts), size)
            self._starts[row : row + 1] = [starts[at : at + size] for at in offsets]
            self._owners[row : row + 1] = [owners[at : at + size] for at in offsets]
            self._heads[row : row + 1] = [starts[at] for at in offsets]

    @property
    def last_truncation(self) -> int:
        """Event that made the bytes after the last write empty."""
        return _decode_owner(self._owners[-1][-1])

    def owners(self) -> Iterator[int]:
        """Return all owners, some repeatedly."""
        return map(_decode_owner, chain.from_iterable(self._owners))

    def intervals(self, size: int) -> list[tuple[int, int]]:
        """Return start and owner of each interval before ``size``; BEFORE_JOURNAL owns holes."""
        intervals: list[tuple[int, int]] = []
        before = None
        for starts, owners in zip(self._starts, self._owners, strict=True):
            for start, owner in zip(starts, owners, strict=True):
                if start >= size:
                    return intervals
                owner = max(owner, BEFORE_JOURNAL)
                if owner != before:
                    intervals.append((start, owner))
                    before = owner
        return intervals


def _decode_owner(owner: int) -> int:
    return owner if owner > _TRUNCATED else _TRUNCATED - owner

"""Interval map from byte ranges of a file to the sequence number of the event that wrote them last.

Writes can be deferred until an owner is needed.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import chain

from journal.compaction.liveness.dependency_graph import BEFORE_JOURNAL
from journal.compaction.liveness.write_batch import WriteBatch

ROW_COUNT_MAX = 1 << 10
_FEW_COUNT_MAX = 3
"""Number of writes that are too few to justify columns of their own."""
_TRUNCATED = -3
"""Owners at and below this value are truncations, stored as ``_TRUNCATED - seq``. Their ranges are
empty.
"""


DeferredWrites = tuple[WriteBatch, int, int, int]
"""Deferred writes: a batch, the first index, the last index plus 1, and their common dependency.

The dependencies are added to the graph only when the writes are applied.
"""


class IntervalMap:
    """Owners of byte ranges. A truncation owns all bytes from its offset to the next write there.

    The intervals are stored in rows of limited length, so that a change moves few intervals.

    > Why does a truncation own the bytes after the end? Bytes written there before must not
    reappear when a later write extends the file.

    > Why defer writes? Most files of most journals are replaced or removed before their owners are
    needed, and deferred writes then cost nothing.
    """

    __slots__ = ("_deferred", "_heads", "_owners", "_starts")

    def __init__(self) -> None:
        self._deferred: list[DeferredWrites] = []
        self._heads = _NO_HEADS  # Start of each row.
        self._starts: list[array[int]]
        self._owners: list[array[int]]

    def defer(self, deferred: DeferredWrites) -> None:
        """Add writes, to be applied later."""
        self._deferred.append(deferred)

    def _apply_deferred(self) -> None:
        """Apply the deferred writes."""
        if not self._heads:
            self._heads = [0]
            self._starts = [array("q", (0,))]
            self._owners = [array("q", (BEFORE_JOURNAL,))]
        deferred, self._deferred = self._deferred, []
        for writes, first, stop_index, needed in deferred:
            if stop_index - first <= _FEW_COUNT_MAX:
                for index in range(first, stop_index):
                    owner = writes.seqs[index]
                    if needed != BEFORE_JOURNAL:
                        writes.graph.link(owner, needed)
                    self.put(writes.starts[index], writes.stops[index], owner)
                continue
            starts, owners = writes.starts[first:stop_index], writes.seqs[first:stop_index]
            writes.graph.link_all(owners, needed)
            if starts[0] >= self._starts[-1][-1] and writes.is_contiguous(first, stop_index):
                self._append(starts, writes.stops[stop_index - 1], owners)
                continue
            for start, stop, owner in zip(
                starts, writes.stops[first:stop_index], owners, strict=True
            ):
                self.put(start, stop, owner)

    def _append(self, new_starts: "array[int]", stop: int, new_owners: "array[int]") -> None:
        """Add contiguous writes at or after the end of all earlier writes."""
        starts, owners = self._starts[-1], self._owners[-1]
        rest = owners[-1]
        if new_starts[0] == starts[-1]:
            del starts[-1], owners[-1]
        starts.extend(new_starts)
        owners.extend(new_owners)
        starts.append(stop)
        owners.append(rest)
        self._split(len(self._heads) - 1)

    def put(self, start: int, stop: int, owner: int) -> None:
        """Set the owner of the bytes from ``start`` to before ``stop``."""
        if start >= stop:
            return
        if self._deferred or not self._heads:
            self._apply_deferred()
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
        self._apply_deferred()
        row = bisect_right(self._heads, start) - 1
        for column in (self._heads, self._starts, self._owners):
            del column[row + 1 :]
        at = bisect_left(self._starts[row], start)
        self._starts[row][at:] = array("q", (start,))
        self._owners[row][at:] = array("q", (_TRUNCATED - owner,))

    def settle_before(self, upto: int) -> None:
        """Replace all owners before ``upto`` by one, because they are no longer distinguished."""
        if not self._deferred and not self._heads:
            return
        self._apply_deferred()
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
        self._apply_deferred()
        return _decode_owner(self._owners[-1][-1])

    def owners(self) -> Iterator[int]:
        """Return all owners, some repeatedly."""
        self._apply_deferred()
        return map(_decode_owner, chain.from_iterable(self._owners))

    def intervals(self, size: int) -> list[tuple[int, int]]:
        """Return start and owner of each interval before ``size``; BEFORE_JOURNAL owns holes."""
        self._apply_deferred()
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


_NO_HEADS: list[int] = []


def _decode_owner(owner: int) -> int:
    return owner if owner > _TRUNCATED else _TRUNCATED - owner

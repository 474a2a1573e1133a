"""Tag columns of a journal, partitioned into retained and dropped events, many blocks at a time.

Both columns have one byte per event: a column holds 0 at each index where the other holds a tag.
An index therefore means the same event in both.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

BATCH_COUNT_MIN = 1 << 16
"""Events collected before a batch is examined: above this, a call costs less than its work."""

_TAGS = [bytes((tag,)) for tag in range(256)]
_HOLE = _TAGS[0]


def partition_tags(tags: bytes, mask: bytes) -> tuple[bytes, bytes]:
    """Split a column of tags by ``mask``: return the retained (mask 1) and the dropped (mask 0)."""
    size = len(tags)
    if 0 not in mask:
        return tags, bytes(size)
    if 1 not in mask:
        return mask, tags
    # Arithmetic on the columns as large integers is faster than a loop.
    column = int.from_bytes(tags, "little")
    retained = column & int.from_bytes(mask, "little") * 0xFF
    return retained.to_bytes(size, "little"), (column ^ retained).to_bytes(size, "little")


class PartitionedBlocks:
    """Retained and dropped columns of consecutive blocks, and the set of tags in each column."""

    def __init__(
        self,
        retained: bytes,
        dropped: bytes,
        retained_tags: set[int],
        dropped_tags: set[int],
        starts: list[int],
        seqs: list[Sequence[int]],
    ) -> None:
        self.retained, self.retained_tags = retained, retained_tags
        self.dropped, self.dropped_tags = dropped, dropped_tags
        self._starts = starts
        self._seqs = seqs

    def seq(self, index: int) -> int:
        """Return the sequence number of the event at ``index``."""
        block = bisect_right(self._starts, index) - 1
        return self._seqs[block][index - self._starts[block]]

    def find(self, tags: frozenset[int]) -> list[int]:
        """Return the indices of all events with one of ``tags``, retained or dropped, ascending."""
        retained = [at for tag in tags & self.retained_tags for at in _find_tag(self.retained, tag)]
        dropped = [at for tag in tags & self.dropped_tags for at in _find_tag(self.dropped, tag)]
        return sorted(retained + dropped)


class TagCounts:
    """Number of events of each tag in the columns added so far."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def add(self, column: bytes) -> set[int]:
        """Count a column and return the tags in it."""
        rest, tags = column.translate(None, _HOLE), set()
        # The most frequent tags come first, so that few bytes remain to scan for the other tags.
        frequent = iter(sorted(self.counts, key=self.counts.__getitem__, reverse=True))
        while rest:
            tag = next(frequent, rest[0])
            if tag in rest:
                others = rest.translate(None, _TAGS[tag])
                self.counts[tag] = self.counts.get(tag, 0) + len(rest) - len(others)
                tags.add(tag)
                rest = others
        return tags


class TagPartition:
    """Counter of retained and dropped tags that collects columns of blocks into batches.

    ``next_seq`` is the sequence number after the last retained event, 0 if no event is retained.
    """

    def __init__(self) -> None:
        self.retained, self.dropped = TagCounts(), TagCounts()
        self.next_seq = 0
        self._clear()

    def _clear(self) -> None:
        self._size = 0
        self._retained: list[bytes] = []
        self._dropped: list[bytes] = []
        self._starts: list[int] = []
        self._seqs: list[Sequence[int]] = []

    def add(self, retained: bytes, dropped: bytes, seqs: Sequence[int]) -> bool:
        """Add the columns of a block; return whether the batch is large enough for ``take``."""
        self._retained.append(retained)
        self._dropped.append(dropped)
        self._starts.append(self._size)
        self._seqs.append(seqs)
        self._size += len(retained)
        return self._size >= BATCH_COUNT_MIN

    def take(self) -> PartitionedBlocks | None:
        """Count and return the collected batch, and start the next; None if the batch is empty."""
        if not self._size:
            return None
        retained, dropped = b"".join(self._retained), b"".join(self._dropped)
        retained_tags, dropped_tags = self.retained.add(retained), self.dropped.add(dropped)
        batch = PartitionedBlocks(
            retained, dropped, retained_tags, dropped_tags, self._starts, self._seqs
        )
        if retained_tags:
            self.next_seq = batch.seq(len(retained.rstrip(_HOLE)) - 1) + 1
        self._clear()
        return batch


def _find_tag(column: bytes, tag: int) -> Iterator[int]:
    index = column.find(tag)
    while index >= 0:
        yield index
        index = column.find(tag, index + 1)

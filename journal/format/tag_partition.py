"""What is kept of a journal and what is dropped, as columns of tags; many blocks as one.

Each of the two columns has 0 where the other has a tag, so that a place in one is one in both.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

RUN_COUNT_MIN = 1 << 16
"""Events that are looked at together: from so many on, a call costs less than what it looks at."""

_TAGS = [bytes((tag,)) for tag in range(256)]
_HOLE = _TAGS[0]


def parted(tags: bytes, mask: bytes) -> tuple[bytes, bytes]:
    """Part a column of tags: those that stay by ``mask``, of 1 and 0, and those that do not."""
    size = len(tags)
    if 0 not in mask:
        return tags, bytes(size)
    if 1 not in mask:
        return mask, tags
    # as numbers: a loop would take longer
    column = int.from_bytes(tags, "little")
    kept = column & int.from_bytes(mask, "little") * 0xFF
    return kept.to_bytes(size, "little"), (column ^ kept).to_bytes(size, "little")


class Run:
    """Columns of blocks in a row, what is kept and what is gone, and which tags these have."""

    def __init__(
        self,
        kept: bytes,
        gone: bytes,
        kept_tags: set[int],
        gone_tags: set[int],
        starts: list[int],
        seqs: list[Sequence[int]],
    ) -> None:
        self.kept, self.kept_tags = kept, kept_tags
        self.gone, self.gone_tags = gone, gone_tags
        self._starts = starts
        self._seqs = seqs

    def seq(self, at: int) -> int:
        """The number of the event at a place."""
        block = bisect_right(self._starts, at) - 1
        return self._seqs[block][at - self._starts[block]]

    def places(self, tags: frozenset[int]) -> list[int]:
        """Where any of these tags stands, kept or gone."""
        found = [at for tag in tags & self.kept_tags for at in _places(self.kept, tag)]
        return sorted(
            found + [at for tag in tags & self.gone_tags for at in _places(self.gone, tag)]
        )


class Tally:
    """How many events of which tags some columns have."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def add(self, column: bytes) -> set[int]:
        """Count a column; give the tags that it has."""
        rest, found = column.translate(None, _HOLE), set()
        # what was most comes first, so that little is left to be looked at for all others
        known = iter(sorted(self.counts, key=self.counts.__getitem__, reverse=True))
        while rest:
            tag = next(known, rest[0])
            if tag in rest:
                others = rest.translate(None, _TAGS[tag])
                self.counts[tag] = self.counts.get(tag, 0) + len(rest) - len(others)
                found.add(tag)
                rest = others
        return found


class Parting:
    """Gathers the columns of blocks until it is worth while to look at them, and counts them.

    ``next_seq`` is the number behind the last event that is kept, 0 where none is.
    """

    def __init__(self) -> None:
        self.kept, self.gone = Tally(), Tally()
        self.next_seq = 0
        self._clear()

    def _clear(self) -> None:
        self._size = 0
        self._kept: list[bytes] = []
        self._gone: list[bytes] = []
        self._starts: list[int] = []
        self._seqs: list[Sequence[int]] = []

    def add(self, kept: bytes, gone: bytes, seqs: Sequence[int]) -> bool:
        """Add a block with the numbers of its events; whether it is worth while now."""
        self._kept.append(kept)
        self._gone.append(gone)
        self._starts.append(self._size)
        self._seqs.append(seqs)
        self._size += len(kept)
        return self._size >= RUN_COUNT_MIN

    def run(self) -> Run | None:
        """Give what has gathered, if anything has."""
        if not self._size:
            return None
        kept, gone = b"".join(self._kept), b"".join(self._gone)
        kept_tags, gone_tags = self.kept.add(kept), self.gone.add(gone)
        found = Run(kept, gone, kept_tags, gone_tags, self._starts, self._seqs)
        if kept_tags:
            self.next_seq = found.seq(len(kept.rstrip(_HOLE)) - 1) + 1
        self._clear()
        return found


def _places(column: bytes, tag: int) -> Iterator[int]:
    at = column.find(tag)
    while at >= 0:
        yield at
        at = column.find(tag, at + 1)

"""Finding events by number and from the end: which file, which rows of its table, which block."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise

from journal import seek
from journal.block import Block
from journal.seek import Table
from journal.segments import Files, Head
from journal.source import Source

_TABLES_MAX = 16


class Places:
    """What is known of where a journal's numbers stand; found out when it is asked for."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._heads: list[Head] = []
        self._tables: dict[str, Table] = {}
        self._last: tuple[Block | None, bool] = (None, False)

    def names_from(self, start: int) -> list[str]:
        """Name the files from the one on in which event ``start`` would stand."""
        names = self._files.names()
        if start <= 0 or not self._is_chain(names):
            return names
        first_seqs = [head.header.first_seq for head in self._heads if head.header]
        return names[max(0, bisect_right(first_seqs, start) - 1) :]

    def find(self, seq: int, *, verify: bool) -> Block:
        """Read the block with this event; KeyError when there is none, or what it is lost by."""
        last, verified = self._last
        if last is not None and verified >= verify and last.index(seq) is not None:
            return last
        group = self._group(seq)
        known = self._tables.get(group[0])
        block = self._find_in(known, seq, verify) if known else None
        if block is None:
            # what is known may be old, or an index whose blocks do not follow on each other
            table = self._table(group, sparse=known is None)
            block = self._find_in(table, seq, verify)
            if block is None and known is None:
                table = self._table(group, sparse=False)
                block = self._find_in(table, seq, verify)
            if block is None:
                raise table.missing(seq)
        self._last = (block, verify)
        return block

    def backward(self, end: int) -> Iterator[tuple[Table, Source, int]]:
        """Give the rows that may have events below ``end``, last row first, with their file."""
        names = self._files.names()
        groups = [[name] for name in names] if self._is_chain(names) else [names]
        for group in reversed(groups):
            table = self._table(group, sparse=False)
            for row in range(table.row_of(end - 1), -1, -1):
                source = self._files.open(table.name_of(row))
                if source is not None:
                    yield table, source, row

    def _group(self, seq: int) -> list[str]:
        """Name the files whose table has a number: one, where each file's numbers are its own."""
        names = self.names_from(seq)
        return names[:1] if self._is_chain(self._files.names()) else names

    def _is_chain(self, names: list[str]) -> bool:
        """Whether each segment file continues the one before, so that numbers are their own."""
        if len(names) < 2:
            return False
        known = [head.name for head in self._heads]
        if names[: len(known)] != known:
            self._heads, known = [], []
        self._heads += self._files.heads(names[len(known) :])
        headers = [head.header for head in self._heads]
        return all(
            before is not None and header is not None and header.continues(before)
            for before, header in pairwise(headers)
        )

    def _table(self, group: list[str], *, sparse: bool) -> Table:
        table = seek.table_of(self._files, group, sparse=sparse)
        while len(self._tables) >= _TABLES_MAX:
            del self._tables[next(iter(self._tables))]
        self._tables[group[0]] = table
        return table

    def _find_in(self, table: Table, seq: int, verify: bool) -> Block | None:
        row = table.row_of(seq)
        source = self._files.open(table.name_of(row)) if row >= 0 else None
        if source is None:
            return None
        for spot in table.spots(row, source):
            if spot.may_hold(seq):
                block = seek.block_at(source, spot, verify=verify)
                if block.index(seq) is not None:
                    return block
        return None

"""Random access to events by sequence number, and backward iteration: file, table row, block."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise

from journal.format.block import Block
from journal.format.segment_header import find_misplacement
from journal.fs.byte_source import ByteSource
from journal.log import block_table
from journal.log.block_table import BlockRef, BlockTable
from journal.log.segment_files import SegmentFiles, SegmentHead

_TABLES_MAX = 16
_ROWS_MAX = 1 << 10
_WHOLE_JOURNAL = ""


class BlockLocator:
    """Cache of block positions of a journal, filled on demand.

    Cached positions are tried first, because written blocks never move. Events that are not found
    there are searched on disk.
    """

    def __init__(self, files: SegmentFiles) -> None:
        self._files = files
        self._heads: list[SegmentHead] = []
        self._first_seqs: list[int] = []
        self._tables: dict[str, BlockTable] = {}
        self._sources: dict[str, ByteSource] = {}
        self._rows: dict[tuple[str, int], tuple[ByteSource, list[BlockRef]]] = {}
        self._last: tuple[Block | None, bool] = (None, False)

    def names_from(self, start: int) -> list[str]:
        """Return the names of the files, from the file that can contain event ``start``."""
        names = self._files.names()
        if start <= 0 or not self.is_chain(names):
            return names
        return names[self._file_of(start) :]

    def find(self, seq: int, *, verify: bool) -> tuple[Block, int]:
        """Return the block with event ``seq``, and the index of the event in it.

        Raises KeyError if there is no such event, or the DamagedJournal that lost it.
        """
        last, verified = self._last
        if last is not None and verified >= verify and (at := last.index(seq)) is not None:
            return last, at
        match = self._find_in(self._likely_table(seq), seq, verify)
        match = match or self._find_on_disk(seq, verify)
        self._last = (match[0], verify)
        return match

    def _find_on_disk(self, seq: int, verify: bool) -> tuple[Block, int]:
        names = self._files.names()
        following = None
        if self.is_chain(names):
            at = self._file_of(seq)
            names, following = names[at : at + 1], _next_name(names, at)
            sparse = block_table.load_sparse_table(self._files, names[0])
            if sparse is not None:
                self._store(names[0], sparse)
                if match := self._find_in(names[0], seq, verify):
                    return match
        table = block_table.build_table(self._files, names, following)
        key = self._key(names[0]) if names else _WHOLE_JOURNAL
        self._store(key, table)
        if match := self._find_in(key, seq, verify):
            return match
        raise table.missing_error(seq)

    def backward(self) -> Iterator[BlockTable]:
        """Yield the tables of the journal's files, the last file first."""
        names = self._files.names()
        if not self.is_chain(names):
            yield block_table.build_table(self._files, names)
            return
        for at in range(len(names) - 1, -1, -1):
            yield block_table.build_table(self._files, [names[at]], _next_name(names, at))

    def source_of(self, table: BlockTable, row: int) -> ByteSource | None:
        """Open the file that contains a row."""
        return self._files.open(table.name_of(row))

    def _file_of(self, seq: int) -> int:
        """Return the index of the chained file that can contain event ``seq``."""
        return max(0, bisect_right(self._first_seqs, seq) - 1)

    def _likely_table(self, seq: int) -> str:
        """Return the key of the table that should contain event ``seq``, by the read headers."""
        if not self._first_seqs:
            return _WHOLE_JOURNAL
        return self._heads[max(0, bisect_right(self._first_seqs, seq) - 1)].name

    def _key(self, name: str) -> str:
        return name if self._first_seqs else _WHOLE_JOURNAL

    def is_chain(self, names: list[str]) -> bool:
        """Return whether each file continues the previous file, so that no number shifts."""
        if len(names) < 2:
            return False
        old_names = [head.name for head in self._heads]
        if names[: len(old_names)] != old_names:
            self._heads, old_names = [], []
        self._heads += self._files.read_heads(names[len(old_names) :])
        headers = [head.header for head in self._heads]
        is_chain = all(
            before is not None and header is not None and not find_misplacement(header, before)
            for before, header in pairwise(headers)
        )
        self._first_seqs = [header.first_seq for header in headers if header] if is_chain else []
        return is_chain

    def _store(self, key: str, table: BlockTable) -> None:
        while len(self._tables) >= _TABLES_MAX:
            del self._tables[next(iter(self._tables))]
        self._tables[key] = table
        self._sources.clear()
        self._rows.clear()

    def _find_in(self, key: str, seq: int, verify: bool) -> tuple[Block, int] | None:
        table = self._tables.get(key)
        row = table.find_row(seq) if table else -1
        if table is None or row < 0:
            return None
        cached = self._rows.get((key, row))
        if cached is None:
            source = self._source(table.name_of(row))
            if source is None:
                return None
            if len(self._rows) >= _ROWS_MAX:
                self._rows.clear()
            cached = self._rows[key, row] = (source, table.block_refs(row, source) or [])
        source, refs = cached
        for ref in refs:
            if len(refs) == 1 or ref.may_contain(seq):
                block = block_table.read_block(source, ref, verify=verify)
                at = block.index(seq)
                if at is not None:
                    return block, at
        return None

    def _source(self, name: str) -> ByteSource | None:
        source = self._sources.get(name)
        if source is None:
            if len(self._sources) >= _TABLES_MAX:
                self._sources.clear()
            source = self._files.open(name)
            if source is not None:
                self._sources[name] = source
        return source


def _next_name(names: list[str], at: int) -> str | None:
    return names[at + 1] if at + 1 < len(names) else None

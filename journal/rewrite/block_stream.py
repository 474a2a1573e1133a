"""The blocks of a journal, all of them, for whoever makes something else of it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from journal.errors import FormatError
from journal.format.block import Block
from journal.log import scan as log
from journal.log.segment_files import Files
from journal.rewrite.bit_repair import Progress, Watched, nobody


class Walked:
    """The blocks of a journal, and what else was met of it; ``report`` is told how far it is.

    ``journal_id``, ``created`` and ``first_seq`` are those of the first segment, known with the
    first block.
    """

    def __init__(self, path: Path, report: Progress = nobody, what: str = "copying") -> None:
        self.journal_id = b""
        self.created = self.first_seq = self.size = self.torn_size = self.debris_size = 0
        self._path = path
        self._report = report
        self._what = what

    def blocks(self) -> Iterator[Block]:
        """Give the blocks that have events; raises for damage, and FormatErrors name the file."""
        try:
            with closing(Files(self._path)) as files:
                walk = Watched(files, self._report, self._what)
                for item in walk.items():
                    self.size = walk.size
                    block = self._take(item)
                    if block is not None:
                        yield block
        except FormatError as error:
            if not error.file.startswith(str(self._path)):
                error.file = str(self._path / error.file)
            raise

    def _take(self, item: log.Item) -> Block | None:
        if isinstance(item, log.Damage):
            raise item.error()
        if isinstance(item, log.Segment) and not self.journal_id:
            header = item.header
            self.journal_id, self.created = header.journal_id, header.created
            self.first_seq = header.first_seq
        elif isinstance(item, log.Tail):
            self.torn_size += item.torn_size
        elif isinstance(item, log.Debris):
            self.debris_size += item.size
        elif isinstance(item, log.Placed) and item.header.frame_count:
            return Block(item.header, item.body, item.first_seq, item.offset)
        return None

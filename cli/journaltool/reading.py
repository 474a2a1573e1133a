"""Reading a journal for show: behind damage too, and what there is to say of its end."""

from collections.abc import Callable, Container, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from journal import Reader, Summary
    from journal.block import Block
    from journal.errors import FormatError


def blocks(
    reader: "Reader",
    start: int,
    tags: Container[int] | None,
    lost: "Callable[[FormatError], object]",
) -> "Iterator[Block]":
    """Every block that can be read; ``lost`` is told why others cannot."""
    from journal.errors import DamagedJournal, FormatError

    while True:
        try:
            for block in reader.blocks(start, tags):
                start = block.seqs[-1] + 1
                yield block
            return
        except DamagedJournal as error:
            lost(error)
            if error.last_seq < start:
                return
            start = error.last_seq + 1
        except FormatError as error:
            lost(error)
            return


def torn(summary: "Summary") -> str:
    """One sentence about a torn tail; empty when there is none."""
    if not summary.torn_size:
        return ""
    return (
        f"the last {count(summary.torn_size, 'byte')}, at offset {summary.tail}, "
        "are of a block that a crash cut short"
    )


def count(number: int, what: str) -> str:
    """``3 events``, ``1 event``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"

"""Reading of damaged journals for display, and reports of damage and torn tails."""

from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from journaltool import exit_codes
from journaltool.output import terminal
from journaltool.output.phrases import format_count, format_location

if TYPE_CHECKING:
    from journal import Reader
    from journal.errors import FormatError
    from journal.format.block import Block
    from journal.log import Summary


def read_blocks(
    reader: "Reader",
    start: int,
    tags: Container[int] | None,
    lost: "Callable[[FormatError], object]",
) -> "Iterator[Block]":
    """Yield every readable block. Call ``lost`` with the error of each unreadable part."""
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


def report_errors(journal: Path, errors: "Sequence[FormatError]") -> None:
    """Print one sentence about the gravest error on stderr, if there is an error."""
    if not errors:
        return
    code = exit_codes.code_for_errors(errors)
    first = next((error for error in errors if exit_codes.code_for_error(error) is code), errors[0])
    more = f", and {format_count(len(errors) - 1, 'error')} more" if errors[1:] else ""
    terminal.print_status(f"error: {journal}: {first}{more}")


def describe_torn_tail(summary: "Summary", file: str) -> str:
    """Return a sentence about the torn tail in ``file``, or an empty string without one."""
    if not summary.torn_size:
        return ""
    return (
        f"the last {format_count(summary.torn_size, 'byte')}, "
        f"{format_location(summary.tail, file)}, are of a block that a crash cut short"
    )


def report_torn_tail(journal: Path, summary: "Summary") -> None:
    """Print one sentence about the torn tail of a journal on stderr, if it has one."""
    if note := describe_torn_tail(summary, last_segment_name(journal)):
        terminal.print_status(f"{journal}: {note}")


def last_segment_name(journal: Path) -> str:
    """Return the name of the last segment file of a directory. It is empty for a single file."""
    if not journal.is_dir():
        return ""
    from journal.log.segment_files import list_segments

    return max(list_segments(journal), default="")

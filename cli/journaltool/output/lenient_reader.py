"""Reading a journal for show: behind damage too, and what there is to say of its end."""

from collections.abc import Callable, Container, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from journaltool import exit_codes as exits
from journaltool.output import text as render

if TYPE_CHECKING:
    from journal import Reader, Summary
    from journal.errors import FormatError
    from journal.format.block import Block


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


def tell_errors(journal: Path, errors: "Sequence[FormatError]") -> None:
    """One sentence on stderr about the gravest of what was met, if anything was."""
    if not errors:
        return
    code = exits.of_errors(errors)
    first = next((error for error in errors if exits.of_error(error) is code), errors[0])
    more = f", and {count(len(errors) - 1, 'error')} more" if errors[1:] else ""
    render.say(f"error: {journal}: {first}{more}")


def torn(summary: "Summary", file: str) -> str:
    """One sentence about a torn tail, which ``file`` has; empty when there is none."""
    if not summary.torn_size:
        return ""
    return (
        f"the last {count(summary.torn_size, 'byte')}, {place(summary.tail, file)}, "
        "are of a block that a crash cut short"
    )


def last_file(journal: Path) -> str:
    """The name of the segment file that a directory ends with; empty where there is one file."""
    if not journal.is_dir():
        return ""
    from journal.log.segment_files import list_segments

    return max(list_segments(journal), default="")


def count(number: int, what: str) -> str:
    """``3 events``, ``1 event``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def events(first_seq: int, last_seq: int) -> str:
    """``events 3 to 5``, ``event 3``, ``no event``."""
    if last_seq < first_seq:
        return "no event"
    return f"event {first_seq}" if first_seq == last_seq else f"events {first_seq} to {last_seq}"


def place(offset: int, file: str) -> str:
    """``at offset 7``, and of which file where there are several."""
    return f"at offset {offset} of {file}" if file else f"at offset {offset}"


def moment(micros: int) -> str:
    """A time; a number where no calendar has it: a journal may come from anywhere."""
    try:
        return datetime.fromtimestamp(micros / 1e6, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{micros} µs"

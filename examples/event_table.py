"""Print the events of a journal as a table, by default of all kinds.

    python examples/event_table.py JOURNAL [KIND ...]

KIND is the name of a class of events, such as FileDescriptorWrite. Only the blocks that can contain
one of the kinds are read.
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import journal
from journal.events import BY_TAG

FIELDS_LENGTH_MAX = 60


def tags_of(kinds: list[str]) -> set[int]:
    """Return the tags of kinds of events. Without kinds, return all tags."""
    tags = {kind.__name__: tag for tag, kind in BY_TAG.items()}
    if unknown := [kind for kind in kinds if kind not in tags]:
        sys.exit(f"there is no kind of event {unknown[0]!r}")
    return {tags[kind] for kind in kinds} or set(BY_TAG)


def iterate_rows(path: Path, tags: set[int]) -> Iterator[tuple[int, str, str, str]]:
    """Yield sequence number, time, kind and fields of each event with one of the tags."""
    with journal.Reader(path) as reader:
        for frame in reader.frames(tags=tags):
            event = journal.decode(frame.tag, frame.payload)
            time = datetime.fromtimestamp(frame.time / 1e6, UTC)
            yield frame.seq, f"{time:%H:%M:%S.%f}", type(event).__name__, format_fields(event)


def format_fields(event: journal.Event) -> str:
    """Return the fields of an event, cut to a short line."""
    text = repr(event).partition("(")[2].removesuffix(")")
    return text if len(text) <= FIELDS_LENGTH_MAX else f"{text[:FIELDS_LENGTH_MAX]}..."


def main(path: Path, kinds: list[str]) -> None:
    """Print the table."""
    for seq, time, kind, fields in iterate_rows(path, tags_of(kinds)):
        print(f"{seq:>6}  {time}  {kind:<24} {fields}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

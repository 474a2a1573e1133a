"""Events as lines: to read, or one JSON object each."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from journal.block import Block
    from journal.errors import FormatError

Line = Callable[[int, int, int, bytes, int], str]
"""The line of an event: its number, time, tag, payload, and the offset of its block."""

_EVERYTHING = "all"


def cut(text: str) -> int | None:
    """How many bytes of a value are shown; None for all."""
    if text == _EVERYTHING:
        return None
    if not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(f"{text!r} is neither a number nor {_EVERYTHING}")
    return int(text)


def of_blocks(
    blocks: "Iterator[Block]", start: int, tags: frozenset[int] | None, line: Line
) -> Iterator[list[str]]:
    """The lines of a block at a time."""
    for block in blocks:
        offset = block.offset
        rows = zip(block.seqs, block.times, block.tags, block.payloads(), strict=True)
        skipped = max(0, start - block.first_seq) if isinstance(block.seqs, range) else 0
        yield [
            line(seq, time, tag, payload, offset)
            for seq, time, tag, payload in islice(rows, skipped, None)
            if (tags is None or tag in tags) and seq >= start
        ]


def to_read(first_time: int, shown: int | None, errors: "list[FormatError]") -> Line:
    """Lines for people, with times since the first; ``errors`` gets what was malformed."""
    from journal.errors import MalformedEvent
    from journaltool import fields

    plans = fields.lines_to_read(shown)
    of_bytes = fields.readable_bytes(shown)

    def line(seq: int, time: int, tag: int, payload: bytes, offset: int) -> str:
        plan = plans.get(tag)
        if plan is None:
            text = f"unknown({tag})  payload={of_bytes(payload)}"
        else:
            try:
                text = plan.text(payload, offset)
            except MalformedEvent as error:
                errors.append(error)
                text = f"malformed({tag})  payload={of_bytes(payload)}"
        return f"{seq:>10}  {(time - first_time) / 1e6:>+14.6f}s  {text}"

    return line


def of_json(errors: "list[FormatError]") -> Line:
    """Lines of JSON, with every value exact."""
    from journal.errors import MalformedEvent
    from journaltool import fields

    plans = fields.lines_of_json()
    of_bytes = fields.json_bytes

    def line(seq: int, time: int, tag: int, payload: bytes, offset: int) -> str:
        plan = plans.get(tag)
        if plan is None:
            text = f'"tag": {tag}, "kind": null, "payload": {of_bytes(payload)}'
        else:
            try:
                text = plan.text(payload, offset)
            except MalformedEvent as error:
                errors.append(error)
                text = f'"tag": {tag}, "kind": null, "payload": {of_bytes(payload)}'
        return f'{{"seq": {seq}, "time": {time}, {text}}}'

    return line

"""Journals of clock readings: each event carries its own sequence number."""

from __future__ import annotations

from pathlib import Path

import journal
from journal.events.inputs import ClockRead
from journal.format.block import BLOCK_HEADER_SIZE


def write_numbered(path: Path, count: int, **options: object) -> None:
    """Write a journal in blocks of ten, with the sequence number of each event in its fields."""
    with journal.Writer(path, **options) as writer:  # type: ignore[arg-type]
        for number in range(count):
            writer.append(ClockRead(clock=0, time=number))
            if number % 10 == 9:
                writer.flush()
            if number % 500 == 499:
                writer.sync()


def parse_numbers(output: bytes) -> list[int]:
    """Return the sequence numbers in the lines of inspect and tail. Each line has it twice."""
    found = []
    for line in output.decode().splitlines():
        seq, *_, time = line.split()
        assert time == f"time={seq}"
        found.append(int(seq))
    return found


def damage_block(path: Path, index: int, mask: int) -> journal.format.block.Block:
    """Change a byte of the body of the block with this index, and return the block."""
    with journal.Reader(path) as reader:
        block = list(reader.blocks())[index]
    data = bytearray(path.read_bytes())
    data[block.offset + BLOCK_HEADER_SIZE + 2] ^= mask
    path.write_bytes(data)
    return block

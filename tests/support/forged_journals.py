"""Forged journals: a test chooses each field, and the hashes are valid.

The module uses the constructs of `plain_reader` and no code of `journal`.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zstandard
from xxhash import xxh3_64_intdigest

from tests.support.plain_reader import (
    BLOCK,
    BLOCK_MAGIC,
    BLOCK_SIZE,
    SEGMENT,
    SEGMENT_MAGIC,
    SEGMENT_SIZE,
)

INDEX_MAGIC = b"\x89JNLIDX\n"
SALT = 0x5EED_0FA1_1DEA_D001
CREATED = 1_700_000_000_000_000
GIVEN_UP = 9
"""Tag of events that a crash destroyed before they were durable."""
INDEXED = ("first_seq", "time_first", "tag_bitmap")
Event = tuple[int, bytes]


def segment_header(salt: int = SALT, **fields: Any) -> bytes:
    """Return a segment header with a valid hash."""
    plain = {
        "magic": SEGMENT_MAGIC,
        "major": 1,
        "minor": 0,
        "header_size": SEGMENT_SIZE,
        "incompatible": 0,
        "compatible": 0,
        "salt": salt,
        "journal_id": b"forged in a test",
        "created": CREATED,
        "first_seq": 0,
        "previous_end": 0,
        "previous_hash": 0,
        "reserved": bytes(40),
        "hash": 0,
    }
    unhashed = bytes(SEGMENT.build(plain | fields))[:120]
    return unhashed + xxh3_64_intdigest(unhashed, salt).to_bytes(8, "little")


def hash_of(data: bytes) -> int:
    """Return the hash at the end of a header."""
    return int.from_bytes(data[-8:], "little")


def rehash(data: bytes, salt: int = SALT) -> bytes:
    """Return a block with recomputed hashes. Everything after the header is its body."""
    body = data[BLOCK_SIZE:]
    unhashed = data[:96] + xxh3_64_intdigest(body, salt).to_bytes(8, "little")
    return unhashed + xxh3_64_intdigest(unhashed, salt).to_bytes(8, "little") + body


def block(salt: int = SALT, body: bytes = b"", **fields: int) -> bytes:
    """Return a block with valid hashes."""
    plain: dict[str, Any] = dict.fromkeys((sub.name for sub in BLOCK.subcons), 0)
    plain["magic"] = BLOCK_MAGIC
    return rehash(bytes(BLOCK.build(plain | fields)) + body, salt)


def u32(values: Sequence[int]) -> bytes:
    """Return a column of 32-bit integers."""
    return struct.pack(f"<{len(values)}I", *values)


class Forge:
    """Builder of a journal of one segment.

    With ``even``, blocks omit the column of ends if all payloads have the same size.
    """

    def __init__(self, salt: int = SALT, **fields: Any) -> None:
        self.salt = salt
        self.even = False
        self.data = segment_header(salt, **fields)
        self.link = (SEGMENT_SIZE, hash_of(self.data))
        self.seq: int = fields.get("first_seq", 0)
        self.time = CREATED
        self.durable = 0
        self.blocks: list[tuple[int, int]] = []
        self.index: list[tuple[int, int, int, int]] = []
        self.events = 0

    def add(
        self,
        *events: Event,
        numbers: Sequence[int] | None = None,
        compress: bool = False,
        durable: bool = True,
        body: bytes | None = None,
        **fields: int,
    ) -> int:
        """Append a block that links to the previous block, and return its offset.

        ``numbers`` are explicit sequence numbers. ``fields`` and ``body`` replace valid values.
        """
        self.data += bytes(-len(self.data) % 8)
        offset = len(self.data)
        right, right_body = self._block(events, numbers, compress)
        made = block(self.salt, right_body if body is None else body, **(right | fields))
        if events:
            first_seq, time, bitmap = (right[name] for name in INDEXED)
            self.index.append((offset, first_seq, time, bitmap))
            self.events += len(events)
        self.data += made
        self.blocks.append((offset, len(self.data)))
        self.link = (len(self.data), hash_of(made[:BLOCK_SIZE]))
        self.seq = (numbers[-1] if numbers else self.seq + len(events) - 1) + 1
        if durable:
            self.durable = len(self.data)
        return offset

    def _block(
        self, events: Sequence[Event], numbers: Sequence[int] | None, compress: bool
    ) -> tuple[dict[str, int], bytes]:
        raw = b"".join(payload for _, payload in events)
        stored = zstandard.ZstdCompressor(level=1).compress(raw) if compress else raw
        ends = [sum(len(payload) for _, payload in events[: i + 1]) for i in range(len(events))]
        even = self.even and len({len(payload) for _, payload in events}) == 1
        columns = (b"" if even else u32(ends)) + bytes(tag for tag, _ in events)
        first, count = self.time + 1, len(events)
        self.time += 3 * count
        times = len(events) > 1
        if times:
            columns += u32([3 * i for i in range(count)])
        if numbers is not None:
            columns += u32([number - numbers[0] for number in numbers])
        columns += bytes(-(len(stored) + len(columns)) % 8)
        bitmap = 0
        for tag, _ in events:
            bitmap |= 1 << (tag & 63)
        fields = {
            "codec": int(compress),
            "flags": times + 2 * (numbers is not None) + 4 * even,
            "count": count,
            "payload_size": len(stored),
            "payload_raw_size": len(raw),
            "columns_size": len(columns),
            "first_seq": numbers[0] if numbers else self.seq,
            "tag_bitmap": bitmap,
            "time_first": first,
            "time_last": first + 3 * max(0, count - 1),
            "offset": len(self.data),
            "previous_end": self.link[0],
            "previous_hash": self.link[1],
            "durable_upto": self.durable,
        }
        return fields, stored + columns

    def mark(self) -> "Forge":
        """Append a marker block, as a writer does when it closes."""
        self.add()
        return self

    def seal(self, **lies: Any) -> "Forge":
        """Append a segment index, as a writer does when it rolls.

        ``lies`` replace valid values: ``magic``, ``rows``, ``events``, ``next_seq``,
        ``time_last``, ``columns`` (of offsets, numbers, times and bitmaps), ``at``, ``trailer``.
        """
        columns = lies.get("columns", tuple(zip(*self.index, strict=True)) or ((),) * 4)
        payload = struct.pack(
            "<8sQQQQ",
            lies.get("magic", INDEX_MAGIC),
            lies.get("rows", len(self.index)),
            lies.get("events", self.events),
            lies.get("next_seq", self.seq),
            lies.get("time_last", self.time),
        )
        payload += b"".join(struct.pack(f"<{len(column)}Q", *column) for column in columns)
        trailer = lies.get("trailer", INDEX_MAGIC)
        payload += struct.pack("<Q8s", lies.get("at", len(self.data)), trailer)
        size = len(payload)
        padding = -size % 8
        sizes = {"payload_size": size, "payload_raw_size": size, "columns_size": padding}
        fields: dict[str, Any] = sizes | {"body": payload + bytes(padding)}
        self.add(**fields)
        return self

    def next(self, salt: int, *, link: tuple[int, int] | None = None, **fields: Any) -> "Forge":
        """Return the builder of the segment that continues this one."""
        end, digest = link or self.link
        place = {"first_seq": self.seq, "previous_end": end, "previous_hash": digest}
        forge = Forge(salt, **(place | fields))
        forge.time = self.time
        return forge

    def write(self, path: Path) -> Path:
        """Write the journal to a file."""
        path.write_bytes(self.data)
        return path


def cut_short(forge: Forge, *events: Event, kept: int) -> None:
    """Append the first ``kept`` bytes of a block, as a crash leaves it. The next block follows."""
    link, seq, durable = forge.link, forge.seq, forge.durable
    start = forge.add(*events)
    forge.data = forge.data[: start + kept]
    forge.blocks.pop()
    forge.link, forge.seq, forge.durable = link, seq, durable


def shapes() -> dict[str, bytes]:
    """Return small journals of every shape of a file, by name."""
    return {
        "plain": _plain().data,
        "compressed": _compressed().data,
        "numbered": _numbered().data,
        "even": _even().data,
        "debris": _debris().data,
        "unsynced": _unsynced().data,
        "preallocated": _plain().data + bytes(200),
        "concatenated": _plain().data + _torn() + _numbered().data + bytes(40),
        "rebased": Forge(first_seq=1000).mark().data + _plain().data,
    }


def directories() -> dict[str, list[bytes]]:
    """Return small journals of several segment files, by name."""
    return {"rolled": _rolled(), "failed_over": _failed_over(), "joined": _joined()}


def lay(path: Path, files: Sequence[bytes]) -> Path:
    """Create a directory of segment files."""
    path.mkdir(exist_ok=True)
    for index, data in enumerate(files):
        (path / segment_name(index)).write_bytes(data)
    return path


def segment_name(index: int) -> str:
    """Return the name of a segment file."""
    return f"{index:010}.journal"


def rolled() -> list[Forge]:
    """Return three segments; two have an index."""
    first = Forge(SALT + 10)
    first.add((1, b"first"), (2, b"second"))
    first.add((70, b"third"))
    first.seal()
    second = first.next(SALT + 11)
    second.add((3, b"fourth"))
    second.add((3, b"fifth"), (4, b"sixth"))
    second.seal()
    third = second.next(SALT + 12)
    third.add((5, b"seventh"))
    return [first, second, third.mark()]


def _rolled() -> list[bytes]:
    return [forge.data for forge in rolled()]


def _failed_over() -> list[bytes]:
    """Return the segments of a failover: the second repeats the end of the first."""
    first = Forge(SALT + 13)
    first.add((1, b"first"))
    again = [(2, b"second"), (3, b"third")]
    second = first.next(SALT + 14)
    for event in again:
        first.add(event, durable=False)
        second.add(event, durable=False)
    second.add((4, b"fourth"))
    return [first.data[:-9] + bytes(50), second.mark().data]


def _joined() -> list[bytes]:
    """Return one file of two unrelated segments, as by cat; the first has a torn tail."""
    other = Forge(SALT + 15, journal_id=b"another journal!", first_seq=50)
    other.add((7, b"fiftieth"))
    return [_torn() + other.mark().data]


def _plain() -> Forge:
    """Return a closed journal of three synced blocks of two, one and three events."""
    forge = Forge()
    forge.add((1, b"first"), (2, b"second"))
    forge.add((70, b"third"))
    forge.add((134, b""), (1, b"fourth"), (254, b"last of them"))
    return forge.mark()


def _even() -> Forge:
    """Return blocks with payloads of one size, of size 0, and of several sizes."""
    forge = Forge(SALT + 9)
    forge.even = True
    forge.add((1, b"first"), (2, b"secon"), (1, b"third"))
    forge.add((3, b""), (4, b""), numbers=[5, 8])
    forge.add((5, b"even more " * 30), (5, b"even less " * 30), compress=True)
    forge.add((6, b"alone"))
    forge.add((7, b"not"), (8, b"even"))
    return forge.mark()


def _compressed() -> Forge:
    forge = Forge(SALT + 1)
    forge.add((1, b"compress me " * 40), (2, b"and me " * 30), compress=True)
    forge.add((3, b"raw"))
    forge.add((4, b"again and " * 60), compress=True)
    return forge.mark()


def _numbered() -> Forge:
    """Return a journal with gaps in its sequence numbers, in a block and between blocks."""
    forge = Forge(SALT + 2)
    forge.add((1, b"three"), (2, b"nine"), numbers=[3, 9])
    forge.add((3, b"ten"))
    forge.add((4, b"a thousand"), numbers=[1000])
    forge.add(numbers=[])
    return forge


def _debris() -> Forge:
    """Return a journal after crashes in a body, in a header, and after a whole block."""
    forge = Forge(SALT + 3)
    forge.add((1, b"first"))
    cut_short(forge, (GIVEN_UP, b"never was"), kept=BLOCK_SIZE + 3)
    cut_short(forge, (GIVEN_UP, b"nor was this"), kept=41)
    forge.add((2, b"second"))
    cut_short(forge, (GIVEN_UP, b"whole, and given up"), kept=BLOCK_SIZE + 32)
    forge.add()
    forge.add((3, b"third"), (3, b"fourth"))
    return forge.mark()


def _unsynced() -> Forge:
    """Return a journal whose blocks record no sync."""
    forge = Forge(SALT + 4)
    for number in range(4):
        forge.add((1 + number, b"number %d" % number), durable=False)
    return forge


def _torn() -> bytes:
    forge = _plain()
    return forge.data[: forge.blocks[1][1] - 5]

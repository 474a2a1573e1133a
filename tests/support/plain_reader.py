"""Plain reader of the format, which follows `spec/format.md`: the oracle of the readers.

It interprets constructs, holds whole files in memory, hashes every body, and uses no code of
`journal`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import construct as cs
import zstandard
from xxhash import xxh3_64_intdigest

SEGMENT_MAGIC = b"\x89JNLSEG\n"
BLOCK_MAGIC = b"\x89JNLBLK\n"
SEGMENT_SIZE, BLOCK_SIZE, SECTOR_SIZE = 128, 112, 512
SEARCHED_SIZE, TORN_SIZE = 1 << 18, 1 << 12
"""Largest bodies that are searched for a flipped bit: in any block, and with unwritten sectors."""

SEGMENT = cs.Struct(
    "magic" / cs.Const(SEGMENT_MAGIC),
    "major" / cs.Int16ul,
    "minor" / cs.Int16ul,
    "header_size" / cs.Int32ul,
    "incompatible" / cs.Int32ul,
    "compatible" / cs.Int32ul,
    "salt" / cs.Int64ul,
    "journal_id" / cs.Bytes(16),
    "created" / cs.Int64ul,
    "first_seq" / cs.Int64ul,
    "previous_end" / cs.Int64ul,
    "previous_hash" / cs.Int64ul,
    "reserved" / cs.Bytes(40),
    "hash" / cs.Int64ul,
)
BLOCK = cs.Struct(
    "magic" / cs.Const(BLOCK_MAGIC),
    "codec" / cs.Int8ul,
    "flags" / cs.Int8ul,
    "reserved" / cs.Int16ul,
    "count" / cs.Int32ul,
    "payload_size" / cs.Int32ul,
    "payload_raw_size" / cs.Int32ul,
    "columns_size" / cs.Int32ul,
    "mask" / cs.Int32ul,
    "first_seq" / cs.Int64ul,
    "tag_bitmap" / cs.Int64ul,
    "time_first" / cs.Int64ul,
    "time_last" / cs.Int64ul,
    "offset" / cs.Int64ul,
    "previous_end" / cs.Int64ul,
    "previous_hash" / cs.Int64ul,
    "durable_upto" / cs.Int64ul,
    "body_hash" / cs.Int64ul,
    "hash" / cs.Int64ul,
)
COLUMNS = cs.Struct(
    "ends" / cs.If(lambda this: not this._.flags & 4, cs.Array(cs.this._.count, cs.Int32ul)),
    "tags" / cs.Array(cs.this._.count, cs.Int8ul),
    "times" / cs.If(cs.this._.flags & 1, cs.Array(cs.this._.count, cs.Int32ul)),
    "numbers" / cs.If(cs.this._.flags & 2, cs.Array(cs.this._.count, cs.Int32ul)),
)
assert SEGMENT.sizeof() == SEGMENT_SIZE
assert BLOCK.sizeof() == BLOCK_SIZE

Link = tuple[int, int]


class Row(NamedTuple):
    """One event, with the fields of a frame."""

    seq: int
    tag: int
    payload: bytes
    time: int
    offset: int


class Taken(NamedTuple):
    """Valid block: index of its file, start and end offset, and events."""

    file: int
    start: int
    end: int
    rows: list[Row]


class Piece(NamedTuple):
    """Bytes of a file that are skipped as debris."""

    file: int
    offset: int
    size: int


class Lost(NamedTuple):
    """Damage: its place and the lost sequence numbers; ``open_ended`` if these are unknown."""

    file: int
    offset: int
    size: int
    first_seq: int
    last_seq: int
    acknowledged: bool
    open_ended: bool = False
    rotten: bool = False

    @property
    def costs(self) -> bool:
        """Return whether the damage may have cost events."""
        return self.open_ended or self.first_seq <= self.last_seq


class NotReadable(Exception):
    """A segment header is missing, or has an unknown version."""


class Lying(Exception):
    """A block with valid hashes has values that no writer writes."""


@dataclass
class Reading:
    """Content of a journal: blocks, debris, damage and torn writes."""

    blocks: list[Taken] = field(default_factory=list)
    debris: list[Piece] = field(default_factory=list)
    damage: list[Lost] = field(default_factory=list)
    torn: list[Piece] = field(default_factory=list)
    tail: int = 0
    torn_size: int = 0
    next_seq: int = 0

    @property
    def rows(self) -> list[Row]:
        """Return all events. Damage leaves gaps."""
        return [row for block in self.blocks for row in block.rows]

    def rows_before(self, lost: Lost | Piece) -> list[Row]:
        """Return the events before damage or a torn write."""
        place = (lost.file, lost.offset)
        return [row for block in self.blocks if block[:2] < place for row in block.rows]


def segment_header(data: bytes, at: int) -> cs.Container | None:
    """Return the valid segment header at ``at``, of any version, or None."""
    raw = data[at : at + SEGMENT_SIZE]
    if len(raw) < SEGMENT_SIZE or not raw.startswith(SEGMENT_MAGIC):
        return None
    header = SEGMENT.parse(raw)
    return header if xxh3_64_intdigest(raw[:120], header.salt) == header.hash else None


def flawed(header: cs.Container) -> bool:
    """Return whether a block header contradicts itself or breaks a limit."""
    each = 5 + 4 * (header.flags & 1) + 2 * (header.flags & 2) - (header.flags & 4)
    columns = header.count * each
    columns += -(BLOCK_SIZE + header.payload_size + columns) % 8
    return bool(
        header.codec > 1
        or header.flags > 7
        or (header.flags & 4 and header.payload_raw_size % max(header.count, 1))
        or header.reserved
        or header.count > 65_536
        or header.payload_raw_size > (1 << 24) + (1 << 16)
        or header.first_seq + header.count >= 1 << 63
        or header.columns_size != columns
        or header.payload_size > header.payload_raw_size
        or (header.codec == 0 and header.payload_size != header.payload_raw_size)
        or header.offset % 8
        or header.previous_end > header.offset
        or header.durable_upto > header.offset
        or header.time_first > header.time_last
        or header.time_last >= 1 << 63
        or header.time_last - header.time_first >= 1 << 32
    )


class Segment:
    """One segment of a file. It finds all headers first, then walks the blocks."""

    def __init__(self, data: bytes, file: int, start: int, following: bytes = b"") -> None:
        header = segment_header(data, start)
        if (
            header is None
            or (header.major, header.header_size, header.incompatible) != (1, 128, 0)
            or header.first_seq >= 1 << 63
        ):
            raise NotReadable(f"no segment header at {start}")
        self.data, self.file, self.start, self.head = data, file, start, header
        self.salt, self.limit = header.salt, len(data)
        self.link: Link = (SEGMENT_SIZE, header.hash)
        self.shift = self.seq = 0
        self.continued: Link | None = None
        self.continued_seq = 0
        self.into = Reading()
        self.claims: dict[Link, int] = {}
        self.numbers: list[tuple[int, int]] = []
        self.durable = 0
        self.stop = _find_stop(header, following)
        self._survey()

    def continues(self, other: "Segment") -> bool:
        same: bool = self.head.journal_id == other.head.journal_id
        return same and self.head.previous_hash != 0

    def header(self, at: int) -> cs.Container | None:
        """Return the block header at offset ``at`` of the file, valid or flawed, or None."""
        raw = self.data[at : at + BLOCK_SIZE]
        if len(raw) < BLOCK_SIZE or not raw.startswith(BLOCK_MAGIC):
            return None
        header = BLOCK.parse(raw)
        sound = xxh3_64_intdigest(raw[:104], self.salt) == header.hash
        return header if sound and header.offset == at - self.start else None

    def unflawed(self, at: int) -> cs.Container | None:
        header = self.header(at)
        return None if header is None or flawed(header) else header

    def end(self, header: cs.Container) -> int:
        size: int = BLOCK_SIZE + header.payload_size + header.columns_size
        return self.start + int(header.offset) + size

    def body_holds(self, header: cs.Container) -> bool:
        body = self.data[self.start + header.offset + BLOCK_SIZE : self.end(header)]
        whole = len(body) == header.payload_size + header.columns_size
        return whole and xxh3_64_intdigest(body, self.salt) == int(header.body_hash)

    def named_by(self, header: cs.Container | None, link: Link) -> bool:
        return header is not None and (header.previous_end, header.previous_hash) == link

    def _survey(self) -> None:
        at: int | None = self.start + SEGMENT_SIZE
        bounded = False
        if self.stop == self.link:
            return
        while at is not None:
            header = self.unflawed(at)
            if header is not None:
                self.durable = max(self.durable, header.durable_upto)
                self.numbers.append((at, header.first_seq))
                if header.previous_end != header.offset:
                    self.claims[header.previous_end, header.previous_hash] = at
                end = self.end(header)
                link = (end - self.start, header.hash)
                if link == self.stop:
                    return
                if self.named_by(self.header(end), link) or self.body_holds(header):
                    at = end
                    continue
                at += 1
            if not bounded:
                self.limit, bounded = next_segment(self.data, at), True
            at = next((p for p in self.magics(at) if self.unflawed(p) is not None), None)

    def magics(self, at: int) -> Iterator[int]:
        while (at := self.data.find(BLOCK_MAGIC, at, self.limit)) >= 0:
            yield at
            at += 1

    def walk(self, into: Reading) -> None:
        """Read all blocks of the segment."""
        self.into = into
        into.tail, into.torn_size = self.limit, 0
        at = self.start + SEGMENT_SIZE
        while self.link != self.continued:
            claimed = self.claims.get(self.link, 0)
            if claimed > at:
                into.debris.append(Piece(self.file, at, claimed - at))
                at = claimed
            header = self.header(at)
            if header is not None and self._believed(header):
                self._take(header, at)
                at = self.end(header)
                continue
            anchor = self._anchor(header, at)
            if anchor is not None and self.continued and anchor.offset >= self.continued[0]:
                anchor = None
            if not self.named_by(anchor, self.link) and (end := self._pass_rot(header, at)):
                at = end
                continue
            if anchor is None:
                self._end(header, at)
                return
            at = self._pass_over(at, anchor)
        into.tail = at
        if any(self.data[at : self.limit]):
            into.debris.append(Piece(self.file, at, self.limit - at))

    def _plausible(self, header: cs.Container) -> bool:
        """Return whether a block is valid, apart from its body and its successor."""
        return (
            not flawed(header)
            and self._linked(header)
            and header.first_seq + self.shift + header.count < 1 << 63
            and self.end(header) <= self.limit
            and not self._given_up(header)
        )

    def _numbered(self, header: cs.Container) -> bool:
        first = int(header.first_seq + self.shift)
        return first >= self.seq if header.flags & 2 else first == self.seq

    def _usurped(self, header: cs.Container) -> bool:
        """Return whether the header at the end of a block links to another block in its place."""
        end = self.end(header)
        after = self.header(end) if end < self.limit else None
        return (
            after is not None
            and after.previous_end == end - self.start
            and after.previous_hash != header.hash
        )

    def _given_up(self, header: cs.Container) -> bool:
        """Return whether a later block reuses a sequence number of this block or an earlier one."""
        at, behind = self.start + header.offset, header.first_seq + header.count
        return any(first < behind for place, first in self.numbers if place > at)

    def _believed(self, header: cs.Container) -> bool:
        return self._plausible(header) and not self._usurped(header) and self.body_holds(header)

    def _anchor(self, header: cs.Container | None, at: int) -> cs.Container | None:
        if header is not None and self._plausible(header):
            end = self.end(header)
            after = self.header(end) if end < self.limit else None
            named = self.named_by(after, (end - self.start, header.hash))
            if named or (self._usurped(header) and self.body_holds(header)):
                return after
        least = self.seq - self.shift
        if header is None or flawed(header) or self._linked(header):
            at += 1
        found = (self.unflawed(position) for position in self.magics(at))
        known = (h for h in found if h is not None and not self._given_up(h))
        return next((h for h in known if h.first_seq >= least), None)

    def _linked(self, header: cs.Container) -> bool:
        """Return whether a block links to the previous block and continues its numbers."""
        return self.named_by(header, self.link) and self._numbered(header)

    def _cut(self, header: cs.Container) -> bool:
        return (
            self._linked(header)
            and not self._given_up(header)
            and not flawed(header)
            and self.end(header) > self.limit
        )

    def _pass_over(self, at: int, anchor: cs.Container) -> int:
        end: int = self.start + anchor.offset
        if self.named_by(anchor, self.link) and end > at:
            self.into.debris.append(Piece(self.file, at, end - at))
            return end
        first, self.seq = self.seq, anchor.first_seq + self.shift
        acknowledged = self.durable > at - self.start or self.continued is not None
        self.into.damage.append(Lost(self.file, at, end - at, first, self.seq - 1, acknowledged))
        self.link = (anchor.previous_end, anchor.previous_hash)
        return end

    def _pass_rot(self, header: cs.Container | None, at: int) -> int:
        """Record the damage of a block that one flipped bit makes valid, and return its end.

        Returns 0 if the block at ``at`` is none.
        """
        if self.continued is not None or self.durable > at - self.start:
            return 0
        damaged, first = self.data, self.seq
        for bit in self._flipped_bits(header, at):
            self.data = with_flip(damaged, bit)
            mended = self.header(at)
            if mended is not None and self._believed(mended):
                into, self.into, before = self.into, Reading(), (self.seq, self.link)
                self._take(mended, at)
                self.into, self.data, end = into, damaged, self.end(mended)
                if self._written(at, end, bit // 8) and any(damaged[bit // 8 : end]):
                    size = end - at
                    lost = Lost(self.file, at, size, first, self.seq - 1, False, rotten=True)
                    self.into.damage.append(lost)
                    return end
                self.seq, self.link = before
        self.data = damaged
        return 0

    def _flipped_bits(self, header: cs.Container | None, at: int) -> Iterator[int]:
        """Yield the bits of the file whose flip makes the hash of the header or the body valid."""
        if header is None:
            raw = bytearray(self.data[at : at + BLOCK_SIZE])
            if len(raw) == BLOCK_SIZE:
                for bit in range(8 * BLOCK_SIZE):
                    raw[bit // 8] ^= 1 << bit % 8
                    if xxh3_64_intdigest(raw[:104], self.salt) == int.from_bytes(
                        raw[104:], "little"
                    ):
                        yield 8 * at + bit
                    raw[bit // 8] ^= 1 << bit % 8
            return
        start, end = at + BLOCK_SIZE, self.end(header)
        sectors = range(at - at % SECTOR_SIZE, end, SECTOR_SIZE)
        torn = not all(self._written(at, end, max(at, sector)) for sector in sectors)
        if not self._plausible(header) or end - start > (TORN_SIZE if torn else SEARCHED_SIZE):
            return
        body = bytearray(self.data[start:end])
        for bit in range(8 * len(body)):
            body[bit // 8] ^= 1 << bit % 8
            if xxh3_64_intdigest(body, self.salt) == int(header.body_hash):
                yield 8 * start + bit
            body[bit // 8] ^= 1 << bit % 8

    def _written(self, start: int, end: int, at: int) -> bool:
        """Return whether a byte other than zero is in the same sector of a block as ``at``."""
        sector = at - at % SECTOR_SIZE
        return any(self.data[max(start, sector) : min(end, sector + SECTOR_SIZE)])

    def _end(self, header: cs.Container | None, at: int) -> None:
        first, rest = self.seq, self.data[at : self.limit]
        if self.continued is not None:
            self.seq = max(self.seq, self.continued_seq)
            self.into.damage.append(Lost(self.file, at, len(rest), first, self.seq - 1, True))
            return
        begin = rest[:8]
        crash = header is None or self._plausible(header) or self._cut(header)
        if not any(rest):
            self.into.tail = at
        elif crash and BLOCK_MAGIC.startswith(begin.rstrip(b"\0")):
            self.into.tail, self.into.torn_size = at, len(rest)
            self.into.torn.append(Piece(self.file, at, len(rest)))
        else:
            self.into.damage.append(Lost(self.file, at, len(rest), first, first - 1, False, True))

    def _take(self, header: cs.Container, at: int) -> None:
        """Accept a block: take its events and its link."""
        end = self.end(header)
        body = self.data[at + BLOCK_SIZE : end]
        columns = COLUMNS.parse(body[header.payload_size :], count=header.count, flags=header.flags)
        stored = body[: header.payload_size]
        if header.mask:
            mask = header.mask.to_bytes(4, "little")
            stored = bytes(byte ^ mask[i % 4] for i, byte in enumerate(stored))
        if header.codec and zstandard.frame_content_size(stored) != header.payload_raw_size:
            raise Lying
        raw = zstandard.ZstdDecompressor().decompress(stored) if header.codec else stored
        if columns.ends is None:
            size = header.payload_raw_size // max(header.count, 1)
            columns.ends = [size * (i + 1) for i in range(header.count)]
        _check(header, columns, raw)
        first, rows = header.first_seq + self.shift, []
        starts = [0, *columns.ends]
        for i in range(header.count):
            self.seq = first + (columns.numbers[i] if columns.numbers else i)
            time = header.time_first + (columns.times[i] if columns.times else 0)
            payload = raw[starts[i] : columns.ends[i]]
            rows.append(Row(self.seq, columns.tags[i], payload, time, at))
        self.seq = self.seq + 1 if header.count else first
        self.into.blocks.append(Taken(self.file, at, end, rows))
        self.link = (end - self.start, header.hash)


def _check(header: cs.Container, columns: cs.Container, raw: bytes) -> None:
    """Compare a header with the columns of its block. Raises Lying if they differ."""
    ends, tags = list(columns.ends), list(columns.tags)
    times, numbers = list(columns.times or [0]), list(columns.numbers or [])
    bitmap = 0
    for tag in tags:
        bitmap |= 1 << (tag & 63)
    fits = (
        len(raw) == header.payload_raw_size == (ends[-1] if ends else len(raw))
        and ends == sorted(ends)
        and not {0, 255} & set(tags)
        and times == sorted(times)
        and (not tags or (times[0], header.time_first + times[-1]) == (0, header.time_last))
        and numbers == sorted(set(numbers))
        and numbers[:1] in ([], [0])
        and bitmap == header.tag_bitmap
    )
    if not fits:
        raise Lying


def with_flip(data: bytes, bit: int) -> bytes:
    """Return the bytes with one bit inverted."""
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def next_segment(data: bytes, at: int) -> int:
    """Return the offset of the next valid segment header, or the end of the file."""
    while (at := data.find(SEGMENT_MAGIC, at)) >= 0:
        if segment_header(data, at) is not None:
            return at
        at += 1
    return len(data)


def reading(*files: bytes) -> Reading:
    """Read a journal, given its file or its segment files in order.

    Raises NotReadable if no file has a valid segment header, or if the only file has an unknown
    version.
    """
    found = Reading()
    segments = [
        item
        for file, (data, following) in enumerate(zip(files, [*files[1:], b""], strict=True))
        for item in _segments(data, file, following)
    ]
    if not any(isinstance(item, Segment) for item in segments):
        raise NotReadable("no segment")
    if len(files) > 1:
        segments = list(_without_misplaced(segments, files))
    before: Segment | None = None
    for item, behind in zip(segments, [*segments[1:], None], strict=True):
        if isinstance(item, Lost):
            found.next_seq = _pass_over_head(found, item, before, behind, len(files) > 1)
            continue
        if before is None and not found.damage and len(files) > 1 and item.head.previous_hash:
            found.damage.append(Lost(item.file, 0, 0, 0, item.head.first_seq - 1, True))
        if item is segments[0]:
            item.seq = item.head.first_seq
        else:
            item.seq = found.next_seq
            own = before is not None and item.continues(before)
            item.shift = before.shift if own and before else item.seq - item.head.first_seq
        if isinstance(behind, Segment) and behind.continues(item):
            item.continued = (behind.head.previous_end, behind.head.previous_hash)
            item.continued_seq = behind.head.first_seq + item.shift
        item.walk(found)
        found.next_seq, before = item.seq, item
    return found


def _find_stop(header: cs.Container, following: bytes) -> Link | None:
    """Return the link of the block that the next file continues, if it belongs after a segment."""
    after = segment_header(following, 0)
    if (
        after is None
        or (after.major, after.header_size, after.incompatible) != (1, 128, 0)
        or after.first_seq >= 1 << 63
        or not after.previous_hash
        or after.journal_id != header.journal_id
        or after.hash == header.hash
        or after.first_seq < header.first_seq
    ):
        return None
    return after.previous_end, after.previous_hash


def _segments(data: bytes, file: int, following: bytes) -> Iterator[Segment | Lost]:
    position = 0
    while not position or position < len(data):
        try:
            segment = Segment(data, file, position, following)
        except NotReadable:
            limit = next_segment(data, position + 1)
            yield Lost(file, position, limit - position, 0, -1, False)
            position = max(limit, 1)
        else:
            yield segment
            position = segment.limit


def _without_misplaced(
    segments: list[Segment | Lost], files: tuple[bytes, ...]
) -> Iterator[Segment | Lost]:
    """Replace each file that does not belong after the files before it by one loss."""
    before: Segment | None = None
    misplaced = -1
    for item in segments:
        if item.file == misplaced:
            continue
        if isinstance(item, Segment):
            if item.file and not item.start and not _belongs(item, before):
                misplaced = item.file
                yield Lost(item.file, 0, len(files[item.file]), 0, -1, True, True)
                continue
            before = item
        yield item


def _belongs(segment: Segment, before: Segment | None) -> bool:
    head = segment.head
    return head.previous_hash != 0 and (
        before is None
        or (
            head.journal_id == before.head.journal_id
            and head.hash != before.head.hash
            and head.first_seq >= before.head.first_seq
        )
    )


def _pass_over_head(
    found: Reading,
    lost: Lost,
    before: Segment | None,
    behind: Segment | Lost | None,
    in_directory: bool,
) -> int:
    """Record the damage of a lost segment header. Return the next sequence number."""
    last = found.next_seq - 1
    known = isinstance(behind, Segment) and (
        behind.continues(before) if before else behind.head.previous_hash != 0
    )
    if isinstance(behind, Segment) and (before is None or known):
        last = max(last, behind.head.first_seq + (before.shift if before else 0) - 1)
    gone, start = last >= found.next_seq, lost.offset
    found.damage.append(
        lost._replace(
            first_seq=found.next_seq,
            last_seq=last,
            acknowledged=gone or lost.acknowledged or (not known and in_directory and not start),
            open_ended=not known or lost.open_ended,
        )
    )
    return last + 1

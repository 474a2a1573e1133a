"""Set of sequence numbers, stored as one bit each, for journals of any size."""

from collections.abc import Iterator

_CHUNK_BITS = 1 << 16
"""Sequence numbers in one chunk. An empty chunk is not stored."""
_BITS_OF_BYTE = [bytes(byte >> bit & 1 for bit in range(8)) for byte in range(256)]


class SeqBitset:
    """Set of sequence numbers. Sets with equal members are equal. No member is above ``last``."""

    __slots__ = ("_chunks", "count", "last")

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}
        self.count = 0
        self.last = -1

    def add(self, seq: int) -> None:
        """Add ``seq``."""
        key, at = divmod(seq, _CHUNK_BITS)
        chunk = self._chunks.get(key)
        if chunk is None:
            chunk = self._chunks[key] = bytearray(_CHUNK_BITS >> 3)
        bit = 1 << (at & 7)
        if not chunk[at >> 3] & bit:
            chunk[at >> 3] |= bit
            self.count += 1
            self.last = max(self.last, seq)

    def __contains__(self, seq: int) -> bool:
        chunk = self._chunks.get(seq >> 16)
        return chunk is not None and bool(chunk[(seq & 0xFFFF) >> 3] >> (seq & 7) & 1)

    def __iter__(self) -> Iterator[int]:
        """Yield all members in ascending order."""
        for key in sorted(self._chunks):
            flags = b"".join(map(_BITS_OF_BYTE.__getitem__, self._chunks[key]))
            at = flags.find(1)
            while at >= 0:
                yield key * _CHUNK_BITS + at
                at = flags.find(1, at + 1)

    def flags(self, first: int, count: int) -> bytes:
        """Return a byte for each number from ``first`` on: 1 for a member."""
        parts = []
        while count:
            key, at = divmod(first, _CHUNK_BITS)
            size = min(count, _CHUNK_BITS - at)
            chunk = self._chunks.get(key)
            if chunk is None:
                parts.append(bytes(size))
            else:
                start = at >> 3
                flags = b"".join(
                    map(_BITS_OF_BYTE.__getitem__, chunk[start : (at + size + 7) >> 3])
                )
                parts.append(flags[at & 7 : (at & 7) + size])
            first, count = first + size, count - size
        return b"".join(parts)

    def has_any(self, start: int, stop: int) -> bool:
        """Return whether a number from ``start`` to before ``stop`` is a member."""
        for key in range(start // _CHUNK_BITS, -(-stop // _CHUNK_BITS)):
            chunk = self._chunks.get(key)
            if chunk is not None:
                first, end = (
                    max(start - key * _CHUNK_BITS, 0),
                    min(stop - key * _CHUNK_BITS, _CHUNK_BITS),
                )
                inner = chunk[(first >> 3) + 1 : end >> 3]
                if inner.count(0) < len(inner) or 1 in self.flags(
                    key * _CHUNK_BITS + first, min(8, end - first)
                ):
                    return True
                if 1 in self.flags(key * _CHUNK_BITS + max(end - 8, first), min(8, end - first)):
                    return True
        return False

    def last_below(self, seq: int) -> int:
        """Return the largest member below ``seq``; -1 if there is none."""
        for key in sorted((key for key in self._chunks if key * _CHUNK_BITS < seq), reverse=True):
            size = min(seq - key * _CHUNK_BITS, _CHUNK_BITS)
            at = self.flags(key * _CHUNK_BITS, size).rfind(1)
            if at >= 0:
                return key * _CHUNK_BITS + at
        return -1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SeqBitset):
            return NotImplemented
        return self.count == other.count and self._chunks == other._chunks

    __hash__ = None  # type: ignore[assignment]


assert _CHUNK_BITS == 1 << 16, "see __contains__"

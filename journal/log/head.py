"""Head of a journal: a fingerprint of everything up to its end, to be kept in another place.

Whoever can write a journal can cut it at the end of a block, or put back an earlier whole state.
Only a head that was kept shows this.
"""

import hashlib
import os
import re
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple, Self

from journal._arguments import check_path, check_text, check_type
from journal.errors import OptionError, UnexpectedHead
from journal.format.segment_header import SEGMENT_HEADER_SIZE
from journal.log import scan
from journal.log.header_scan import Segment
from journal.log.scan_items import ScannedBlock
from journal.log.seal_keys import check_key
from journal.log.segment_files import SegmentFiles

if TYPE_CHECKING:
    from journal.format.seal_key import SealKey

_TEXT = re.compile(r"([0-9]{1,20})-([0-9a-f]{64})", re.ASCII)


class Head(NamedTuple):
    """A state of a journal: its next sequence number, and the SHA-256 of its stored bytes.

    Importable as ``journal.log.Head``. The bytes are those of the segment headers and blocks in
    order, without what crashes left. ``str`` gives the text that ``parse`` reads.
    """

    next_seq: int
    digest: bytes

    def __str__(self) -> str:
        return f"{self.next_seq}-{self.digest.hex()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the head for its text form. Raises OptionError for another text."""
        match = _TEXT.fullmatch(check_text("head", text))
        if match is None:
            raise OptionError(f"{text[:80]!r} is not a head; pass what journaltool head printed")
        return cls(int(match[1]), bytes.fromhex(match[2]))


EMPTY = Head(0, hashlib.sha256().digest())
"""Head of a journal without any segment."""


def read_head(path: str | os.PathLike[str], *, key: "SealKey | None" = None) -> Head:
    """Return the head of a journal as it is now. Raises a FormatError for any damage.

    A sealed journal has a head without its key, too. With the key, each block is authenticated.
    """
    heads = deque(iterate_heads(check_path("path", path), key), maxlen=1)
    return heads[0][0] if heads else EMPTY


def check_head(
    path: str | os.PathLike[str], expected: Head, *, key: "SealKey | None" = None
) -> Head:
    """Return the head of a journal that has, or had at an earlier time, the head ``expected``.

    Raises UnexpectedHead for any other journal: it was cut, set back or replaced. Raises a
    FormatError for any damage.
    """
    path = check_path("path", path)
    check_type("expected", expected, Head)
    found, head = False, None
    for head, _ in iterate_heads(path, key):
        found = found or head == expected
    if head is None or not found:
        raise UnexpectedHead(
            f"{os.fspath(path)} is not a continuation of the expected state, which has "
            f"{expected.next_seq} as the next event: it was cut, set back or replaced"
        )
    return head


def iterate_heads(
    path: str | os.PathLike[str], key: "SealKey | None"
) -> Iterator[tuple[Head, Segment | ScannedBlock]]:
    """Yield the head after each segment header and each block, and that segment or block.

    Raises a FormatError for damage.
    """
    state = hashlib.sha256()
    with closing(SegmentFiles(path, key=check_key(key))) as files:
        source = None
        for item in scan.scan_files(files.sources(files.names()), scan.select_all):
            if isinstance(item, scan.Damage):
                scan.raise_damage(item)
            if not isinstance(item, Segment | ScannedBlock):
                continue
            segment = item if isinstance(item, Segment) else item.segment
            if source is None or source.name != segment.name:
                source = files.open(segment.name)
            if source is None:
                raise UnexpectedHead(f"{segment.name} of {os.fspath(path)} was removed meanwhile")
            if isinstance(item, Segment):
                size, next_seq = SEGMENT_HEADER_SIZE, item.header.first_seq + item.shift
            else:
                size, next_seq = item.header.size, item.next_seq
            state.update(source[item.offset : item.offset + size])
            yield Head(next_seq, state.digest()), item

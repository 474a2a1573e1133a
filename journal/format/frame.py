"""A frame: one event undecoded, and the limits that every frame keeps."""

from typing import NamedTuple

PAYLOAD_SIZE_MAX = 1 << 24
"""Bytes in one event's payload."""

TAG_MIN = 1
TAG_MAX = 254
"""Tags 0 and 255 stay free: they are what zeroed and erased storage reads as."""

SEQ_MAX = (1 << 63) - 1


class Frame(NamedTuple):
    """One event undecoded: ``time`` in µs since the epoch, ``offset`` of its block in the file."""

    seq: int
    tag: int
    payload: bytes
    time: int
    offset: int

"""Frames, which are undecoded events, and the limits of a frame."""

from typing import NamedTuple

PAYLOAD_SIZE_MAX = 1 << 24
"""Maximum bytes in the payload of one event."""

TAG_MIN = 1
TAG_MAX = 254
"""Maximum tag. Tags 0 and 255 are unused, because zeroed and erased storage reads as them."""

APPLICATION_TAG_MIN = 224
"""Minimum tag of the events of applications, which go up to ``TAG_MAX``. The format gives them no
meaning, now and in later versions."""

SEQ_MAX = (1 << 63) - 1


class Frame(NamedTuple):
    """An undecoded event. ``time`` is in µs since the epoch, ``offset`` that of its block."""

    seq: int
    tag: int
    payload: bytes
    time: int
    offset: int
